// `ocdl start` with stand-ins, as a separate process that a test can kill. Flag: --real-servers.
import { start } from '../../../api/cli/start.ts';
import { standIns } from './processes.ts';

const realServers = process.argv.includes('--real-servers');
try {
  process.exit(await start([], standIns({ realServers })));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
