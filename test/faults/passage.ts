// One version's passage, submission to live, driven as people drive it; and the list of activities that carried it.
import type { WorkflowHandle } from '@temporalio/client';
import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import { pino } from 'pino';
import { once } from '../../activities/model-center.ts';
import { openBus } from '../../workers/wiring.ts';
import { consumeReleases } from '../../workers/application.ts';
import type { Projection } from '../../activities/records.ts';
import type { Evaluation } from '../../workflows/domain/model.ts';
import { newVersion } from '../../workflows/domain/model.ts';
import { storePath } from '../../workflows/domain/names.ts';
import type { WorkflowName } from '../../workflows/messages.ts';
import { command, parseWorkflowId, taskQueues, wake, workflowId } from '../../workflows/messages.ts';
import { submissionFiles } from '../workflows/submission-files.ts';
import { addScanner, people, type Scene } from './scene.ts';

export const lifecycleId = workflowId.modelLifecycle({ project: 'p', model: 'm', submission: 's-1' });
export const applicationId = workflowId.application({ application: 'scanner', type: 'kind' });
export const releaseCommandId = 'command-release';

export interface Passing {
  /** Starts an application's consumer; one in this process unless given. */
  readonly consume?: (scene: Scene) => Promise<{ stop(): Promise<void> }>;
  /** Wakes this workflow repeatedly until a worker is killed, because it reads once per wake-up. */
  readonly nudge?: 'application' | 'modelLifecycle' | undefined;
  /** Called once the submission is on its way. */
  readonly submitted?: ((scene: Scene) => Promise<void>) | undefined;
  /** Called once the release is announced. */
  readonly announced?: ((scene: Scene) => Promise<void>) | undefined;
  /** Called once the release command is on its way. */
  readonly released?: ((scene: Scene) => Promise<void>) | undefined;
}

/** Takes a submission through the whole passage and returns when everything is idle. */
export async function pass(
  scene: Scene,
  { consume = consumeHere, nudge, submitted, released, announced }: Passing = {},
): Promise<void> {
  await submit(scene);
  await submitted?.(scene);
  const report = await evaluate(scene);
  await give(scene, 'approve', report);
  await start(scene, 'application', applicationId, 'dev', { application: 'scanner', type: 'kind' }, [], addScanner);
  await idle(scene, applicationId);
  const consumer = await consume(scene);
  try {
    // The subscription wakes too; once it has, the next wake is the event's.
    await idle(scene, applicationId);
    await give(scene, 'release', null);
    await released?.(scene);
    if (announced) {
      await scene.until(
        'the release to be announced',
        async () => (await scene.records.release('kind-1'))?.state === 'announced',
      );
      await announced(scene);
    }
    if (nudge === 'application') await wakeUntilKilled(scene, applicationId);
    await scene.until('the version to be live', async () => {
      const version = await scene.records.version('p', 'm', 's-1');
      return version?.detail.includes('live in scanner');
    });
    // Only now: a lifecycle that is woken in the middle writes down how far the delivery has come.
    if (nudge === 'modelLifecycle') await wakeUntilKilled(scene, lifecycleId);
    await idle(scene, applicationId);
    await idle(scene, lifecycleId);
  } finally {
    await consumer.stop();
  }
}

/** Until every worker that is to die has died: the first by a wake-up, the others by what it left to be tried again. */
async function wakeUntilKilled({ client, deaths, kills, until }: Scene, id: string): Promise<void> {
  await until(`${deaths} workers to be killed`, async () => {
    if (kills.length === 0) await client.workflow.getHandle(id).signal(wake);
    return kills.length >= deaths;
  });
}

/** An application's consumer in this process. */
async function consumeHere({ config, records, client }: Scene): Promise<{ stop(): Promise<void> }> {
  const bus = await openBus(config, pino({ level: 'silent' }));
  const consumer = await consumeReleases({
    records,
    bus,
    wakeUp: (id) => client.workflow.getHandle(id).signal(wake),
    onError: () => undefined,
  });
  return {
    async stop() {
      await consumer.stop();
      await bus.close();
    },
  };
}

