// How each of our processes behaves: structured logs, readiness by IPC, a clean end when told to or when its parent is gone.
import { pino, type Logger } from 'pino';
import { messageOf } from '../activities/failures.ts';

/** JSON lines on standard output (pino). */
export const createLog = (name: string, level: string): Logger => pino({ name, level });

/**
 * Runs a program. What it cannot go on from (a wrong configuration, a system that refuses it) is said in one line, and ends
 * the process at once: what is open already would keep it for half a minute.
 */
export async function run(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    createLog(name, 'fatal').fatal({ error: messageOf(error) }, 'cannot run');
    process.exit(1);
  }
}

/** Calls `stop` once, at SIGTERM, SIGINT or when the process that started this one has gone. */
export function onEnd(log: Logger, stop: () => Promise<void> | void): void {
  let ending = false;
  const end = (why: string): void => {
    if (ending) return;
    ending = true;
    log.info({ why }, 'stopping');
    void (async () => stop())().catch((error: unknown) => {
      log.error({ error: String(error) }, 'could not stop cleanly');
      process.exit(1);
    });
  };
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  if (process.send) process.on('disconnect', () => end('the parent process has ended'));
}

/** Ends the process because it turned out to belong to another installation than a system that it uses. */
export const refused =
  (log: Logger) =>
  (error: Error): void => {
    log.fatal({ error: messageOf(error) }, 'cannot run on');
    process.exit(1);
  };

/** Tells the process that started this one that it works now. */
export function tellReady(more: Readonly<Record<string, unknown>> = {}): void {
  process.send?.({ type: 'ready', ...more });
}

/** Lets go of the parent's channel, so that the process can end by itself. */
export function letGo(): void {
  if (process.connected) process.disconnect();
}
