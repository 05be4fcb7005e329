// Moves workflows from before Records decided to a new run, which reads the records, as soon as they stop replaying.
import { patched } from '@temporalio/workflow';

export interface GoingOver {
  /** Wraps activities: after each one the workflow checks whether to continue as new. */
  watch<A extends object>(activities: A): A;
  /** Running children are awaited first: otherwise their results would be lost. */
  awaiting<R>(child: () => Promise<R>): Promise<R>;
  /** Continues as new unless this is a replay. */
  look(): void;
  /** Runs the old workflow code until it continues as new. */
  run<R>(main: () => Promise<R>): Promise<R>;
}

/** @param handOver continues as new */
export function goingOver(handOver: () => Promise<never>): GoingOver {
  let due: () => void = () => undefined;
  // A plain promise: the workflow's cancellation must not end the wait for it.
  const isDue = new Promise<void>((resolve) => (due = resolve));
  const state = { children: 0, going: false };
  const look = (): void => {
    if (state.going || state.children > 0 || !patched('goes-over')) return;
    state.going = true;
    due();
  };
  const never = new Promise<never>(() => undefined);
  return {
    look,
    watch<A extends object>(activities: A): A {
      return new Proxy(activities, {
        get(target, name) {
          const activity = Reflect.get(target, name) as (input: unknown) => Promise<unknown>;
          return async (input: unknown) => {
            try {
              return await activity(input);
            } finally {
              look();
              // The new run decides what the old code would do next.
              if (state.going) await never;
            }
          };
        },
      });
    },
    async awaiting(child) {
      state.children += 1;
      try {
        return await child();
      } finally {
        state.children -= 1;
        look();
        if (state.going) await never;
      }
    },
    async run(main) {
      return Promise.race([main(), isDue.then(handOver)]);
    },
  };
}
