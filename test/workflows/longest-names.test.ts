// Names of maximum length in every position and every workflow, through the whole lifecycle.
import { randomUUID } from 'node:crypto';
import { once } from '../../activities/model-center.ts';
import type { Projection } from '../../activities/records.ts';
import type { CommandBody } from '../../workflows/domain/command.ts';
import { REASON_LIMIT } from '../../workflows/domain/command.ts';
import type { Evaluation, RunSpec, Scan, Version } from '../../workflows/domain/model.ts';
import { defaultPolicy, newVersion } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { NAME_LIMIT, storePath } from '../../workflows/domain/names.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import type { EvaluationInput, LifecycleInput, WorkflowName } from '../../workflows/messages.ts';
import { taskQueues, workflowId } from '../../workflows/messages.ts';
import { auditEntry } from './passage.ts';
import { submissionFiles } from './submission-files.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

const name = (letter: string): string => letter.repeat(NAME_LIMIT);
const [project, model, type, application] = [name('p'), name('m'), name('t'), name('a')];
const [submission, evaluation, dataset, scan] = [name('s'), name('e'), name('d'), name('f')];
const [scientist, manager, engineer, successor] = [name('u'), name('v'), name('w'), name('z')];
const roles: Readonly<Record<string, readonly Role[]>> = {
  ...{ [scientist]: ['scientist'], [manager]: ['manager'], [engineer]: ['engineer'], [successor]: ['scientist'] },
};
const reason = 'r'.repeat(REASON_LIMIT);
/** The longest valid path: 512 characters in 12 segments. */
const path = (last: string): string =>
  [...Array<string>(3).fill('p'.repeat(125)), ...'abcdefgh'.split(''), last.padStart(118, 's')].join('/');

let world: World;
const ids = { project, model, submission };

beforeAll(async () => {
  world = await openWorld();
  const { records, areas, code } = world;
  await records.createProject({ project, types: [type], policy: defaultPolicy }, auditEntry('project.created'));
  for (const [user, held] of Object.entries(roles)) {
    await records.createUser(user, false, auditEntry('user.created'));
    await records.setMember(project, { user, roles: held }, auditEntry('member.set'));
  }
  const file = `${'r'.repeat(122)}.jsonl`;
  for (const [set, kind, given] of [
    [dataset, 'test', file],
    [name('g'), 'training', path('rows.csv')],
  ] as const) {
    const rows = await areas.write(
      storePath({ area: 'common', project, path: `datasets/${set}/${given}` }),
      once(Buffer.from('{}\n')),
    );
    const registered = { project, dataset: set, kind, registeredBy: manager, registeredAt: new Date().toISOString() };
    await records.registerDataSet(
      { ...registered, files: [{ ...rows, name: given }] },
      auditEntry('dataset.registered'),
    );
  }
  await code.ensure(`${project}/code`);
}, 600_000);
afterAll(() => world.close());

async function give(to: string, actor: string, what: string, more: Partial<CommandBody> = {}): Promise<string> {
  const commandId = randomUUID().padEnd(64, 'c');
  const found = await world.send(
    world.signed({ workflowId: to, name: what, actor, roles: roles[actor] ?? [], commandId, ...more }),
  );
  if (found.status !== 'done') throw new Error(`${what}: ${JSON.stringify(found)}`);
  return found.message;
}
async function decide(actor: string, what: string, more: Partial<CommandBody> = {}, of = ids): Promise<string> {
  const { revision, digest } = (await world.records.versionStanding(of)).version;
  return give(workflowId.modelLifecycle(of), actor, what, { revision, digest, ...more });
}
/** Records a start and starts it, as the API does. */
async function start(
  workflow: WorkflowName,
  of: string,
  askedBy: string,
  input: object,
  rows: readonly Projection[] = [],
) {
  const asked = { askedBy, roles: roles[askedBy] ?? [], project };
  await world.records.recordStart(
    { workflowId: of, type: workflow, input, ...asked },
    auditEntry(`${workflow}.started`),
    rows,
  );
  return world.client.workflow.start(workflow, { workflowId: of, taskQueue: taskQueues.core, args: [input] });
}
async function submit(input: LifecycleInput): Promise<void> {
  const row = newVersion(input, 'k', new Date().toISOString());
  await start('modelLifecycle', workflowId.modelLifecycle(input), input.author, input, [{ kind: 'version', row }]);
}
async function startEvaluation(input: EvaluationInput) {
  const row: Evaluation = {
    ...{ evaluation: input.evaluation, project, model, actor: input.actor, dataset, state: 'running', digest: null },
    ...{ submission: 'submission' in input.subject ? input.subject.submission : null, report: null, passed: null },
    ...{ metrics: {}, detail: '', updatedAt: new Date().toISOString() },
  };
  return start('evaluation', workflowId.evaluation(input), input.actor, input, [{ kind: 'evaluation', row }]);
}
const evaluate = async (input: EvaluationInput): Promise<Evaluation> =>
  (await (await startEvaluation(input)).result()) as Evaluation;
