// Launcher (paper 4.3): copies submissions to staging, checks them and the evidence for decisions, and returns them.
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { digestMismatch } from '../workflows/domain/digest-mismatch.ts';
import type { NamedArtifact } from '../workflows/domain/model.ts';
import type { Digest, Location } from '../workflows/domain/names.ts';
import { locationOf, stagingFolder, subjectOf } from '../workflows/domain/names.ts';
import type { LifecycleInput } from '../workflows/messages.ts';
import { failure } from './failures.ts';
import { beating, currentWorkflow, ofWorkflow } from './heartbeat.ts';
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
import { storePath } from './place.ts';
import type { ArtifactStore } from './ports.ts';
import type { Records, VersionKey } from './records.ts';
import { runFolder } from './rover/recorded-jobs.ts';
import type { Signer } from './signing.ts';

export type LauncherActivities = ReturnType<typeof createLauncherActivities>;

/** The files of a submission and their maximum sizes in bytes. */
const submissionFiles = {
  'model.onnx': defaultModelLimits.maxBytes,
  'model.json': 256 * 1024,
  'golden.json': 2 ** 20,
} as const;
const REPORT_LIMIT = 2 * 2 ** 20;
export function createLauncherActivities(deps: {
  records: Records;
  areas: ArtifactStore;
  signer: Pick<Signer, 'seal'>;
}) {
  const { records, areas, signer } = deps;
  return {
    /** Copies a submission and its reports from the author's private area to staging. From here on its bytes are fixed. */
    async stageModel(): Promise<{ files: readonly NamedArtifact[] }> {
      const input = key();
      const { project } = input;
      const known = await records.staged(input);
      // Judged files stay: the author may have changed theirs meanwhile.
      if (known?.isJudged) return { files: known.files };
      const { author, directory, made } = await whatToStage(input);
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
            throw failure('InvalidModel', `${name} has ${found.bytes} bytes, but at most ${limit} are allowed`);
          const options = { ifExists: 'replace', limit, signal } as const;
          const file = await areas.write(staged(input, name), await areas.read(uri, { signal }), options);
          const output = made.find((one) => one.name === name);
          if (output && output.sha256 !== file.sha256)
            throw failure(
              'InvalidModel',
              `${digestMismatch(`${name} in ${directory}`, file.sha256, output.sha256)} (the output of the run): submit a changed model from another directory`,
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
        await records.recordStaged(input, files);
        return { files };
      });
    },

    /** Undoes {@link stageModel}; the recorded decisions and transitions stay. */
    async unstageModel(): Promise<void> {
      const input = key();
      const { state } = (await records.versionStanding(input)).version;
      if (state !== 'invalid' && state !== 'withdrawn')
        throw failure('NotAuthorized', `${subjectOf(input)} is ${state}: its files stay in staging`);
      for (const name of Object.keys(submissionFiles)) await areas.remove(areas.uri(staged(input, name)));
      for (const { uri } of (await areas.list(staged(input, 'reports'), { limit: 100 })).files) await areas.remove(uri);
    },

    /** Validates the model and records all problems together. The version's next state follows from the record. */
    async validateModel(): Promise<void> {
      const input = key();
      const { files } = await mustHave(records.staged(input), `staged files of ${subjectOf(input)}`);
      await records.recordValidation(input, await validate(input, files));
    },

    /**
     * Returns a version's bytes to a scientist's private area (paper 3.2), with the decision that returns them, its
     * reports, and the gate results of failed deliveries.
     */
    async returnToPrivate({ commandId }: { commandId: string }): Promise<{ folder: string }> {
      const input = key();
      const { project, model, submission } = input;
      const id = currentWorkflow();
      const decision = await records.decision(id, commandId ?? '');
      const to = decision?.detail.to;
      if (decision?.status !== 'pending' || to === undefined)
        throw failure('NotAuthorized', `no decision returns the files of ${subjectOf(input)}`);
      const { version } = await records.versionStanding(input);
      const members = await records.members(project);
      const isReceiver = members.some(
        ({ user, roles, disabled }) =>
          user === to && !disabled && (roles.includes('scientist') || user === version.author),
      );
      if (!isReceiver) throw failure('InvalidInput', `${to} is not a scientist of project ${project}`);
      const folder = `returned/${model}/${submission}`;
      const theirs = (file: string) => storePath({ area: 'private', project, user: to, path: `${folder}/${file}` });
      const { report } = decision.command.body;
      const enclosed = (await stagedReports(input)).flatMap((row) =>
        report === null || row.report.sha256 === report
          ? [{ ...row.report, name: `reports/${row.evaluation}.json` }]
          : [],
      );
      const { body } = decision.command;
      const { name, actor, args } = body;
      const note = { name, actor, reason: args.reason ?? '', to, report, at: decision.at, command: decision.command };
      const written: Record<string, unknown> = {
        'decision.json': signer.seal(note),
        'decisions.json': version.decisions,
        ...(await failedDeliveries(input)),
      };
      await beating(async (signal) => {
        const options = { ifExists: 'replace', signal } as const;
        for (const { name: file, uri, sha256 } of [...version.files, ...enclosed])
          await areas.write(theirs(file), await areas.read(uri, { signal }), { expect: { sha256 }, ...options });
        for (const [file, content] of Object.entries(written))
          await areas.write(theirs(file), once(Buffer.from(JSON.stringify(content, null, 1))), options);
        await records.noteReturned(id, commandId, folder);
      });
      return { folder };
    },
  };

  function key(): VersionKey {
    return ofWorkflow('modelLifecycle', 'project', 'model', 'submission');
  }

  /** Author, directory and, for a run, its outputs, from the recorded start of the lifecycle. */
  async function whatToStage(input: VersionKey) {
    const start = await mustHave(records.start(currentWorkflow()), `start of ${subjectOf(input)}`);
    const { beginning, author } = start.input as Pick<LifecycleInput, 'beginning' | 'author'>;
    const { version, attempt } = await records.versionStanding(input);
    if (version.state !== 'validating')
      throw failure('NotAuthorized', `${subjectOf(input)} is ${version.state}: its files are fixed`);
    return {
      author,
      directory: 'directory' in beginning ? beginning.directory : runFolder(input.submission, attempt),
      // For a run, only the bytes that it produced are accepted.
      made: version.run?.outputs ?? [],
    };
  }

  async function validate(
    input: VersionKey,
    files: readonly NamedArtifact[],
  ): Promise<{ problems: readonly string[] } | { digest: Digest; revises: number | null }> {
    const { project, model } = input;
    const checked = await beating((signal) => check(files, signal));
    if ('problems' in checked) return checked;
    const { card, digest } = checked;
    const { type } = (await records.versionStanding(input)).version;
    const problems: string[] = [];
    if (card.name !== model) problems.push(`model.json: name is "${card.name}", the submission is of model "${model}"`);
    if (card.type !== type) problems.push(`model.json: type is "${card.type}", the submission is of type "${type}"`);
    const revises = card.revises ?? null;
    if (revises !== null && !(await records.versionByNumber(project, model, revises)))
      problems.push(`model.json: revises version ${revises}, which ${model} does not have`);
    return problems.length > 0 ? { problems } : { digest, revises };
  }

  /** Gate results of the version's failed deliveries, as files to enclose. */
  async function failedDeliveries({ project, model, submission }: VersionKey): Promise<Record<string, unknown>> {
    const files: Record<string, unknown> = {};
    for (const { release } of await records.releasesOf(project, model, submission))
      for (const row of (await records.deliveries({ release, limit: 100 })).rows)
        if (row.state === 'failed') files[`deliveries/${row.application}-${release}.json`] = row;
    return files;
  }

  /** Evaluations of a version whose reports only the platform could write. Reports in the author's area prove nothing. */
  async function stagedReports({ project, model, submission }: VersionKey) {
    const { rows } = await records.evaluations({ project, model, submission, limit: 1000 });
    return rows.flatMap(({ report, ...row }) =>
      report && locationOf(areas.path(report.uri))?.area === 'staging' ? [{ ...row, report }] : [],
    );
  }

  /** Reads the staged files, not the author's copy, so that the check covers what was staged. */
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

const staged = ({ project, model, submission }: VersionKey, file: string) =>
  storePath({ area: 'staging', project, path: `${stagingFolder(model, submission)}/${file}` });

/** Reads one file of a submission; adds its problems to `problems`, prefixed with its name. */
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
