// Undoing: each step registers how to take it back before it acts; on failure all run, newest first, also when cancelled.
import { CancellationScope, log } from '@temporalio/workflow';

/** A list of undo steps. Each must be harmless when its act never happened and when it runs twice. */
export function compensations() {
  const steps: { what: string; undo: () => Promise<unknown> }[] = [];
  return {
    /** Call this before the act. */
    add(what: string, undo: () => Promise<unknown>): void {
      steps.unshift({ what, undo });
    },
    /** Runs every step; a failing one is reported and does not stop the others. */
    run(): Promise<void> {
      return CancellationScope.nonCancellable(async () => {
        for (const { what, undo } of steps.splice(0)) {
          try {
            await undo();
          } catch (error) {
            log.error(`could not ${what}`, { error: String(error) });
          }
        }
      });
    },
  };
}
