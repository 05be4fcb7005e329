// Common behaviour of our processes: structured logs, readiness over IPC, clean shutdown on a signal or when the parent has ended.
import { pino, type Logger } from 'pino';
import { messageOf } from '../activities/failures.ts';

/** JSON lines on standard output (pino). */
export const createLog = (name: string, level: string): Logger => pino({ name, level });

/**
 * Runs a program. A fatal error (an invalid configuration, a system that refuses it) is logged in one line and ends the process
 * immediately: open connections would keep it alive for half a minute.
 */
export async function run(name: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    createLog(name, 'fatal').fatal({ error: messageOf(error) }, 'cannot run');
    process.exit(1);
  }
}

/** Calls `stop` once, on SIGTERM, SIGINT or when the parent process has ended. */
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

/** Ends the process because a system that it uses belongs to another installation. */
export const refused =
  (log: Logger) =>
  (error: Error): void => {
    log.fatal({ error: messageOf(error) }, 'cannot continue');
    process.exit(1);
  };

/** Reports readiness to the parent process. */
export function tellReady(more: Readonly<Record<string, unknown>> = {}): void {
  process.send?.({ type: 'ready', ...more });
}

/** Closes the IPC channel to the parent, which otherwise keeps the process alive. */
export function closeParentChannel(): void {
  if (process.connected) process.disconnect();
}
