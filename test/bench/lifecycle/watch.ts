// Watches activities end, and counts what each of them costs: its statements to the database.
import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from '@temporalio/activity';
import pg from 'pg';

/** Quiet for so long means that nothing follows any more. */
const QUIET_MS = 40;
const PATIENCE_MS = 60_000;

interface Ended {
  readonly workflowId: string;
  readonly activity: string;
  readonly result: unknown;
}

/** What one kind of activity has cost so far. */
export interface Cost {
  readonly times: number;
  readonly statements: number;
  readonly ms: number;
}

export type Watch = ReturnType<typeof openWatch>;

/** Opens one for a contender; its `interceptor` goes outside of all others. */
export function openWatch() {
  const waiting = new Set<(ended: Ended) => void>();
  const failing = new Set<(error: Error) => void>();
  const costs = new Map<string, Cost>();
  const state = { running: 0, quietSince: performance.now(), failed: 0 };
  return {
    interceptor: (context: Context) => ({
      inbound: {
        async execute<I, R>(input: I, next: (input: I) => Promise<R>): Promise<R> {
          const { activityType: activity, workflowExecution } = context.info;
          state.running += 1;
          const counted = { statements: 0 };
          const begun = performance.now();
          try {
            const result = await counting.run(counted, () => next(input));
            for (const see of [...waiting]) see({ workflowId: workflowExecution?.workflowId ?? '', activity, result });
            return result;
          } catch (error) {
            // It is tried again, which would take its time: such a passage does not count.
            console.error(`${activity} failed: ${String(error)}`);
            state.failed += 1;
            for (const fail of [...failing]) fail(new Error(`${activity} failed`, { cause: error }));
            throw error;
          } finally {
            const { times, statements, ms } = costs.get(activity) ?? { times: 0, statements: 0, ms: 0 };
            const total = ms + performance.now() - begun;
            costs.set(activity, { times: times + 1, statements: statements + counted.statements, ms: total });
            state.running -= 1;
            state.quietSince = performance.now();
          }
        },
      },
    }),
    /** Resolves when an activity of the workflow has ended with a result that fits. Ask before what brings it about. */
    until(workflowId: string, fits: (ended: Ended) => boolean): Promise<unknown> {
      return new Promise((resolve, reject) => {
        const settle = (): void => {
          clearTimeout(timer);
          waiting.delete(see);
          failing.delete(fail);
        };
        const fail = (error: Error): void => {
          settle();
          reject(error);
        };
        const see = (ended: Ended): void => {
          if (ended.workflowId !== workflowId || !fits(ended)) return;
          settle();
          resolve(ended.result);
        };
        const timer = setTimeout(() => fail(new Error(`waited ${PATIENCE_MS} ms for ${workflowId}`)), PATIENCE_MS);
        waiting.add(see);
        failing.add(fail);
      });
    },
    /** Resolves once no activity has run for a while. */
    async rest(): Promise<void> {
      if (state.failed > 0) throw new Error(`${state.failed} activities failed: there is nothing to measure`);
      while (state.running > 0 || performance.now() - state.quietSince < QUIET_MS) await sleep(QUIET_MS / 4);
    },
    /** Costs by activity since the last call. */
    takeCosts(): ReadonlyMap<string, Cost> {
      const taken = new Map(costs);
      costs.clear();
      return taken;
    },
  };
}

const counting = new AsyncLocalStorage<{ statements: number }>();

/** Counts the statements that this process sends, by the activity that sends them. Called once. */
export function countStatements(): void {
  const prototype = pg.Client.prototype as { query: (...given: unknown[]) => unknown };
  const { query } = prototype;
  prototype.query = function counted(this: unknown, ...given: unknown[]): unknown {
    const store = counting.getStore();
    if (store) store.statements += 1;
    return query.apply(this, given);
  };
}
