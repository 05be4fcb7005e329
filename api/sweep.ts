// Resumes from the record what is open and does not run: after a terminate, after a loss of Temporal's history, after a start that did not get through.
import { setTimeout as sleep } from 'node:timers/promises';
import type { StartRow } from '../activities/records.ts';
import type { DataImportInput, EvaluationInput, LifecycleInput } from '../workflows/messages.ts';
import { parseWorkflowId, taskQueues } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import type { Seen } from './gateway.ts';
import { isGatewayError } from './gateway.ts';

/** How often it looks by itself. */
const EVERY_MS = 30_000;
/** Rows per page: what is looked at under one hold of the lock. */
const PAGE = 50;
/** A command that nobody decided about for so long is signalled again. */
const RESIGNAL_AFTER_MS = 5_000;
/** A run has recorded itself by then, or it is not one of ours. */
const BEGUN_WITHIN_MS = 60_000;
/** Pauses between restarts of what does not stay up: a minute, doubled each time, at most an hour. */
const BACKOFF_MS = { first: 60_000, most: 3_600_000 } as const;

export interface SweepReport {
  /** Workflows that were open in the record and not running, and were started again. */
  readonly restarted: readonly string[];
  /** Those that wait for their next restart. */
  readonly waiting: readonly string[];
  /** Work that somebody has ended by hand, recorded as failed. */
  readonly ended: readonly string[];
  /** Runs under an id of ours that are not ours. */
  readonly terminated: readonly string[];
  /** Commands that were signalled again. */
  readonly signalled: number;
}

type Deps = Pick<ApiDeps, 'records' | 'workflows' | 'log'>;

/** Looks at everything that is open, once. Several processes may do so: one at a time does. */
export async function sweep({ records, workflows, log }: Deps): Promise<SweepReport> {
  const report = {
    restarted: [] as string[],
    waiting: [] as string[],
    ended: [] as string[],
    terminated: [] as string[],
    signalled: 0,
  };
  // While the server is away nothing can be looked at, and each look would wait for it.
  let isAway = false;
  let after: string | undefined;
  do {
    const page = await records.exclusively('sweep', async () => {
      const found = await records.openStarts({ limit: PAGE, ...(after !== undefined && { after }) });
      for (const start of found.rows) {
        if (isAway) break;
        await one(start).catch((error: unknown) => {
          isAway = isGatewayError(error, 'unavailable');
          // One that cannot be looked at delays no other.
          log.warn({ workflowId: start.workflowId, error: String(error) }, 'could not be resumed yet');
        });
      }
      return found;
    });
    // Another process is sweeping, or there is nothing to ask.
    if (!page || isAway) return report;
    after = page.next;
  } while (after !== undefined);
  await signalAgain();
  return report;

  async function one(start: StartRow): Promise<void> {
    const { workflowId: id } = start;
    const seen = await workflows.look(id);
    if (seen?.isRunning && isForeign(start, seen)) {
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
      return restart(start);
    }
    if (seen?.isRunning) {
      // Started before Records decided: it goes over to a run that reads them.
      if (start.earlier) await workflows.wake(id);
      const isUp = Date.now() - Date.parse(seen.startedAt) > BEGUN_WITHIN_MS;
      if (start.restarts > 0 && isUp) await records.restarted(id, null);
      return;
    }
    if (seen && endsWhenEnded(start)) {
      await endByHand(start);
      report.ended.push(id);
      return;
    }
    await restart(start);
  }

  async function restart(start: StartRow): Promise<void> {
    const { workflowId: id, restartAt, restarts } = start;
    if (restartAt !== null && Date.parse(restartAt) > Date.now()) {
      report.waiting.push(id);
      return;
    }
    const pause = Math.min(BACKOFF_MS.first * 2 ** restarts, BACKOFF_MS.most);
    await records.restarted(id, new Date(Date.now() + pause).toISOString());
    await startAgain(start);
    log.info({ workflowId: id, restarts }, 'resumed from the record');
    report.restarted.push(id);
  }

  async function startAgain({ type, input, project }: StartRow): Promise<void> {
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

  /** Whoever ended it meant it: it has failed, and says so. */
  async function endByHand({ workflowId: id }: StartRow): Promise<void> {
    const of = parseWorkflowId(id)?.of ?? {};
    const [detail, updatedAt] = ['ended by an operator: start another one', new Date().toISOString()];
    if ('evaluation' in of) {
      const row = await records.evaluation(of['project'] ?? '', of['evaluation'] ?? '');
      if (row?.state === 'running')
        await records.endEvaluation({ ...row, state: 'failed', detail, updatedAt }, { inStaging: false });
    } else {
      const row = await records.import(of['project'] ?? '', of['import'] ?? '');
      if (row) await records.recordImport({ ...row, state: 'failed', detail, updatedAt }, null);
    }
    await records.closeStart(id, 'ended by an operator');
  }

  async function signalAgain(): Promise<void> {
    const before = new Date(Date.now() - RESIGNAL_AFTER_MS).toISOString();
    for (const command of await records.openCommands({ before, limit: 500 }))
      await workflows.sendCommand(command.body.workflowId, command).then(
        () => (report.signalled += 1),
        (error: unknown) => {
          if (!isGatewayError(error)) throw error;
        },
      );
  }
}

/** Another type, another queue, or a run that has had its time and has not recorded itself. */
function isForeign({ type, runId }: StartRow, seen: Seen): boolean {
  if (seen.type !== type || seen.taskQueue !== taskQueues.core) return true;
  return runId !== null && runId !== seen.runId && Date.now() - Date.parse(seen.startedAt) > BEGUN_WITHIN_MS;
}

/** What is over when somebody ends it. Everything else goes on: only a command of a person ends it. */
const endsWhenEnded = ({ type }: StartRow): boolean => type === 'evaluation' || type === 'dataImport';

/** Sweeps at once and from then on every half minute. */
export function keepSweeping(deps: Deps): { readonly stop: () => Promise<void> } {
  const ending = new AbortController();
  const running = (async () => {
    while (!ending.signal.aborted) {
      await sweep(deps).catch((error: unknown) => deps.log.warn({ error: String(error) }, 'the sweep is tried again'));
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
