// Concurrent scenes, limited by the number of lanes.

/** Runs work in at most `count` lanes; further work waits for a free one. */
export function lanes(count: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => Promise<void>)[] = [];
  const state = { busy: 0 };
  const next = (): void => {
    const work = state.busy < count ? waiting.shift() : undefined;
    if (!work) return;
    state.busy += 1;
    void work().then(() => {
      state.busy -= 1;
      next();
    });
  };
  return (work) =>
    new Promise((resolve, reject) => {
      waiting.push(() => work().then(resolve, reject));
      next();
    });
}
