// Plain activities of versions: training, staging, decisions, releases and evaluations.
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { once } from '../../../activities/model-center.ts';
import { checkSubmission, inspectModel, parseGolden, parseModelJson } from '../../../activities/model-format.ts';
import type { ArtifactStore } from '../../../activities/ports.ts';
import { releaseEventType } from '../../../activities/release.ts';
import type {
  Decision,
  Evaluation,
  NamedArtifact,
  Release,
  RunRecord,
  Version,
} from '../../../workflows/domain/model.ts';
import type { Digest, StorePath } from '../../../workflows/domain/names.ts';
import { releasePath, storePath, subjectOf } from '../../../workflows/domain/names.ts';
import type { PlainDeps, PlainGround } from './plain-ground.ts';
import { mustHave, now, staged, workflow } from './plain-ground.ts';
import { audit, evaluationRow, insert, releaseColumns, set, versionRows } from './plain-rows.ts';

const SUBMISSION = ['model.onnx', 'model.json', 'golden.json'] as const;

/** Those of trainings, lifecycles, releases and evaluations. */
export function createPlainVersions({ pool, systems }: PlainDeps, ground: PlainGround) {
  const { areas, releases, code, bus } = systems;
  const { write, beside, runJob, artifactAt, decisionRows } = ground;

  return {
    /** A transition of a version, and the decision it follows from. */
    async recordVersion({ version, decision }: { version: Version; decision?: Decision }): Promise<Version> {
      await write(...versionRows(version, decision), ...(decision ? decisionRows(decision, version, 'complete') : []));
      return version;
    },

    async fileVersion({ version }: { version: Version }): Promise<void> {
      await beside(version, String(version.revision).padStart(6, '0'), version);
    },

    async provisionRun({ version }: { version: Version }): Promise<{ code: NamedArtifact; startedAt: string }> {
      await code.read('p/code', 'main', 'requirements.lock');
      await code.read('p/code', 'main', 'train.py');
      const tree = await areas.write(inRun(version, 'code.tar'), await code.archive('p/code', 'main'));
      return { code: { ...tree, name: 'code.tar' }, startedAt: now() };
    },

    async runTraining({ version, code: tree }: { version: Version; code: NamedArtifact }): Promise<void> {
      const outputs = [...SUBMISSION, 'metrics.json'].map((name) => ({ name, path: inRun(version, name) }));
      await runJob(`plain-run-${version.submission}`, [tree], outputs);
    },

    async collectRun(given: { version: Version; code: NamedArtifact; startedAt: string }): Promise<RunRecord> {
      const { version, startedAt } = given;
      const { project, model, submission } = version;
      const metrics = JSON.parse((await bytesOf(areas, inRun(version, 'metrics.json'))).toString()) as {
        oob_f1: number;
      };
      const outputs: NamedArtifact[] = [];
      for (const name of [...SUBMISSION, 'metrics.json']) outputs.push(await artifactAt(inRun(version, name), name));
      const log = await areas.write(inRun(version, 'log.txt'), once(Buffer.from('worked\n')));
      const run: RunRecord = {
        ...{
          attempt: 1,
          spec: emptySpec,
          inputs: [given.code],
          environment: 'e'.repeat(64) as Digest,
          outputs,
          metrics,
        },
        ...{ log: { ...log, name: 'log.txt' }, startedAt, endedAt: now() },
      };
      await write(insert('authoritative.runs', { project, model, submission, attempt: 1, row: JSON.stringify(run) }));
      return run;
    },

    async stageModel({ version }: { version: Version }): Promise<readonly NamedArtifact[]> {
      const files: NamedArtifact[] = [];
      for (const name of SUBMISSION) {
        const from = areas.uri(inRun(version, name));
        if (!(await areas.stat(from))) throw new Error(`${name} is missing`);
        files.push({ ...(await areas.write(staged(version, name), await areas.read(from))), name });
      }
      return files;
    },

    async validateModel({ files }: { files: readonly NamedArtifact[] }): Promise<Digest> {
      const folder = await mkdtemp(join(tmpdir(), 'ocdl-plain-'));
      try {
        const file = (name: string): NamedArtifact => mustHave(files.find((one) => one.name === name));
        const text = async (name: string) => (await bytesOf(areas, areas.path(file(name).uri))).toString();
        const path = join(folder, 'model.onnx');
        await pipeline(await areas.read(file('model.onnx').uri), createWriteStream(path));
        const card = parseModelJson(await text('model.json'));
        const golden = parseGolden(await text('golden.json'));
        const problems = checkSubmission({ card, golden, inspection: await inspectModel(path) });
        if (problems.length > 0) throw new Error(problems.join('; '));
        return file('model.onnx').sha256;
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },

    /** The decision to release, which is pending, and the release's row. */
    async allotRelease({ version, decision }: { version: Version; decision: Decision }): Promise<Release> {
      const { rows } = await pool.query<{ next: number }>(
        'select coalesce(max(sequence), 0)::int + 1 as next from authoritative.releases where type = $1',
        [version.type],
      );
      const release = releaseOf(version, decision, rows[0]?.next ?? 1);
      await write(
        ...decisionRows(decision, version, 'pending'),
        insert('authoritative.releases', releaseColumns(release, decision.commandId)),
      );
      return release;
    },

    async completeRelease({ version, decision }: { version: Version; decision: Decision }): Promise<Version> {
      const key = { workflow_id: workflow(), command_id: decision.commandId };
      await write(set('authoritative.decisions', { status: 'complete' }, key), ...versionRows(version, decision));
      return version;
    },

    async publishRelease({ release, files }: { release: Release; files: readonly NamedArtifact[] }): Promise<void> {
      for (const file of release.files) {
        const from = mustHave(files.find(({ name }) => name === file.name));
        const expect = { sha256: file.sha256, bytes: file.bytes };
        await releases.write(releases.path(file.uri), await areas.read(from.uri), { expect });
      }
    },

    async announceRelease({ release }: { release: Release }): Promise<void> {
      await bus.publish(release.type, release.model, {
        ...{ specversion: '1.0', id: release.release, source: `/projects/${release.project}`, type: releaseEventType },
        ...{ time: release.releasedAt, datacontenttype: 'application/json', data: release },
      });
    },

    async recordAnnounced({ release }: { release: Release }): Promise<void> {
      await write(set('authoritative.releases', { announced: true }, { release: release.release }));
    },

    async runEvaluation({ evaluation, version, rows }: Evaluating): Promise<void> {
      const path = reportOf(version, evaluation);
      const model = version.files.filter(({ name }) => name !== 'golden.json');
      await runJob(`plain-${evaluation.evaluation}`, [...model, rows], [{ name: 'report.json', path }]);
    },

    async prepareEvaluation({ version }: Evaluating): Promise<{ digest: Digest }> {
      return { digest: mustHave(version.files.find(({ name }) => name === 'model.onnx')).sha256 };
    },

    async collectReport({ evaluation, version, digest }: Evaluating & { digest: Digest }): Promise<Evaluation> {
      const path = reportOf(version, evaluation);
      const found = JSON.parse((await bytesOf(areas, path)).toString()) as Pick<Evaluation, 'passed' | 'metrics'>;
      const report = await artifactAt(path, 'report.json');
      const row: Evaluation = { ...evaluation, ...found, digest, report, state: 'done', updatedAt: now() };
      const { project, model, submission, dataset, actor, metrics } = row;
      await write(
        insert('authoritative.evidence', {
          ...{ project, evaluation: row.evaluation, model, submission, digest, report: report.sha256, dataset, actor },
          ...{ as_manager: true, begun_at: evaluation.updatedAt, metrics: JSON.stringify(metrics) },
        }),
        evaluationRow(row, version.author),
        audit(`${workflow()}/ended`, 'evaluation.done', { project, subject: subjectOf(version) }),
      );
      return row;
    },
  };

  function releaseOf(version: Version, decision: Decision, sequence: number): Release {
    const { project, model, submission, type, digest, files } = version;
    return {
      ...{ release: `${type}-${sequence}`, type, sequence, project, model, submission, version: version.version ?? 1 },
      digest: mustHave(digest),
      files: files.map((file) => ({ ...file, uri: releases.uri(releasePath(type, file.sha256, file.name)) })),
      ...{ report: decision.report, approvedBy: ['mia'], releasedBy: decision.actor, state: 'allotted' },
      releasedAt: decision.at,
    };
  }
}

interface Evaluating {
  readonly evaluation: Evaluation;
  readonly version: Version;
  readonly rows: NamedArtifact;
}

const emptySpec: RunRecord['spec'] = {
  ...{ code: { repository: 'p/code', commit: 'c' }, entrypoint: 'train.py', lock: 'requirements.lock', data: [] },
  ...{ parameters: {}, seed: 1, compute: 'cpu', deadlineSeconds: 60 },
};

const inRun = ({ project, author, submission }: Version, file: string) =>
  storePath({ area: 'private', project, user: author, path: `runs/${submission}-1/${file}` });
const reportOf = (version: Version, { evaluation }: Evaluation) => staged(version, `reports/${evaluation}.json`);

async function bytesOf(store: ArtifactStore, path: StorePath): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of await store.read(store.uri(path))) chunks.push(chunk);
  return Buffer.concat(chunks);
}
