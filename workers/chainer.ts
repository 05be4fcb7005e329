// Links new audit rows into the hash chain, repeatedly and in the background.
import { setTimeout as sleep } from 'node:timers/promises';
import { LINKED_AT_ONCE, type Records } from '../activities/records.ts';

/** Rows are linked within a second, including the time that a batch takes. */
const EVERY_MS = 500;
/** Delay after a failure: the call itself has already retried for a short outage of the database. */
const AGAIN_AFTER_MS = 5_000;

/** Links rows until stopped. Several processes may run this: only one links at a time, and another takes over when it ends. */
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
      // Only a full batch leaves rows behind. Batches of the few rows written meanwhile would each be a commit that
      // takes of the writers' disk and processor.
      return (await records.linkAudit()) < LINKED_AT_ONCE ? everyMs : 0;
    } catch (error) {
      if (!signal.aborted)
        onWarn(`audit rows could not be linked: ${error instanceof Error ? error.message : String(error)}; retrying`);
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
