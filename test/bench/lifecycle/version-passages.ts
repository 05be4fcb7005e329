// Passages of versions: a whole lifecycle, a training, an evaluation.
import { once } from '../../../activities/model-center.ts';
import type { Evaluation, Version } from '../../../workflows/domain/model.ts';
import { newVersion } from '../../../workflows/domain/model.ts';
import { storePath } from '../../../workflows/domain/names.ts';
import type { VersionStanding } from '../../../workflows/domain/standing.ts';
import type { LifecycleInput } from '../../../workflows/messages.ts';
import { workflowId } from '../../../workflows/messages.ts';
import { auditEntry } from '../../workflows/passage.ts';
import type { Passage, PassageScene } from './passage-scene.ts';
import { now, timed } from './passage-scene.ts';
import { firstRows } from './plain-rows.ts';
import { decide, plainEvaluation, plainLifecycle, plainTraining } from './plain-workflows.ts';
import type { LifecycleStage } from './stage.ts';

/** The passages `modelLifecycle`, `trainingRun` and `evaluation`. */
export async function createVersionPassages(stage: LifecycleStage, scene: PassageScene): Promise<readonly Passage[]> {
  const { records, client, gateway, watches, write, systems } = stage;
  const { started, startPlain, give, decisionOf, end, layFiles, versionOf } = scene;

  const run = {
    ...{ code: { repository: 'p/code', commit: 'c'.repeat(40) }, entrypoint: 'train.py', lock: 'requirements.lock' },
    ...({ data: [], parameters: {}, seed: 1, compute: 'cpu', deadlineSeconds: 60 } as const),
  };

  const lifecycle: Passage = {
    name: 'modelLifecycle',
    async platform(n) {
      const submission = `s-${n}`;
      const watch = watches.platform;
      const input: LifecycleInput = {
        ...{ project: 'p', model: 'm', type: 'kind', submission, author: 'sam', beginning: { run } },
      };
      const id = workflowId.modelLifecycle(input);
      const standing = (state: Version['state']) =>
        watch.until(id, ({ result }) => stateOf(result) === state) as Promise<VersionStanding>;
      const phase = async (state: Version['state'], act: () => Promise<unknown>) => {
        const reached = standing(state);
        const ms = await timed(async () => {
          await act();
          await reached;
        });
        await watch.rest();
        return { ms, version: (await reached).version };
      };
      const trained = await phase('trained', async () => {
        const start = { ...started, workflowId: id, type: 'modelLifecycle' as const, input, askedBy: 'sam' };
        const row = newVersion(input, 'k', now());
        await records.recordStart(start, auditEntry('version.started'), [{ kind: 'version', row }]);
        await gateway.startLifecycle(input);
      });
      const fresh = await phase('new', () =>
        give(id, { name: 'submit', actor: 'sam', revision: trained.version.revision }),
      );
      const { report } = await evaluatePlatform(`for-${n}`, fresh.version.submission);
      const of = { actor: 'mia', digest: fresh.version.digest };
      const approve = { ...of, name: 'approve', revision: fresh.version.revision, report: report?.sha256 ?? null };
      const approved = await phase('approved', () => give(id, approve));
      const release = { ...of, name: 'release', revision: approved.version.revision };
      const released = await phase('released', () => give(id, release));
      await end(id);
      return trained.ms + fresh.ms + approved.ms + released.ms;
    },
    async plain(n) {
      const submission = `plain-s-${n}`;
      const watch = watches.plain;
      const id = `plain-model/${submission}`;
      const given = { project: 'p', model: 'm', type: 'kind', submission, author: 'sam', beginning: { run } };
      const version = newVersion(given, 'k', now());
      const phase = async (state: Version['state'], act: () => Promise<unknown>): Promise<number> => {
        const reached = watch.until(id, ({ result }) => (result as Version | undefined)?.state === state);
        const ms = await timed(async () => {
          await act();
          await reached;
        });
        await watch.rest();
        return ms;
      };
      const tell = (name: string, actor: string) => () =>
        client.workflow.getHandle(id).signal(decide, decisionOf(name, actor));
      const trained = await phase('trained', async () => {
        await write(firstRows.version(version));
        await startPlain(plainLifecycle.name, id, { version });
      });
      const fresh = await phase('new', tell('submit', 'sam'));
      // As the platform's passage: an approval needs its evaluation, whose time does not count here.
      await evaluatePlain(`plain-for-${n}`);
      const approved = await phase('approved', tell('approve', 'mia'));
      const released = await phase('released', tell('release', 'mia'));
      return trained + fresh + approved + released;
    },
  };

  const training: Passage = {
    name: 'trainingRun',
    platform: (n) => {
      const input = { project: 'p', model: 'm', submission: `t-${n}`, attempt: 1, author: 'sam', spec: run };
      const id = workflowId.trainingRun(input);
      return timed(async () => {
        const start = { ...started, workflowId: id, type: 'trainingRun' as const, input, askedBy: 'sam' };
        await records.recordStart(start, auditEntry('version.started'), []);
        await client.workflow.execute('trainingRun', { workflowId: id, taskQueue: 'ocdl', args: [input] });
      });
    },
    plain: (n) => {
      const version = versionOf(`plain-t-${n}`, 'kind', { state: 'training' });
      return timed(async () => {
        await write(firstRows.audit('version.started'));
        await (await startPlain(plainTraining.name, `plain-run/${version.submission}`, { version })).result();
      });
    },
  };

  const evaluated = {
    platform: versionOf('e-own', 'kind', { state: 'new', files: await layFiles(systems.platform, 'e-own') }),
    plain: versionOf('e-plain', 'kind', { state: 'new', files: await layFiles(systems.plain, 'e-plain') }),
  };
  const rowsPath = storePath({ area: 'staging', project: 'p', path: 'datasets/rows/test.jsonl' });
  const rows = { ...(await systems.platform.areas.write(rowsPath, once(Buffer.from('{}\n')))), name: 'test.jsonl' };
  await records.record([], [{ kind: 'version', row: evaluated.platform }]);
  await records.registerDataSet(
    { project: 'p', dataset: 'rows', kind: 'test', files: [rows], registeredBy: 'mia', registeredAt: now() },
    auditEntry('dataset.registered'),
  );
  const evaluationOf = (evaluation: string, submission: string): Evaluation => ({
    ...{ evaluation, project: 'p', model: 'm', submission, actor: 'mia', dataset: 'rows', state: 'running' },
    ...{ digest: null, report: null, passed: null, metrics: {}, detail: '', updatedAt: now() },
  });
  async function evaluatePlatform(name: string, submission: string): Promise<Evaluation> {
    const input = {
      project: 'p',
      evaluation: name,
      model: 'm',
      actor: 'mia',
      dataset: 'rows',
      subject: { submission },
    };
    const id = workflowId.evaluation(input);
    const start = { ...started, roles: ['manager'] as const, workflowId: id, type: 'evaluation' as const, input };
    const row = evaluationOf(name, submission);
    const entry = auditEntry('evaluation.started');
    await records.recordStart({ ...start, askedBy: 'mia' }, entry, [{ kind: 'evaluation', row }]);
    await gateway.startEvaluation(input);
    return (await client.workflow.getHandle(id).result()) as Evaluation;
  }
  async function evaluatePlain(name: string): Promise<void> {
    const version = evaluated.plain;
    const row = evaluationOf(name, version.submission);
    await write(firstRows.evaluation(row, version.author));
    const given = { evaluation: row, version, rows };
    await (await startPlain(plainEvaluation.name, `plain-evaluation/${name}`, given)).result();
  }
  const evaluation: Passage = {
    name: 'evaluation',
    platform: (n) => timed(() => evaluatePlatform(`e-${n}`, evaluated.platform.submission)),
    plain: (n) => timed(() => evaluatePlain(`plain-e-${n}`)),
  };

  return [lifecycle, training, evaluation];
}

const stateOf = (result: unknown): string | undefined =>
  (result as Partial<VersionStanding> | undefined)?.version?.state;