/** Records a start and starts it, as the API does. */
async function start(
  scene: Scene,
  type: WorkflowName,
  id: string,
  askedBy: string,
  input: object,
  rows: readonly Projection[] = [],
  recorded?: (scene: Scene) => Promise<void>,
): Promise<void> {
  const { client, records } = scene;
  const at = new Date().toISOString();
  const roles = people[askedBy] ?? [];
  await records.recordStart(
    { workflowId: id, type, input, askedBy, roles, project: 'p' },
    {
      ...{ key: `${type}.started/${id}`, project: 'p', kind: `${type}.started`, actor: askedBy, subject: id },
      ...{ digest: null, report: null, reason: '', detail: {}, at },
    },
    rows,
  );
  await recorded?.(scene);
  await client.workflow.start(type, { workflowId: id, taskQueue: taskQueues.core, args: [input] }).catch((error) => {
    // The sweep was faster.
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  });
}

async function submit(scene: Scene): Promise<void> {
  for (const [name, content] of Object.entries(submissionFiles('fault')))
    await scene.areas.write(
      storePath({ area: 'private', project: 'p', user: 'sam', path: `s-1/${name}` }),
      once(Buffer.from(content)),
    );
  const given = { project: 'p', model: 'm', type: 'kind', submission: 's-1', author: 'sam' };
  const input = { ...given, beginning: { directory: 's-1' } };
  const row = newVersion(input, 'k1', new Date().toISOString());
  await start(scene, 'modelLifecycle', lifecycleId, 'sam', input, [{ kind: 'version', row }]);
}

/** Has the submission evaluated; when an operator has ended the evaluation, as it says, by another one. */
async function evaluate(scene: Scene): Promise<string> {
  const { records, until } = scene;
  await until('the submission to be new', async () => (await records.version('p', 'm', 's-1'))?.state === 'new');
  for (const evaluation of ['e-1', 'e-2']) {
    const given = { project: 'p', evaluation, model: 'm', actor: 'mia', dataset: 'rows' };
    const row: Evaluation = {
      ...{ ...given, submission: 's-1', state: 'running', digest: null, report: null, passed: null, metrics: {} },
      ...{ detail: '', updatedAt: new Date().toISOString() },
    };
    const input = { ...given, subject: { submission: 's-1' } };
    await start(scene, 'evaluation', workflowId.evaluation(given), 'mia', input, [{ kind: 'evaluation', row }]);
    const ended = await until('the evaluation to end', async () => {
      const found = await records.evaluation('p', evaluation);
      return found?.state !== 'running' && found;
    });
    if (ended.report) return ended.report.sha256;
    if (ended.detail !== 'ended by an operator: start another one')
      throw new Error(`the evaluation failed: ${ended.detail}`);
  }
  throw new Error('the second evaluation was ended, too');
}

/** Sends a command at the current revision, as mia. Does not wait for the release command. */
async function give(scene: Scene, name: 'approve' | 'release', report: string | null): Promise<void> {
  const state = name === 'approve' ? 'new' : 'approved';
  const { version } = await scene.until('the version at rest', async () => {
    const found = await scene.records.versionStanding({ project: 'p', model: 'm', submission: 's-1' });
    return found.version.state === state && !found.pending && found;
  });
  const { revision, digest } = version;
  const commandId = name === 'release' ? releaseCommandId : `command-${name}`;
  const body = { workflowId: lifecycleId, commandId, name, actor: 'mia', revision, digest, report };
  const signed = scene.signed(body);
  await scene.records.recordCommand(signed, { project: 'p', subject: 'p/m/s-1' });
  await signal(scene.client.workflow.getHandle(lifecycleId).signal(command, signed));
}

/** One that does not run gets the signal once it does: the command is recorded. */
async function signal(sending: Promise<void>): Promise<void> {
  await sending.catch((error: unknown) => {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  });
}

