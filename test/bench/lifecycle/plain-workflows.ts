// The same passages as plain workflows: each business step is an activity, people's commands are signals, nothing is checked.
import {
  condition,
  defineSignal,
  executeChild,
  getExternalWorkflowHandle,
  proxyActivities,
  setHandler,
} from '@temporalio/workflow';
import type { Import } from '../../../workflows/domain/import.ts';
import type {
  Application,
  Decision,
  Delivery,
  Evaluation,
  NamedArtifact,
  Release,
  RunRecord,
  Scan,
  Version,
} from '../../../workflows/domain/model.ts';
import type { DataImportInput } from '../../../workflows/messages.ts';
import type { PlainActivities } from './plain-activities.ts';

export const plainQueues = { core: 'plain', jobs: 'plain-jobs' } as const;
export const decide = defineSignal<[Decision]>('decide');
export const take = defineSignal<[Release]>('take');

const retry = { initialInterval: '500 milliseconds', maximumInterval: '1 minute', backoffCoefficient: 2 } as const;
const core = proxyActivities<PlainActivities>({ taskQueue: plainQueues.core, startToCloseTimeout: '1 minute', retry });
/** Long activities are on a queue of their own, as in the platform. */
const jobs = proxyActivities<Pick<PlainActivities, 'runTraining' | 'runEvaluation' | 'acquireData'>>({
  ...{ taskQueue: plainQueues.jobs, startToCloseTimeout: '1 hour', retry },
});
const at = (): string => new Date().toISOString();

/** From a run to a release. */
export async function plainLifecycle({ version: begun }: { version: Version }): Promise<Version> {
  const given: Decision[] = [];
  setHandler(decide, (decision) => void given.push(decision));
  let version = begun;
  const step = async (change: Partial<Version>, decision?: Decision): Promise<void> => {
    const decisions = decision ? [...version.decisions, decision] : version.decisions;
    const next = { ...version, ...change, decisions, revision: version.revision + 1, updatedAt: at() };
    version = await core.recordVersion({ version: next, ...(decision && { decision }) });
    await core.fileVersion({ version });
  };
  const next = async (): Promise<Decision> => {
    await condition(() => given.length > 0);
    return given.shift() as Decision;
  };

  await step({ state: 'training' });
  const run = await executeChild(plainTraining, { workflowId: `plain-run/${version.submission}`, args: [{ version }] });
  await step({ state: 'trained', run });
  await step({ state: 'validating' }, await next());
  const files = await core.stageModel({ version });
  const digest = await core.validateModel({ files });
  await step({ state: 'new', files, digest, version: 1 });
  await step({ state: 'approved' }, await next());
  const decision = await next();
  const release = await core.allotRelease({ version, decision });
  await executeChild(plainRelease, { workflowId: `plain-release/${release.release}`, args: [{ release, files }] });
  const decisions = [...version.decisions, decision];
  const released = {
    ...version,
    state: 'released',
    decisions,
    revision: version.revision + 1,
    updatedAt: at(),
  } as const;
  version = await core.completeRelease({ version: released, decision });
  await core.fileVersion({ version });
  return version;
}

export async function plainTraining({ version }: { version: Version }): Promise<RunRecord> {
  const provisioned = await core.provisionRun({ version });
  await jobs.runTraining({ version, ...provisioned });
  return core.collectRun({ version, ...provisioned });
}

export async function plainRelease(given: { release: Release; files: readonly NamedArtifact[] }): Promise<void> {
  await core.publishRelease(given);
  await core.announceRelease(given);
  await core.recordAnnounced(given);
}

export async function plainEvaluation(given: {
  evaluation: Evaluation;
  version: Version;
  rows: NamedArtifact;
}): Promise<Evaluation> {
  const { digest } = await core.prepareEvaluation(given);
  await jobs.runEvaluation(given);
  return core.collectReport({ ...given, digest });
}

/** Takes each release that it is told of. */
export async function plainApplication({ application }: { application: Application }): Promise<void> {
  const told: Release[] = [];
  setHandler(take, (release) => void told.push(release));
  const live = { generation: 0, former: null as Delivery | null };
  for (;;) {
    await condition(() => told.length > 0);
    const release = told.shift() as Release;
    const { former, generation } = live;
    const received = deliveryOf(application, release);
    await core.openDelivery({ application, release, delivery: received });
    const delivery = await executeChild(plainDelivery, {
      ...{ workflowId: `plain-delivery/${release.release}`, args: [{ application, release, delivery: received }] },
    });
    await core.moveLivePointer({ application, release, delivery, former, generation: generation + 1 });
    for (const { release: id } of [delivery, ...(former ? [former] : [])])
      await getExternalWorkflowHandle(`plain-model/${id}`)
        .signal(take, release)
        .catch(() => undefined);
    await core.commitLive({ application, release, delivery });
    Object.assign(live, { generation: generation + 1, former: delivery });
  }
}

export async function plainDelivery(given: {
  application: Application;
  release: Release;
  delivery: Delivery;
}): Promise<Delivery> {
  await core.receiveRelease(given);
  await core.lockModel(given);
  const result = await core.runGate(given);
  return core.concludeDelivery({ ...given, delivery: { ...given.delivery, gates: [result] } });
}

/** Takes labels of one scan. */
export async function plainFeedback({ scan: begun }: { scan: Scan }): Promise<void> {
  const given: Decision[] = [];
  setHandler(decide, (decision) => void given.push(decision));
  let scan = begun;
  for (;;) {
    await condition(() => given.length > 0);
    const decision = given.shift() as Decision;
    const label = { verdict: 'true', by: decision.actor, at: at() } as const;
    const findings = scan.findings.map((finding) => ({ ...finding, label }));
    scan = { ...scan, findings, state: 'labelled', revision: scan.revision + 1, updatedAt: at() };
    await core.recordLabels({ scan, decision });
    scan = await core.commitLabels({ scan, decision });
  }
}

export async function plainImport({ row, input }: { row: Import; input: DataImportInput }): Promise<Import> {
  const resolution = await core.resolveSource({ row });
  const files = await jobs.acquireData({ row, input, resolution });
  return core.registerImport({ row, input, resolution, files });
}

const deliveryOf = ({ application }: Application, { release, type }: Release): Delivery => ({
  ...{ application, release, type, state: 'received', gates: [], detail: '', updatedAt: at() },
});
