// One resource of every kind, so that every route has a subject: a version by sam, an application of dev's …
import type { SignedCommand } from '../../workflows/domain/command.ts';
import type { Digest, StorePath } from '../../workflows/domain/names.ts';
import type { Evaluation, NamedArtifact, Version } from '../../workflows/domain/model.ts';
import { workflowId } from '../../workflows/messages.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import { issueToken } from '../../api/tokens.ts';
import { newToken } from '../../activities/tokens.ts';
import type { World } from './world.ts';
import { PROJECT, TYPE, sha256 } from './world.ts';

export const MODEL_BYTES = Buffer.from('model bytes of rf-1');
export const REPORT = Buffer.from(JSON.stringify({ average_precision: 0.9 }));
export const DIGEST = sha256(MODEL_BYTES) as Digest;

/** Tokens that are no person's. */
export interface Machines {
  readonly scanner: string;
  readonly probe: string;
  readonly jobOne: string;
  readonly jobTwo: string;
}

/** Creates one resource of each kind, and returns the tokens of two applications and two jobs. */
export async function populatePassage(world: World): Promise<Machines> {
  const { records } = world.deps;
  const audit = (key: string) => auditEntry({ key, project: PROJECT, kind: 'test', actor: 'test', subject: 'test' });
  const put = async (store: 'areas' | 'releases', path: string, bytes: Buffer): Promise<NamedArtifact> => {
    const stored = await world.deps[store].write(path as StorePath, once(bytes));
    return { name: path.slice(path.lastIndexOf('/') + 1), ...stored };
  };
  const model = await put('areas', `staging/${PROJECT}/models/random-forest/rf-1/model.onnx`, MODEL_BYTES);
  const report = await put('areas', `staging/${PROJECT}/models/random-forest/rf-1/reports/ev-1.json`, REPORT);
  for (const kind of ['training', 'test'] as const) {
    const area = kind === 'test' ? 'staging' : 'common';
    const file = await put('areas', `${area}/${PROJECT}/datasets/${kind}-1/rows.jsonl`, Buffer.from(`${kind} rows`));
    const row = { project: PROJECT, dataset: `${kind}-1`, kind, files: [file], registeredBy: 'mia' };
    await records.registerDataSet({ ...row, registeredAt: NOW }, audit(`dataset/${kind}`));
  }
  await put('areas', `common/${PROJECT}/rows.jsonl`, Buffer.from('{"id":"a","inputs":{"x":1},"label":"YES"}'));
  for (const kind of ['training', 'test'] as const) {
    const row = { project: PROJECT, dataset: `spare-${kind}`, kind, files: [], registeredAt: NOW };
    await records.registerDataSet(
      { ...row, registeredBy: kind === 'test' ? 'mia' : 'sam' },
      audit(`dataset/spare-${kind}`),
    );
  }
  const common = { project: PROJECT, types: [TYPE], gates: ['function'] };
  await recordVersion(world, versionRow({ files: [model], digest: model.sha256, keyId: world.deps.signer.newest }));
  await recordEvaluation(world, evaluationRow({ report }));
  for (const application of ['scanner', 'probe'])
    await records.createApplication(
      // Of the other application's type nothing is released: it may not see what the first one may.
      {
        ...common,
        ...(application === 'probe' && { types: ['sentiment'] }),
        ...{ application, owner: 'dev', repository: `${PROJECT}/app-${application}` },
      },
      auditEntry({
        ...{ key: `application.created/${application}`, kind: 'application.created', actor: 'dev' },
        subject: `applications/${application}`,
        detail: { keyId: world.deps.signer.newest },
      }),
    );
  const released = await put('releases', `releases/${TYPE}/${model.sha256}/model.onnx`, MODEL_BYTES);
  const release = await records.allotRelease('command-release-1', {
    ...{ type: TYPE, project: PROJECT, model: 'random-forest', submission: 'rf-1', version: 1 },
    ...{ digest: model.sha256, files: [released], report: report.sha256, approvedBy: ['mia'], releasedBy: 'mia' },
    releasedAt: NOW,
  });
  await records.announced(release.release);
  await records.record(
    [audit('delivery')],
    [
      {
        kind: 'delivery',
        row: {
          ...{ application: 'scanner', release: release.release, type: TYPE, state: 'received' as const },
          ...{ gates: [], detail: '', updatedAt: NOW },
        },
      },
    ],
  );
  const move = {
    key: 'live-1',
    application: 'scanner',
    type: TYPE,
    generation: 0,
    release: release.release,
    revert: false,
  };
  await records.recordGate(
    { application: 'scanner', type: TYPE, release: release.release },
    { gate: 'function', passed: true, detail: '', seconds: 0 },
  );
  await records.moveLivePointer(move, audit('live'));
  const feedback = { project: PROJECT, scan: 'scan-1' };
  await records.recordStart(
    {
      ...{ workflowId: workflowId.feedback(feedback), type: 'feedback', input: feedback, askedBy: 'scanner' },
      ...{ roles: [], project: PROJECT },
    },
    audit('scan'),
    [
      {
        kind: 'scan',
        row: {
          ...{ scan: 'scan-1', project: PROJECT, application: 'scanner', type: TYPE, release: release.release },
          findings: [
            {
              ...{ finding: 'f-1', name: 'DigestLoginModule', path: 'a/B.java', vulnerable: true, probability: 0.9 },
              ...{ source: DIGEST, label: null },
            },
          ],
          ...{ state: 'open' as const, revision: 0, commit: null, keyId: world.deps.signer.newest, updatedAt: NOW },
        },
      },
    ],
  );
  await put('areas', `private/${PROJECT}/sam/runs/model.onnx`, MODEL_BYTES);
  const sheet = await put('areas', `common/${PROJECT}/datasets/imported.im-1/datasheet.json`, Buffer.from('{"v":1}'));
  await records.recordImport(
    {
      ...{
        project: PROJECT,
        import: 'im-1',
        dataset: 'imported',
        unpack: false,
        actor: 'sam',
        state: 'done',
        detail: '',
      },
      ...{ source: { kind: 'maven', coordinate: 'org.example:rows:1.0' }, bytes: 0, files: [], sheet, updatedAt: NOW },
    },
    null,
  );
  const application = async (name: string) =>
    (await issueToken(records, { kind: 'application', name, actor: 'test' })).token;
  const job = async (name: string): Promise<string> => {
    const { token, tokenId, sha256: digest } = newToken();
    const path = `staging/${PROJECT}/jobs/${name}/model.onnx` as StorePath;
    const workflow = `run/${PROJECT}/m/${name}/1`;
    const grant = { job: name, workflow, inputs: [model], outputs: [{ name: 'model.onnx', path, limit: 1_000 }] };
    await records.issueToken(
      { tokenId, sha256: digest, kind: 'job', name, expiresAt: null, job: grant },
      audit(`token/${name}`),
    );
    return token;
  };
  return {
    scanner: await application('scanner'),
    probe: await application('probe'),
    jobOne: await job('job-1'),
    jobTwo: await job('job-2'),
  };
}