const untilState = (state: Version['state'], of = ids): Promise<Version> =>
  until(`the version to be ${state}`, async () => {
    const { version: found, pending } = await world.records.versionStanding(of);
    if (found.state !== state && ['failed', 'invalid'].includes(found.state)) throw new Error(found.detail);
    return found.state === state && !pending && found;
  });
/** Submits the longest directory's files, evaluates, approves and releases them; returns the release. */
async function released(letter: string): Promise<{ of: typeof ids; release: string }> {
  const directory = path(letter);
  for (const [file, text] of Object.entries(submissionFiles(letter, { name: model, type })))
    await world.areas.write(
      storePath({ area: 'private', project, user: scientist, path: `${directory}/${file}` }),
      once(Buffer.from(text)),
    );
  const of = { ...ids, submission: name(letter) };
  await submit({ ...of, type, author: scientist, beginning: { directory } });
  await untilState('new', of);
  const subject = { submission: of.submission };
  const { report } = await evaluate({ project, evaluation: name(letter), model, actor: manager, dataset, subject });
  await decide(manager, 'approve', { report: report?.sha256 ?? null, args: { reason } }, of);
  return { of, release: (await decide(manager, 'release', { args: { reason } }, of)).replace('released as ', '') };
}
/** Waits until a version's detail has the news of its delivery, which changes its revision. */
const knows = (news: string, of = ids) =>
  until(`the version to be ${news}`, async () =>
    (await world.records.version(project, model, of.submission))?.detail.includes(news),
  );
/** Commands an application at its current generation. */
async function command(what: string, release?: string): Promise<string> {
  const { generation } = await world.records.livePointer(application, type);
  const args = { reason, ...(release !== undefined && { release }) };
  return give(workflowId.application({ application, type }), manager, what, { revision: generation, args });
}

it('is trained, evaluated, approved, released, live and labelled', async () => {
  const { records, code, script } = world;
  script.card = { name: model, type };
  const { commit } = await code.commit({
    ...{ repository: `${project}/code`, branch: 'main', message: 'training', author: scientist },
    files: { [path('train.py')]: 'print()', [path('x.lock')]: '' },
  });
  const spec: RunSpec = {
    ...{ code: { repository: `${project}/code`, commit }, entrypoint: path('train.py'), lock: path('x.lock') },
    ...{ data: [name('g')], parameters: {}, seed: 1, compute: 'cpu', deadlineSeconds: 60 },
  };
  await submit({ ...ids, type, author: scientist, beginning: { run: spec } });
  await untilState('trained');
  await decide(scientist, 'submit');
  await untilState('new');

  const evaluated = await evaluate({ project, evaluation, model, actor: manager, dataset, subject: { submission } });
  expect(evaluated).toMatchObject({ state: 'done', detail: '' });
  await decide(manager, 'approve', { report: evaluated.report?.sha256 ?? null });

  await code.ensure(`${project}/app-${application}`);
  await records.createApplication(
    {
      ...{ application, project, owner: manager, types: [type], gates: ['function'] },
      repository: `${project}/app-${application}`,
    },
    auditEntry('application.created'),
  );
  const consumer = { application, type };
  await start('application', workflowId.application(consumer), manager, consumer);
  const released = (await decide(manager, 'release')).replace('released as ', '');
  expect(released).toBe(`${type}-1`);
  const live = await world.untilLive(application, released);
  expect(live).toMatchObject({ gates: [{ gate: 'function', passed: true }] });

  const feedback = workflowId.feedback({ project, scan });
  const finding = { finding: 'f'.repeat(64), name: 'n', path: 'p', vulnerable: true, probability: 1 };
  const row: Scan = {
    ...{ scan, project, application, type, release: released, state: 'open', revision: 0, commit: null, keyId: 'k' },
    findings: [{ ...finding, source: 'a'.repeat(64) as Digest, label: null }],
    updatedAt: new Date().toISOString(),
  };
  await start('feedback', feedback, application, { project, scan }, [{ kind: 'scan', row }]);
  await give(feedback, engineer, 'confirm', { args: { findings: [finding.finding] } });
  expect(await records.scan(project, scan)).toMatchObject({ state: 'labelled' });
});

