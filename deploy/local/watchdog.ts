// Stops a platform's children if its supervisor has died without stopping them (kill -9); it notices when its standard input closes.
// Usage: watchdog.ts RUN_FOLDER SUPERVISOR_PID SUPERVISOR_START
import { endLeftovers } from './run-records.ts';

const [folder = '', pid = '', startedAs = ''] = process.argv.slice(2);
// Only the supervisor decides: signals to the terminal's process group must not stop the watchdog first.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.stdin.resume();
process.stdin.on('end', () => {
  endLeftovers(folder, { pid: Number(pid), startedAs }).then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
