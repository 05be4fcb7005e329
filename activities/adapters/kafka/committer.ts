// Commits how far a partition has come while the next event is already being handled.

export interface Committer {
  /** Everything before `offset` is finished. */
  note(offset: string): void;
  /** Resolves when few enough finished events are uncommitted, and not for long, to handle another one. Never rejects. */
  keptUp(): Promise<void>;
  /** Whether a commit has failed: then somebody else may have the partition. */
  failed(): boolean;
  /** Resolves when the last noted offset is committed; rejects when a commit has failed. */
  flush(): Promise<void>;
}

/**
 * With the one in hand, what comes again at most when the broker is lost. A commit takes about as long as so many handlers
 * that do nothing: with fewer they would wait for it (test/bench/README.md).
 */
const MOST_BEHIND = 50;
/** A commit usually takes a few milliseconds. One that takes longer may never end: slow handlers wait for it early. */
const SLOW_COMMIT_MS = 50;

/** One commit at a time; of what is noted meanwhile only the newest offset is committed, since it says all. */
export function createCommitter(commit: (offset: string) => Promise<void>): Committer {
  const errors: unknown[] = [];
  let newest: string | undefined;
  let running: Promise<void> | undefined;
  /** Finished and not known to be committed. */
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
