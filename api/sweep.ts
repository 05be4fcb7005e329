// Resumes workflows that are open in the record but not running: after a terminate, a loss of Temporal's history, or a failed start.
import { setTimeout as sleep } from 'node:timers/promises';
import type { StartRow } from '../activities/records.ts';
import type { CommandBody } from '../workflows/domain/command.ts';
import type { DataImportInput, EvaluationInput, LifecycleInput } from '../workflows/messages.ts';
import { taskQueues, workflowId } from '../workflows/messages.ts';
import { startApplicationType } from './applications.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import type { Seen } from './gateway.ts';
import { isGatewayError } from './gateway.ts';

/** Interval between automatic sweeps. */
const EVERY_MS = 30_000;
/** Rows per page, all processed under one hold of the lock. */
const PAGE = 50;
/** Commands per page. */
const COMMANDS = 500;
/** A command that stays undecided for this long is signalled again. */
const RESIGNAL_AFTER_MS = 5_000;
/** So is one that is decided, but not carried out: its workflow may not know of the decision. */
const PENDING_AFTER_MS = 10 * 60_000;
/** A version that was closed this long ago, and is not stored beside its artifact, has lost its workflow. */
const UNFILED_MS = 5 * 60_000;
/** Pauses between restarts of workflows that do not stay up: one minute, doubled each time, at most an hour. */
const BACKOFF_MS = { first: 60_000, most: 3_600_000 } as const;

export interface SweepReport {
  /** Workflows that were open in the record but not running, and were restarted. */
  readonly restarted: readonly string[];
  /** Workflows waiting for their next restart. */
  readonly waiting: readonly string[];
  /** Evaluations and imports that someone ended by hand. They have failed and run once more to clean up. */
  readonly ended: readonly string[];
  /** Foreign runs that used a workflow id of ours. */
  readonly terminated: readonly string[];
  /** Number of commands signalled again. */
  readonly signalled: number;
}

type Deps = Pick<ApiDeps, 'records' | 'workflows' | 'log'>;

/** Per command, when it may be signalled again (by `performance.now()`), and the pause after that. */
type Signalled = Map<string, { readonly next: number; readonly pauseMs: number }>;

/**
 * Checks all open workflows once. Several processes may call it; a lock lets one at a time run.
 * @param signalled what earlier sweeps of this process have signalled. Without it, each undecided command is signalled.
 */
