// Polls until a condition holds.
import { setTimeout as sleep } from 'node:timers/promises';

/** An operation of one second may take a minute on a busy machine. */
const PATIENCE_MS = 150_000;

/** Polls until there is an answer; on timeout the error names what was expected. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | null | false>,
  withinMs = PATIENCE_MS,
): Promise<T> {
  const end = Date.now() + withinMs;
  let pause = 25;
  for (;;) {
    const answer = await ask().catch((error: unknown) => {
      if (Date.now() > end) throw error;
      return undefined;
    });
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${withinMs} ms for ${what}`);
    await sleep(pause);
    // Each query is a replay: the interval grows so that polling does not delay the awaited work.
    pause = Math.min(pause * 2, 200);
  }
}
