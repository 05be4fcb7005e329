// Launcher (paper 4.3): takes submissions into staging, checks them and the evidence of decisions, and brings them back.
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import type { NamedArtifact, Version } from '../workflows/domain/model.ts';
import type { Digest, Location } from '../workflows/domain/names.ts';
import { locationOf, stagingFolder, storePath } from '../workflows/domain/names.ts';
import { failure, isFailure } from './failures.ts';
import { beating } from './heartbeat.ts';
import { mustHave, once } from './model-center.ts';
import {
  checkSubmission,
  type ModelCard,
  defaultModelLimits,
  inspectModel,
  ModelFormatError,
  parseGolden,
  parseModelJson,
} from './model-format.ts';
import type { ArtifactStore } from './ports.ts';
import type { Records } from './records.ts';

export type LauncherActivities = ReturnType<typeof createLauncherActivities>;

/** The files of a submission and how large each may be. */
const submissionFiles = {
  'model.onnx': defaultModelLimits.maxBytes,
  'model.json': 256 * 1024,
  'golden.json': 2 ** 20,
} as const;
const REPORT_LIMIT = 2 * 2 ** 20;
type Which = Pick<Version, 'project' | 'model' | 'submission'>;

export function createLauncherActivities({ records, areas }: { records: Records; areas: ArtifactStore }) {
  return {
    /**
     * Copies a submission from the author's private area to staging: from here on its bytes are fixed. Its reports travel with it.
     * @param input `made` are the outputs of the run that the version is said to come from: other bytes are refused.
     */
    async stageModel(
      input: Which & { author: string; directory: string; made: readonly NamedArtifact[] },
    ): Promise<{ files: readonly NamedArtifact[] }> {
      const { project, author, directory, made } = input;
      const mine = (path: string): Location => ({
        area: 'private',
        project,
        user: author,
        path: `${directory}/${path}`,
      });
      return beating(async (signal) => {
        const files: NamedArtifact[] = [];
        for (const [name, limit] of Object.entries(submissionFiles)) {
          const uri = areas.uri(storePath(mine(name)));
          const found = await areas.stat(uri);
          if (!found) throw failure('InvalidModel', `${name} is missing in ${directory} of ${author}'s private area`);
          if (found.bytes === 0) throw failure('InvalidModel', `${name} is empty`);
          if (found.bytes > limit)
            throw failure('InvalidModel', `${name} has ${found.bytes} bytes, at most ${limit} are taken`);
          const options = { ifExists: 'replace', limit, signal } as const;
          const file = await areas.write(staged(input, name), await areas.read(uri, { signal }), options);
          const output = made.find((one) => one.name === name);
          if (output && output.sha256 !== file.sha256)
            throw failure(
              'InvalidModel',
              `${name} in ${directory} is not what the run made (SHA-256 ${file.sha256}, not ${output.sha256}): submit a changed model from a directory of its own`,
            );
          files.push({ ...file, name });
        }
        const reports = await areas.list(storePath(mine('reports')), { limit: 20 });
        for (const report of reports.files.filter(({ bytes }) => bytes <= REPORT_LIMIT)) {
          const name = report.path.split('/').at(-1) ?? '';
          await areas.write(staged(input, `reports/private-${name}`), await areas.read(report.uri, { signal }), {
            ifExists: 'replace',
            signal,
          });
        }
        return { files };
      });
    },

    /** Undoes {@link stageModel}; the record of the passage stays. */
    async unstageModel(input: Which): Promise<void> {
      for (const name of Object.keys(submissionFiles)) await areas.remove(areas.uri(staged(input, name)));
      for (const { uri } of (await areas.list(staged(input, 'reports'), { limit: 100 })).files) await areas.remove(uri);
    },

    /** Is it a lawful model? Only then it gets its number. All problems are named at once. */
    async validateModel(
      input: Which & { type: string; files: readonly NamedArtifact[] },
    ): Promise<
      | { valid: { digest: Digest; files: readonly NamedArtifact[]; revises: number | null; version: number } }
      | { problems: readonly string[] }
    > {
      const { project, model, submission, type, files } = input;
      const checked = await beating((signal) => check(files, signal));
      if ('problems' in checked) return checked;
      const { card, digest } = checked;
      const problems: string[] = [];
      if (card.name !== model)
        problems.push(`model.json: name is "${card.name}", the submission is of model "${model}"`);
      if (card.type !== type) problems.push(`model.json: type is "${card.type}", the submission is of type "${type}"`);
      const revises = card.revises ?? null;
      if (revises !== null && !(await records.versionByNumber(project, model, revises)))
        problems.push(`model.json: revises version ${revises}, which ${model} does not have`);
      if (problems.length > 0) return { problems };
      try {
        await records.claimDigest(project, model, submission, digest);
      } catch (error) {
        if (isFailure(error, 'Conflict') && error instanceof Error) return { problems: [error.message] };
        throw error;
      }
      return { valid: { digest, files, revises, version: await records.versionNumber(project, model, submission) } };
    },

    /** Does the report exist, is it about these very bytes, and does it pass the project's thresholds? */
    async checkEvidence(
      input: Which & { digest: string; report: string; thresholds: Readonly<Record<string, number>> },
    ): Promise<void> {
      const { model, submission, digest, report } = input;
      const found = (await stagedReports(input)).find((row) => row.state === 'done' && row.report.sha256 === report);
      if (!found)
        throw failure(
          'EvidenceMissing',
          `no evaluation of ${model}/${submission} in staging has a report with digest ${report}: evaluate the version after its submission`,
        );
      if (found.digest !== digest)
        throw failure('EvidenceMissing', `report ${report} is about ${found.digest}, not about ${digest}`);
      const bytes = await beating(async (signal) => {
        const stored = await areas.digest(found.report.uri, signal);
        if (stored !== report)
          throw failure('DigestMismatch', `the stored report has digest ${stored} now, not ${report}: it was changed`);
        return collect(await areas.read(found.report.uri, { signal }), REPORT_LIMIT);
      });
      const { model: about, metrics } = evidenceSchema.parse(JSON.parse(bytes.toString('utf8')));
      if (about.sha256 !== digest)
        throw failure('EvidenceMissing', `report ${report} is about ${about.sha256}, not about ${digest}`);
      for (const [metric, minimum] of Object.entries(input.thresholds)) {
        const value = metrics[metric] ?? null;
        if (value === null || value < minimum)
          throw failure(
            'EvidenceMissing',
            `${metric} is ${value ?? 'not in the report'}, the project asks for at least ${minimum}`,
          );
      }
    },

    /** Brings a version's bytes, and the report the decision rests on, back to a scientist's private area (paper 3.2). */
    async returnToPrivate(input: Which & { to: string; report: string | null }): Promise<{ folder: string }> {
      const { project, model, submission, to, report } = input;
      const version = await mustHave(records.version(project, model, submission), `version ${model}/${submission}`);
      const members = await records.members(project);
      if (!members.some(({ user, roles }) => user === to && (roles.includes('scientist') || user === version.author)))
        throw failure('InvalidInput', `${to} is no scientist of project ${project}`);
      const folder = `returned/${model}/${submission}`;
      const theirs = (file: string) => storePath({ area: 'private', project, user: to, path: `${folder}/${file}` });
      const enclosed = (await stagedReports(input)).flatMap((row) =>
        report === null || row.report.sha256 === report
          ? [{ ...row.report, name: `reports/${row.evaluation}.json` }]
          : [],
      );
      await beating(async (signal) => {
        for (const { name, uri, sha256 } of [...version.files, ...enclosed])
          await areas.write(theirs(name), await areas.read(uri, { signal }), {
            expect: { sha256 },
            ifExists: 'replace',
            signal,
          });
        await areas.write(theirs('decisions.json'), once(Buffer.from(JSON.stringify(version.decisions, null, 1))), {
          ifExists: 'replace',
          signal,
        });
      });
      return { folder };
    },
  };

  /** Evaluations of a version with their reports, those alone that nobody could write but the platform: in its author's area they prove nothing. */
  async function stagedReports({ project, model, submission }: Which) {
    const { rows } = await records.evaluations({ project, model, submission, limit: 1000 });
    return rows.flatMap(({ report, ...row }) =>
      report && locationOf(areas.path(report.uri))?.area === 'staging' ? [{ ...row, report }] : [],
    );
  }

  /** Reads the staged files, not the author's: what is checked is what was staged. */
  async function check(
    files: readonly NamedArtifact[],
    signal: AbortSignal,
  ): Promise<{ problems: readonly string[] } | { card: ModelCard; digest: Digest }> {
    const file = (name: string): NamedArtifact => {
      const found = files.find((one) => one.name === name);
      if (!found) throw failure('Corrupt', `${name} was not staged`);
      return found;
    };
    const folder = await mkdtemp(join(tmpdir(), 'ocdl-check-'));
    try {
      const model = file('model.onnx');
      const path = join(folder, 'model.onnx');
      await save(await areas.read(model.uri, { signal }), path);
      const text = async (name: 'model.json' | 'golden.json'): Promise<string> =>
        (await collect(await areas.read(file(name).uri, { signal }), submissionFiles[name])).toString('utf8');
      const problems: string[] = [];
      const card = await part('model.json', async () => parseModelJson(await text('model.json')), problems);
      const golden = await part('golden.json', async () => parseGolden(await text('golden.json')), problems);
      const inspection = await part('model.onnx', () => inspectModel(path), problems);
      if (!card || !golden || !inspection) return { problems };
      const unfit = checkSubmission({ card, golden, inspection });
      return unfit.length > 0 ? { problems: unfit } : { card, digest: model.sha256 };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

const evidenceSchema = z.object({
  model: z.object({ sha256: z.string() }),
  metrics: z.record(z.string(), z.number().nullable()),
});

const staged = ({ project, model, submission }: Which, file: string) =>
  storePath({ area: 'staging', project, path: `${stagingFolder(model, submission)}/${file}` });

/** One file of a submission; what is wrong with it is added to `problems`, under its name. */
async function part<T>(name: string, read: () => Promise<T>, problems: string[]): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof ModelFormatError)) throw error;
    problems.push(...error.problems.map((problem) => `${name}: ${problem}`));
    return undefined;
  }
}

async function save(source: AsyncIterable<Uint8Array>, path: string): Promise<void> {
  await pipeline(source, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
}

async function collect(source: AsyncIterable<Uint8Array>, limit: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    if ((bytes += chunk.length) > limit) throw failure('InvalidModel', `more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
