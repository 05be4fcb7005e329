// Ends a platform's children when its supervisor has died without doing so (kill -9): its standard input then closes.
// Usage: watchdog.ts RUN_FOLDER SUPERVISOR_PID SUPERVISOR_START
import { endLeftovers } from './run-records.ts';

const [folder = '', pid = '', startedAs = ''] = process.argv.slice(2);
// The supervisor alone decides: signals meant for the terminal's whole group must not take the watchdog first.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.stdin.resume();
process.stdin.on('end', () => {
  endLeftovers(folder, { pid: Number(pid), startedAs }).then(
    () => process.exit(0),
    () => process.exit(1),
  );
});
