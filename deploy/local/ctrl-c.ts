// Turns a person's signals into an orderly end, and a second one into an end at once.

/** A package manager passes a Ctrl-C on that the terminal has delivered already: so close together they are one. */
const samePressMs = 1_000;

/** Listens to the signals that end a program in the foreground: the first aborts `stop`, a later one `force`. */
export function stopOnSignals(say: (line: string) => void): {
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
} {
  const stop = new AbortController();
  const force = new AbortController();
  // A terminal that was closed takes nothing any more; all still has to end in order.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const pressed: { at?: number } = {};
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const now = Date.now();
      if (pressed.at === undefined) {
        pressed.at = now;
        say('Stopping. (Ctrl-C again ends it at once.)');
        stop.abort();
      } else if (now - pressed.at > samePressMs) {
        say('Ending at once.');
        force.abort();
      }
    });
  }
  return { stop: stop.signal, force: force.signal };
}
