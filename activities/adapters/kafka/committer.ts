// Commits the offset of a partition while the next event is being handled.

export interface Committer {
  /** All offsets before `offset` are finished. */
  note(offset: string): void;
  /** Resolves when another event may be handled: few finished events are uncommitted, and not for long. Never rejects. */
  keptUp(): Promise<void>;
  /** Whether a commit has failed, so that another member may own the partition. */
  failed(): boolean;
  /** Resolves when the last noted offset is committed; rejects if a commit failed. */
  flush(): Promise<void>;
}

/**
 * Including the current event, the maximum that is redelivered after the loss of a broker. A commit takes about as long as
 * this many empty handlers; with fewer, they would wait for it (test/bench/README.md).
 */
const MOST_BEHIND = 50;
/** A commit usually takes a few milliseconds. A slower one may never end, so slow handlers wait for it early. */
const SLOW_COMMIT_MS = 50;

/** Runs one commit at a time; of the offsets noted meanwhile it commits only the newest, which covers all. */
export function createCommitter(commit: (offset: string) => Promise<void>): Committer {
  const errors: unknown[] = [];
  let newest: string | undefined;
  let running: Promise<void> | undefined;
  /** Finished offsets whose commit is not confirmed. */
  let behind = 0;
  let begun = 0;

  async function drain(): Promise<void> {
    try {
      while (newest !== undefined) {
        const offset = newest;
        newest = undefined;
        const covered = behind;
        begun = performance.now();
        await commit(offset);
        behind -= covered;
      }
    } catch (error) {
      errors.push(error);
    }
    running = undefined;
  }

  return {
    note: (offset) => {
      newest = offset;
      behind += 1;
      running ??= drain();
    },
    keptUp: async () => {
      if (behind >= MOST_BEHIND || performance.now() - begun > SLOW_COMMIT_MS) await running;
    },
    failed: () => errors.length > 0,
    flush: async () => {
      await running;
      if (errors.length > 0) throw errors[0];
    },
  };
}
