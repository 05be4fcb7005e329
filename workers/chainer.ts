// Keeps the audit's chain: links what was written, again and again, beside whatever else the process does.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Records } from '../activities/records.ts';

/** Rows are linked within a second, also where a batch takes its time. */
const EVERY_MS = 500;
/** After a failure: the call itself has waited for a database that comes back at once. */
const AGAIN_AFTER_MS = 5_000;

/** Links until it is stopped. Several processes may do so: one at a time links, and when it ends another one does. */
export function keepLinked(deps: {
  readonly records: Pick<Records, 'linkAudit'>;
  readonly onWarn: (message: string) => void;
  readonly everyMs?: number;
}): { readonly stop: () => Promise<void> } {
  const { records, onWarn, everyMs = EVERY_MS } = deps;
  const ending = new AbortController();
  const { signal } = ending;

  async function work(): Promise<void> {
    while (!signal.aborted) {
      const pauseMs = await next();
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Links a batch; returns how long to wait for the next one. */
  async function next(): Promise<number> {
    try {
      // Where there was something there may be more.
      return (await records.linkAudit()) > 0 ? 0 : everyMs;
    } catch (error) {
      if (!signal.aborted)
        onWarn(`the audit is not linked: ${error instanceof Error ? error.message : String(error)}; it is tried again`);
      return AGAIN_AFTER_MS;
    }
  }

  const working = work();
  return {
    async stop() {
      ending.abort();
      await working;
    },
  };
}
