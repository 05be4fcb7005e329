// Admits one caller at a time and lets a bounded number wait; further callers are refused.

/** Every place is taken. */
export class TurnstileFullError extends Error {
  constructor(places: number) {
    super(`${places} requests are already waiting`);
    this.name = 'TurnstileFullError';
  }
}

export interface Turnstile {
  /** Takes a place until the returned function is called (once). Throws `TurnstileFullError`. */
  readonly enter: () => () => void;
  /** Runs `work` after all earlier work has ended. */
  readonly pass: <T>(work: () => Promise<T>) => Promise<T>;
}

/** A turnstile with `places` places, including the one being served. */
export const createTurnstile = (places: number): Turnstile => {
  const state: { taken: number; last: Promise<unknown> } = { taken: 0, last: Promise.resolve() };
  return {
    enter: () => {
      if (state.taken >= places) throw new TurnstileFullError(places);
      state.taken += 1;
      return () => {
        state.taken -= 1;
      };
    },
    pass: (work) => {
      const turn = state.last.then(work);
      // A failure concerns only its caller; the next one proceeds.
      state.last = turn.catch(() => undefined);
      return turn;
    },
  };
};