/** Waits until a workflow is idle: no activity, no child, no task. */
async function idle({ client, until }: Scene, id: string): Promise<void> {
  await until(`${id} to be idle`, async () => {
    const { raw, status } = await client.workflow.getHandle(id).describe();
    if (status.name !== 'RUNNING') return false;
    const under = (raw.pendingActivities ?? []).length + (raw.pendingChildren ?? []).length;
    return under === 0 && !raw.pendingWorkflowTask;
  });
}

export interface Executed {
  readonly workflow: string;
  readonly activity: string;
  /** Its number among those of its type in this workflow. */
  readonly occurrence: number;
}

/** Every activity of the release command, the release, the application and the delivery, in order, from their histories. */
export async function activitiesOfRelease(scene: Scene): Promise<readonly Executed[]> {
  const all = await activitiesOf(scene, [lifecycleId, ...releasing]);
  // Of the lifecycle only what follows the release command.
  return all.filter(({ workflow, released }) => workflow !== 'modelLifecycle' || released).map(plainly);
}

/** Every activity of the whole passage, in order, from the histories. */
export async function activitiesOfPassage(scene: Scene): Promise<readonly Executed[]> {
  const evaluation = workflowId.evaluation({ project: 'p', evaluation: 'e-1' });
  return (await activitiesOf(scene, [lifecycleId, evaluation, ...releasing])).map(plainly);
}

/** The workflows that a release goes through after its lifecycle. */
const releasing = [
  workflowId.release({ release: 'kind-1' }),
  applicationId,
  workflowId.delivery({ application: 'scanner', release: 'kind-1' }),
];
const plainly = ({ workflow, activity, occurrence }: Executed): Executed => ({ workflow, activity, occurrence });

/** `released`: the release command had come by then. */
async function activitiesOf(
  { client }: Scene,
  ids: readonly string[],
): Promise<readonly (Executed & { readonly released: boolean })[]> {
  const all: (Executed & { readonly released: boolean })[] = [];
  for (const id of ids) {
    const counts = new Map<string, number>();
    const { events } = await client.workflow.getHandle(id).fetchHistory();
    const workflow = parseWorkflowId(id)?.workflow ?? '';
    let released = false;
    for (const event of events ?? []) {
      released ||= isReleaseCommand(event);
      const activity = event.activityTaskScheduledEventAttributes?.activityType?.name;
      if (!activity) continue;
      const occurrence = (counts.get(activity) ?? 0) + 1;
      counts.set(activity, occurrence);
      all.push({ workflow, activity, occurrence, released });
    }
  }
  return all;
}

/** An activity that ends each step of the passage. */
const lastOf = {
  submission: { id: lifecycleId, activity: 'stageModel' },
  release: { id: workflowId.release({ release: 'kind-1' }), activity: 'announceRelease' },
  delivery: { id: applicationId, activity: 'moveLivePointer' },
} as const;

/** When a step of a passage was over, in ms: before that, what was done to a system was done in its middle. */
export async function endOf({ client }: Scene, step: keyof typeof lastOf): Promise<number> {
  const { id, activity } = lastOf[step];
  const { events } = await client.workflow.getHandle(id).fetchHistory();
  const scheduled = events?.find((one) => one.activityTaskScheduledEventAttributes?.activityType?.name === activity);
  const completed = events?.find(
    ({ activityTaskCompletedEventAttributes: done }) =>
      done && String(done.scheduledEventId) === String(scheduled?.eventId),
  );
  if (!completed?.eventTime) throw new Error(`${id} did not complete ${activity}`);
  return Number(completed.eventTime.seconds) * 1000 + (completed.eventTime.nanos ?? 0) / 1e6;
}

type HistoryEvent = NonNullable<Awaited<ReturnType<WorkflowHandle['fetchHistory']>>['events']>[number];

function isReleaseCommand({ workflowExecutionSignaledEventAttributes: signal }: HistoryEvent): boolean {
  const data = signal?.input?.payloads?.[0]?.data;
  return data ? Buffer.from(data).toString('utf8').includes(`"${releaseCommandId}"`) : false;
}
