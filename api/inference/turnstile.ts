// Lets one caller through at a time and a bounded number wait; who comes when all places are taken is told so.

/** Every place is taken. */
export class TurnstileFullError extends Error {
  constructor(places: number) {
    super(`${places} requests are already waiting`);
    this.name = 'TurnstileFullError';
  }
}

export interface Turnstile {
  /** Takes a place, until the returned function is called (once). Throws `TurnstileFullError`. */
  readonly enter: () => () => void;
  /** Runs `work` after all that came before has ended. */
  readonly pass: <T>(work: () => Promise<T>) => Promise<T>;
}

/** A turnstile with so many places, the one being served included. */
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
      // A failure is the caller's own; the next one's turn comes all the same.
      state.last = turn.catch(() => undefined);
      return turn;
    },
  };
};