const NOW = '2026-01-01T00:00:00.000Z';

export async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/** Records a version with its start, as the API does; its state is that of the row; a new one has recorded facts. */
export async function recordVersion({ deps: { records } }: World, row: Version): Promise<void> {
  const { project, model, submission, type, author } = row;
  const input = { project, model, type, submission, author, beginning: { directory: submission } };
  const id = workflowId.modelLifecycle(row);
  const isNew = row.state === 'new' && row.digest !== null;
  await records.recordStart(
    { workflowId: id, type: 'modelLifecycle', input, askedBy: author, roles: ['scientist'], project },
    auditEntry({ key: `test/${id}`, project, kind: 'test', actor: 'test', subject: 'test' }),
    [{ kind: 'version', row: isNew ? { ...row, state: 'validating', revision: row.revision - 1, digest: null } : row }],
  );
  if (!isNew) return;
  await records.recordStaged(row, row.files);
  await records.recordValidation(row, { digest: row.digest, revises: row.revises });
  await records.advanceVersion(id, { revision: row.revision - 1 });
}

/** Records an evaluation that a manager asked for, and its end, as evidence. */
export async function recordEvaluation({ deps: { records } }: World, row: Evaluation): Promise<void> {
  const { project, evaluation, model, submission, actor, dataset } = row;
  const id = workflowId.evaluation(row);
  const input = { project, evaluation, model, actor, dataset, subject: { submission: submission ?? '' } };
  await records.recordStart(
    { workflowId: id, type: 'evaluation', input, askedBy: actor, roles: ['manager'], project },
    auditEntry({ key: `test/${id}`, project, kind: 'test', actor: 'test', subject: 'test' }),
    [{ kind: 'evaluation', row: { ...row, state: 'running', digest: null, report: null, passed: null, metrics: {} } }],
  );
  await records.endEvaluation(row, { inStaging: true });
}

/** A version of sam's, `new` at revision 3. */
export const versionRow = (given: Partial<Version> = {}): Version => ({
  ...{ project: PROJECT, model: 'random-forest', type: TYPE, submission: 'rf-1', author: 'sam', state: 'new' },
  ...{ revision: 3, version: 1, revises: null, digest: null, files: [], run: null, tags: [], decisions: [] },
  ...{ detail: '', keyId: '', updatedAt: NOW },
  ...given,
});

/** An evaluation of it by mia. */
export const evaluationRow = (given: Partial<Evaluation> = {}): Evaluation => ({
  ...{ evaluation: 'ev-1', project: PROJECT, model: 'random-forest', submission: 'rf-1', actor: 'mia' },
  ...{ dataset: 'test-1', state: 'done', digest: DIGEST, report: null, passed: true },
  ...{ metrics: { average_precision: 0.9 }, detail: '', updatedAt: NOW },
  ...given,
});

/** What a lifecycle's workflow does with a command: it has it decided. */
export const decides =
  ({ deps: { records } }: World) =>
  (id: string, command: SignedCommand): Promise<unknown> =>
    id.startsWith('application/')
      ? records.decidePointer(id, command)
      : records.decideVersion(id, command, { place: (_, file) => file });
