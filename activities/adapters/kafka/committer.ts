// Commits how far a partition has come while the next event is already being handled.

export interface Committer {
  /** Everything before `offset` is finished. */
  note(offset: string): void;
  /** Whether a commit has failed: then somebody else may have the partition. */
  failed(): boolean;
  /** Resolves when the last noted offset is committed; rejects when a commit has failed. */
  flush(): Promise<void>;
}

/** One commit at a time; of what is noted meanwhile only the newest offset is committed, since it says all. */
export function createCommitter(commit: (offset: string) => Promise<void>): Committer {
  const errors: unknown[] = [];
  let newest: string | undefined;
  let running: Promise<void> | undefined;

  async function drain(): Promise<void> {
    try {
      while (newest !== undefined) {
        const offset = newest;
        newest = undefined;
        await commit(offset);
      }
    } catch (error) {
      errors.push(error);
    }
    running = undefined;
  }

  return {
    note: (offset) => {
      newest = offset;
      running ??= drain();
    },
    failed: () => errors.length > 0,
    flush: async () => {
      await running;
      if (errors.length > 0) throw errors[0];
    },
  };
}
