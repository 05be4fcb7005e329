// `ocdl start`: runs the embedded platform in the foreground until Ctrl-C.
import { stopOnSignals } from '../../deploy/local/ctrl-c.ts';
import { startPlatform } from '../../deploy/local/platform.ts';
import { embeddedProcesses, type ProcessTable } from '../../deploy/local/processes.ts';
import { readSettings } from '../../deploy/local/settings.ts';
import { parseFlags } from './flags.ts';

/** Starts the platform and waits until it stops; returns the exit code. */
export async function start(argv: readonly string[], processes: ProcessTable = embeddedProcesses): Promise<number> {
  const flag = parseFlags(argv, 'start', { verbose: 'show every log line, not only warnings and errors' });
  if (flag === undefined) return 0;
  const settings = readSettings();
  const say = (line: string): void => console.log(line);
  const { stop, force } = stopOnSignals(say);

  const began = Date.now();
  say(`Starting the platform on ${settings.home}; logs in ${settings.home}/logs.`);
  const options = { settings, processes, say, verbose: flag('verbose'), stop, force };
  const platform = await startPlatform(options).catch((error: unknown) => {
    if (stop.aborted) return undefined;
    throw error;
  });
  if (platform !== undefined) {
    say(`\nThe platform is ready after ${((Date.now() - began) / 1000).toFixed(1)} s.`);
    say(`  API               ${platform.apiUrl}`);
    if (platform.uiUrl !== '') say(`  Temporal Web UI   ${platform.uiUrl}`);
    if (platform.adminToken !== undefined) {
      say(`  Administrator     ${platform.adminToken}`);
      say('                    (this token is shown only once: store it now)');
    }
    say('Press Ctrl-C to stop it; all data is kept for the next start.\n');
    const { error } = await platform.ended;
    if (error !== undefined) throw error;
  }
  say('The platform has stopped.');
  return force.aborted ? 130 : 0;
}
