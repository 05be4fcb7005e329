// Waits for what comes eventually.
import { setTimeout as sleep } from 'node:timers/promises';

/** What takes a second here may take a minute on a machine that does much else. */
const PATIENCE_MS = 150_000;

/** Asks until there is an answer; tells what was waited for when there is none. */
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
    // Each question is a replay: at first it comes soon, then it does not hold up what is waited for.
    pause = Math.min(pause * 2, 200);
  }
}
