// Starts the watchdog process of a supervisor and keeps it running; see watchdog.ts.
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { identifySelf } from './process-identity.ts';

export type Watchdog = {
  /** Stops the watchdog; call it when no children are left. */
  readonly end: () => Promise<void>;
};

/** Delay before a dead watchdog is replaced: without it, one that cannot run at all would occupy a core. */
const replaceAfterMs = 2_000;

/** Starts the watchdog for the records of a run folder. */
export function startWatchdog(runFolder: string): Watchdog {
  const self = identifySelf();
  const file = fileURLToPath(new URL('./watchdog.ts', import.meta.url));
  const state: { current?: ChildProcess; ending: boolean; timer?: NodeJS.Timeout } = { ending: false };
  const start = (): void => {
    const child = spawn(process.execPath, ['--import', 'tsx', file, runFolder, String(self.pid), self.startedAs], {
      cwd: new URL('../../', import.meta.url),
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    state.current = child;
    child.stdin.on('error', () => undefined);
    child.once('error', () => undefined);
    child.once('exit', () => {
      if (!state.ending) state.timer = setTimeout(start, replaceAfterMs);
    });
  };
  start();
  return {
    end: async () => {
      state.ending = true;
      clearTimeout(state.timer);
      const child = state.current;
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.stdin?.end();
      await gone;
    },
  };
}