it('is submitted and evaluated from the longest directory', async () => {
  const directory = path('directory');
  for (const [file, text] of Object.entries(submissionFiles('deep', { name: model, type })))
    await world.areas.write(
      storePath({ area: 'private', project, user: scientist, path: `${directory}/${file}` }),
      once(Buffer.from(text)),
    );
  const asked = { project, evaluation: name('x'), model, actor: scientist, dataset, subject: { directory } };
  expect(await evaluate(asked)).toMatchObject({ state: 'done', detail: '' });
  const deep = { ...ids, submission: name('y') };
  await submit({ ...deep, type, author: scientist, beginning: { directory } });
  const version = await until('the version to be staged', async () => {
    const found = await world.records.version(project, model, deep.submission);
    return found && found.state !== 'validating' && found;
  });
  expect(version).toMatchObject({ state: 'new', detail: '' });
});

it('fails, is retried as the next attempt, and withdrawn', async () => {
  world.script.card = { name: model, type };
  world.script.train = 'crash';
  const of = { ...ids, submission: name('q') };
  const commit = await world.code.resolve(`${project}/code`, 'main');
  const spec: RunSpec = {
    ...{ code: { repository: `${project}/code`, commit: commit ?? '' }, entrypoint: path('train.py') },
    ...{ lock: path('x.lock'), data: [name('g')], parameters: {}, seed: 1, compute: 'cpu', deadlineSeconds: 60 },
  };
  await submit({ ...of, type, author: scientist, beginning: { run: spec } });
  const failed = await until('the run to fail', async () => {
    const { version, pending } = await world.records.versionStanding(of);
    return version.state === 'failed' && !pending && version;
  });
  expect(failed.detail).toContain('no such column');
  world.script.train = 'succeed';
  await decide(scientist, 'retry', {}, of);
  expect(await untilState('trained', of)).toMatchObject({ detail: '', run: { attempt: 2 } });
  await decide(scientist, 'withdraw', { args: { reason } }, of);
  expect(await world.records.version(project, model, of.submission)).toMatchObject({ state: 'withdrawn' });
});

it('has an evaluation that is cancelled', async () => {
  world.script.evaluate = 'hang';
  const { length } = world.begunJobs;
  const input = {
    project,
    evaluation: name('k'),
    model,
    actor: scientist,
    dataset,
    subject: { directory: path('directory') },
  };
  const id = workflowId.evaluation(input);
  const handle = await startEvaluation(input);
  await until('the job to begin', async () => world.begunJobs.length > length);
  const cancelled = { key: `evaluation.cancel/${id}/${scientist}`, kind: 'evaluation.cancel', actor: scientist };
  const subject = `${project}/evaluations/${input.evaluation}`;
  await world.records.record([{ ...auditEntry(''), ...cancelled, project, subject }], []);
  await handle.cancel();
  expect(await handle.result()).toMatchObject({ state: 'failed' });
  world.script.evaluate = 'pass';
  const row = await world.records.evaluation(project, input.evaluation);
  expect(row?.detail).toContain(`cancelled by ${scientist}`);
  await until('the job to be stopped', async () => world.endedJobs.length > 0);
});

it('is tagged, rolled back after a revert, and taken down and retired', async () => {
  const { records } = world;
  const { of, release } = await released('i');
  await world.untilLive(application, release);
  await knows('live in', of);
  await decide(
    manager,
    'tag',
    { args: { tags: Array.from({ length: 20 }, (_, i) => `${name('t').slice(2)}${i + 10}`) } },
    of,
  );
  expect((await records.version(project, model, of.submission))?.tags).toHaveLength(20);
  await command('revert', `${type}-1`);
  expect(await records.livePointer(application, type)).toMatchObject({ release: `${type}-1` });
  await knows('reverted in', of);
  await decide(manager, 'rollback', { args: { reason } }, of);
  expect(await records.version(project, model, of.submission)).toMatchObject({
    state: 'rolled-back',
    detail: reason,
  });
  expect(await records.release(release)).toMatchObject({ withdrawn: { reason } });
  await command('take-down');
  expect(await records.livePointer(application, type)).toMatchObject({ release: null });
  await knows('taken-down in');
  await decide(manager, 'retire', { args: { reason } });
  expect(await records.version(project, model, submission)).toMatchObject({ state: 'retired' });
});

it('is reassigned after a failed delivery', async () => {
  world.script.service = 'wrong';
  const { of, release } = await released('j');
  await knows('failed in', of);
  expect(await world.records.delivery(application, release)).toMatchObject({ state: 'failed' });
  world.script.service = 'golden';
  const { report } = (await world.records.evaluation(project, name('j'))) ?? {};
  await decide(manager, 'reassign', { report: report?.sha256 ?? null, args: { reason, to: successor } }, of);
  expect(await world.records.version(project, model, of.submission)).toMatchObject({ state: 'reassigned' });
});