export async function sweep({ records, workflows, log }: Deps, signalled: Signalled = new Map()): Promise<SweepReport> {
  const report = {
    restarted: [] as string[],
    waiting: [] as string[],
    ended: [] as string[],
    terminated: [] as string[],
    signalled: 0,
  };
  // While the server is unavailable nothing can be checked, and each lookup would wait for it.
  let isAway = false;
  await records.reopenUnfiled(UNFILED_MS);
  let after: string | undefined;
  do {
    const page = await records.exclusively('sweep', async (held) => {
      const found = await records.openStarts({ limit: PAGE, ...(after !== undefined && { after }) });
      for (const start of found.rows) {
        if (isAway) break;
        await one(start, held).catch((error: unknown) => {
          held.throwIfAborted();
          isAway = isGatewayError(error, 'unavailable');
          // A workflow that cannot be checked must not delay the others.
          log.warn({ workflowId: start.workflowId, error: String(error) }, 'could not be resumed yet');
        });
      }
      return found;
    });
    // Another process is sweeping, or the server is unavailable.
    if (!page || isAway) return report;
    after = page.next;
  } while (after !== undefined);
  await startTypes();
  await signalAgain();
  return report;

  /** Checks one workflow. `held` guarantees that no other process does; once aborted, nothing is done. */
  async function one(start: StartRow, held: AbortSignal): Promise<void> {
    const { workflowId: id } = start;
    held.throwIfAborted();
    const seen = await workflows.look(id);
    const foreign = seen?.isRunning === true && (await isForeign(start, seen));
    const now = await records.clock();
    held.throwIfAborted();
    if (foreign) {
      await workflows.terminate(id, seen.runId, 'this run is not the recorded one');
      await records.record(
        [
          auditEntry({
            ...{ key: `workflow.terminated/${id}/${seen.runId}`, project: start.project, kind: 'workflow.terminated' },
            ...{
              actor: 'platform',
              subject: id,
              reason: 'a run under this id was not the recorded one',
              detail: { seen },
            },
          }),
        ],
        [],
      );
      report.terminated.push(id);
      return restart(start, now);
    }
    if (seen?.isRunning) {
      // Started before Records made the decisions: it switches to a run that reads them.
      if (start.earlier) await workflows.wake(id);
      // It has stayed up for as long as the restart pause.
      if (start.restarts > 0 && !waits(start, now)) await records.restarted(id, null);
      return;
    }
    // It may have ended since it was read. A workflow records its end before it ends.
    if ((await records.start(id))?.closedAt !== null) return;
    if (seen && endsWhenEnded(start) && !(await records.step(id, 'stopped'))) {
      await records.recordStep(id, 'stopped', { why: 'ended by an operator: start another one' });
      report.ended.push(id);
      return startAgain(start);
    }
    await restart(start, now);
  }

  async function restart(start: StartRow, now: string): Promise<void> {
    const { workflowId: id, restarts } = start;
    if (waits(start, now)) {
      report.waiting.push(id);
      return;
    }
    const pause = Math.min(BACKOFF_MS.first * 2 ** restarts, BACKOFF_MS.most);
    await records.restarted(id, new Date(Date.parse(now) + pause).toISOString());
    await startAgain(start);
    log.info({ workflowId: id, restarts }, 'resumed from the record');
    report.restarted.push(id);
  }

  async function startAgain({ workflowId: id, type, input, project }: StartRow): Promise<void> {
    // The new run has none of the earlier signals.
    for (const key of signalled.keys()) if (key.startsWith(keyOf(id, ''))) signalled.delete(key);
    switch (type) {
      case 'modelLifecycle':
        return void (await workflows.startLifecycle(input as LifecycleInput));
      case 'evaluation':
        return void (await workflows.startEvaluation(input as EvaluationInput));
      case 'application':
        return void (await workflows.startApplication(input as { application: string; type: string }, project ?? ''));
      case 'feedback':
        return void (await workflows.startFeedback(input as { project: string; scan: string }));
      case 'dataImport':
        return void (await workflows.startImport(input as DataImportInput));
      case 'trainingRun':
      case 'release':
      case 'delivery':
        // Their parents start them.
        return;
    }
  }

  /**
   * Foreign: another type, another queue, or a run that has not recorded itself although none of its steps waits for a
   * worker. Our workflows record themselves in their first step. A run that follows from the recorded one by a reset may
   * already have passed that step.
   */
  async function isForeign(row: StartRow, seen: Seen): Promise<boolean> {
    const { workflowId: id, type, earlier } = row;
    if (seen.type !== type || seen.taskQueue !== taskQueues.core) return true;
    if (seen.isComing || earlier || row.runId === seen.runId) return false;
    // It may have recorded itself, or ended, since it was read.
    const start = await records.start(id);
    if (!start || start.closedAt !== null || start.runId === seen.runId) return false;
    if (start.runId === null) return true;
    const recorded = await workflows.look(id, start.runId);
    return seen.firstRunId !== start.runId && seen.firstRunId !== recorded?.firstRunId;
  }

  /** Starts the workflows of application types whose start was not recorded, because the API ended before. */
  async function startTypes(): Promise<void> {
    for (const { application, type, project, owner } of await records.unstartedTypes(PAGE)) {
      await startApplicationType({ records, workflows }, { application, type }, { askedBy: owner, roles: [], project });
      report.restarted.push(workflowId.application({ application, type }));
    }
  }

  /** Signals every undecided command: those whose workflow does not run must not keep later ones from theirs. */
  async function signalAgain(): Promise<void> {
    const now = Date.parse(await records.clock());
    const ago = (ms: number): string => new Date(now - ms).toISOString();
    const undone = { before: ago(RESIGNAL_AFTER_MS), pendingBefore: ago(PENDING_AFTER_MS), limit: COMMANDS };
    const found = new Set<string>();
    for (let last: CommandBody | undefined; ;) {
      const page = await records.openCommands({ ...undone, ...(last && { after: last }) });
      for (const command of page) {
        if (isAway) return;
        const { workflowId: id, commandId } = command.body;
        const key = keyOf(id, commandId);
        found.add(key);
        const earlier = signalled.get(key);
        // Temporal limits the signals of a workflow, also of one whose worker is down for a day.
        if (earlier && performance.now() < earlier.next) continue;
        const pauseMs = Math.min(2 * (earlier?.pauseMs ?? EVERY_MS / 2), BACKOFF_MS.most);
        // Half an interval less, so that a sweep that is a little early does not skip its turn.
        signalled.set(key, { next: performance.now() + pauseMs - EVERY_MS / 2, pauseMs });
        await workflows.sendCommand(id, command).then(
          () => (report.signalled += 1),
          (error: unknown) => {
            // What was not delivered does not count.
            signalled.delete(key);
            if (!isGatewayError(error)) throw error;
            isAway = isGatewayError(error, 'unavailable');
          },
        );
      }
      last = page.at(-1)?.body;
      if (page.length < COMMANDS) break;
    }
    for (const key of signalled.keys()) if (!found.has(key)) signalled.delete(key);
  }
}

/** Key of a command in {@link Signalled}. Neither part contains a space. */
const keyOf = (workflowId: string, commandId: string): string => `${workflowId} ${commandId}`;

/** Whether it is too early for another restart. Both times are from the record's clock. */
const waits = ({ restartAt }: StartRow, now: string): boolean =>
  restartAt !== null && Date.parse(restartAt) > Date.parse(now);

/** Workflow types that are finished when someone ends them. All others are resumed: only a person's command ends them. */
const endsWhenEnded = ({ type }: StartRow): boolean => type === 'evaluation' || type === 'dataImport';

/** Sweeps immediately, then every half minute. */
export function keepSweeping(deps: Deps): { readonly stop: () => Promise<void> } {
  const ending = new AbortController();
  const signalled: Signalled = new Map();
  const running = (async () => {
    while (!ending.signal.aborted) {
      await sweep(deps, signalled).catch((error: unknown) =>
        deps.log.warn({ error: String(error) }, 'the sweep is retried'),
      );
      await sleep(EVERY_MS, undefined, { signal: ending.signal }).catch(() => undefined);
    }
  })();
  return {
    async stop() {
      ending.abort();
      await running;
    },
  };
}
