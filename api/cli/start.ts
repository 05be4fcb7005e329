// `ocdl start`: runs the embedded platform in the foreground until Ctrl-C.
import { startPlatform } from '../../deploy/local/platform.ts';
import { embeddedProcesses, type ProcessTable } from '../../deploy/local/processes.ts';
import { readSettings } from '../../deploy/local/settings.ts';
import { parseFlags } from './flags.ts';

/** A package manager passes a Ctrl-C on that the terminal has delivered already: so close together they are one. */
const samePressMs = 1_000;

/** Starts the platform and waits for its end; returns the exit code. */
export async function start(argv: readonly string[], processes: ProcessTable = embeddedProcesses): Promise<number> {
  const flag = parseFlags(argv, 'start', { verbose: 'show every log line, not only warnings and errors' });
  if (flag === undefined) return 0;
  const settings = readSettings();
  const stop = new AbortController();
  const force = new AbortController();
  // A terminal that was closed takes nothing any more; the platform still has to end in order.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const say = (line: string): void => console.log(line);

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

  const began = Date.now();
  say(`Starting the platform on ${settings.home}; logs in ${settings.home}/logs.`);
  const options = { settings, processes, say, verbose: flag('verbose'), stop: stop.signal, force: force.signal };
  const platform = await startPlatform(options).catch((error: unknown) => {
    if (stop.signal.aborted) return undefined;
    throw error;
  });
  if (platform !== undefined) {
    say(`\nThe platform is ready after ${((Date.now() - began) / 1000).toFixed(1)} s.`);
    say(`  Console and API   ${platform.apiUrl}`);
    if (platform.uiUrl !== '') say(`  Temporal Web UI   ${platform.uiUrl}`);
    if (platform.adminToken !== undefined) {
      say(`  Administrator     ${platform.adminToken}`);
      say('                    (this token is shown once, now: keep it)');
    }
    say('Ctrl-C ends it; everything is kept for the next start.\n');
    const { error } = await platform.ended;
    if (error !== undefined) throw error;
  }
  say('The platform has ended.');
  return force.signal.aborted ? 130 : 0;
}
