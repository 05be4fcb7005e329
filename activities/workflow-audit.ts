// The audit of workflows themselves: refused and forged commands, cancellations and interruptions in Temporal.
import { Context } from '@temporalio/activity';
import { parseWorkflowId } from '../workflows/domain/ids.ts';
import { subjectOf } from '../workflows/domain/names.ts';
import type { PublicKeys, RefusedCommand } from '../workflows/messages.ts';
import { isFailure } from './failures.ts';
import { currentRun, currentWorkflow } from './heartbeat.ts';
import type { AuditEntry, Records } from './records.ts';

/** The activities that record what happened to their own workflow. */
export function createWorkflowAuditActivities({ records }: { records: Records }) {
  return {
    /**
     * Records commands refused before evaluation, in batches. In a flood, only the first ones are recorded individually.
     * Returns the current public keys: after a restore the platform may sign with another one than when the workflow began.
     */
    async recordRefusals(input: {
      refused: readonly RefusedCommand[];
      dropped: number;
      batch: number;
    }): Promise<{ keys: PublicKeys }> {
      const { refused, dropped, batch } = input;
      const about = await aboutWorkflow(records);
      const entry = (i: number, reason: string, detail: AuditEntry['detail'], at: string): AuditEntry => ({
        // Each run numbers its batches from 0.
        key: `${currentWorkflow()}/${currentRun()}/refused/${batch}/${i}`,
        ...{ ...about, kind: 'command.refused', actor: 'unproven', digest: null, report: null, reason, detail, at },
      });
      const entries = refused.map((one, i) => entry(i, one.message, { ...one }, one.at));
      const last = refused.at(-1)?.at ?? new Date().toISOString();
      if (dropped > 0) entries.push(entry(refused.length, `${dropped} more refused commands`, { dropped }, last));
      await records.record(entries, []);
      return { keys: await records.keys() };
    },

    /** Records that an operator cancelled the workflow: running work was interrupted, and nothing follows. */
    async recordInterruption(): Promise<void> {
      if (await isCancelledByPlatform(records)) return;
      const entry = {
        ...{ key: `${currentWorkflow()}/${currentRun()}/cancelled`, kind: 'workflow.cancelled', actor: 'operator' },
        ...{ digest: null, report: null, reason: 'cancelled in Temporal: what ran was interrupted', detail: {} },
      };
      await records.record([{ ...entry, ...(await aboutWorkflow(records)), at: new Date().toISOString() }], []);
    },
  };
}

/** Whether the platform has cancelled the workflow: for a person, or because of a command. Both are in the audit already. */
async function isCancelledByPlatform(records: Records): Promise<boolean> {
  const parsed = parseWorkflowId(currentWorkflow());
  const of = (name: string): string => parsed?.of[name] ?? '';
  switch (parsed?.workflow) {
    case 'evaluation':
      return (await cancellationOf(records, 'evaluation', of('project'), of('evaluation'))) !== undefined;
    case 'dataImport':
      return (await cancellationOf(records, 'import', of('project'), of('import'))) !== undefined;
    case 'trainingRun': {
      const version = await records.version(of('project'), of('model'), of('submission'));
      return version !== undefined && version.state !== 'training';
    }
    case 'delivery':
      return records.fenced(of('release'));
    case 'modelLifecycle':
    case 'release':
    case 'application':
    case 'feedback':
    case undefined:
      return false;
  }
}

/** The person who cancelled an evaluation or an import through the API, if it was cancelled there. */
export async function cancellationOf(
  records: Records,
  what: 'evaluation' | 'import',
  project: string,
  name: string,
): Promise<string | undefined> {
  const { rows } = await records.audit({ project, subject: `${project}/${what}s/${name}`, limit: 100 });
  return rows.find(({ entry }) => entry.kind === `${what}.cancel`)?.entry.actor;
}

/** A command that the platform has not signed changes nothing: it is recorded, and the current standing is returned. */
export async function unlessForged<S>(records: Records, decide: () => Promise<S>, stand: () => Promise<S>): Promise<S> {
  try {
    return await decide();
  } catch (error) {
    if (!isFailure(error, 'NotAuthorized') || !(error instanceof Error)) throw error;
    const entry = {
      ...{ key: `${currentWorkflow()}/${currentRun()}/forged`, kind: 'command.refused', actor: 'unproven' },
      ...{ digest: null, report: null, reason: error.message, detail: {}, at: new Date().toISOString() },
    };
    await records.record([{ ...entry, ...(await aboutWorkflow(records)) }], []);
    return stand();
  }
}

/** Records that an operator ended work of this workflow in Temporal. May happen more than once per run. */
export async function noteInterrupted(records: Records, reason: string): Promise<void> {
  const { activityId } = Context.current().info;
  const entry = {
    ...{ key: `${currentWorkflow()}/${currentRun()}/interrupted/${activityId}`, kind: 'workflow.interrupted' },
    ...{ actor: 'operator', digest: null, report: null, reason, detail: {}, at: new Date().toISOString() },
  };
  await records.record([{ ...entry, ...(await aboutWorkflow(records)) }], []);
}

/** The audit's project and subject for the workflow that this activity works for. */
async function aboutWorkflow(records: Records): Promise<{ project: string | null; subject: string }> {
  const id = currentWorkflow();
  const parsed = parseWorkflowId(id);
  const project = parsed?.of['project'] ?? (await records.start(id))?.project ?? null;
  const of = (name: string): string => parsed?.of[name] ?? '';
  switch (parsed?.workflow) {
    case 'modelLifecycle':
      return {
        project,
        subject: subjectOf({ project: of('project'), model: of('model'), submission: of('submission') }),
      };
    case 'application':
      return { project, subject: `${of('application')}/${of('type')}` };
    case 'feedback':
      return { project, subject: `${of('project')}/scans/${of('scan')}` };
    case 'trainingRun':
    case 'evaluation':
    case 'release':
    case 'delivery':
    case 'dataImport':
    case undefined:
      return { project, subject: id };
  }
}
