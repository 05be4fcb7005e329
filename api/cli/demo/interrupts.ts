// Ctrl-C on the demo: once ends it in order, twice at once.

/** A package manager passes a Ctrl-C on that the terminal has delivered already: so close together they are one. */
const samePressMs = 1_000;

export type Interrupts = { readonly stop: AbortSignal; readonly force: AbortSignal };

/** Turns the signals that end a program into two abort signals. */
export function listenForInterrupts(say: (line: string) => void): Interrupts {
  const stop = new AbortController();
  const force = new AbortController();
  const pressed: { at?: number } = {};
  // A terminal that was closed takes nothing any more; the platform still has to end in order.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const now = Date.now();
      if (pressed.at === undefined) {
        pressed.at = now;
        say('\nStopping. (Ctrl-C again ends it at once.)');
        stop.abort();
      } else if (now - pressed.at > samePressMs) {
        say('Ending at once.');
        force.abort();
      }
    });
  }
  return { stop: stop.signal, force: force.signal };
}
