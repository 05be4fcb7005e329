// Turns a first signal into an orderly shutdown and a second one into an immediate one.

/** A package manager forwards a Ctrl-C that the terminal has already delivered: signals this close together count as one. */
const samePressMs = 1_000;

/**
 * Listens for the signals that stop a foreground program: the first aborts `stop`, a later one `force`. If `reasonToAsk` returns
 * a reason, the first Ctrl-C only says it, and the next one stops.
 */
export function stopOnSignals(
  say: (line: string) => void,
  reasonToAsk: () => string | undefined = () => undefined,
): {
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
} {
  const stop = new AbortController();
  const force = new AbortController();
  // Writes to a closed terminal fail; the shutdown must still complete.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const pressed: { asked?: number; at?: number } = {};
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const now = Date.now();
      if (signal === 'SIGINT' && pressed.at === undefined) {
        if (now - (pressed.asked ?? -Infinity) <= samePressMs) return;
        const reason = pressed.asked === undefined ? reasonToAsk() : undefined;
        if (reason !== undefined) {
          pressed.asked = now;
          say(`${reason}. Press Ctrl-C again to stop anyway.`);
          return;
        }
      }
      if (pressed.at === undefined) {
        pressed.at = now;
        say('Stopping. Press Ctrl-C again to kill all processes.');
        stop.abort();
      } else if (now - pressed.at > samePressMs) {
        say('Killing all processes.');
        force.abort();
      }
    });
  }
  return { stop: stop.signal, force: force.signal };
}
