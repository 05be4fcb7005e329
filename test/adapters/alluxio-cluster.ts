// A separate Alluxio over the test run's HDFS, whose processes can be paused and killed, and are restarted when they die.
import { join } from 'node:path';
import { superviseChild, type SupervisedChild } from '../../deploy/local/child.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { alluxio } from '../../deploy/stack/alluxio.ts';
import { fetchJava } from '../../deploy/stack/programs.ts';
import { hdfsServer, programs } from '../servers.ts';
import { runFolder } from '../servers-stop.ts';
import { scratchFolder } from './scratch-folder.ts';

export interface OwnAlluxio {
  readonly url: string;
  readonly master: SupervisedChild;
  readonly worker: SupervisedChild;
  readonly proxy: SupervisedChild;
  readonly close: () => Promise<void>;
}

/** Starts all three and waits until they answer. */
export async function ownAlluxio(): Promise<OwnAlluxio> {
  const scratch = await scratchFolder();
  const port = (): Promise<number> => anyFreePort('127.0.0.1');
  const ports = {
    master: await port(),
    masterWeb: await port(),
    worker: await port(),
    workerWeb: await port(),
    proxy: await port(),
  };
  const program = await fetchJava('alluxio', programs);
  const specs = alluxio({ program, folder: scratch.path, ports, hdfs: await hdfsServer() });
  // Recorded with the test run: its end is theirs as well, should this process be killed.
  const home = { run: join(runFolder(), 'run'), logs: join(scratch.path, 'logs') };
  const supervised = (part: 'master' | 'worker' | 'proxy'): SupervisedChild =>
    superviseChild(
      { ...specs[part], name: `${specs[part].name}-${ports.proxy}` },
      { home, verbose: false, say: () => undefined, onGivenUp: (error) => process.stderr.write(`${error.message}\n`) },
    );
  const [master, worker, proxy] = [supervised('master'), supervised('worker'), supervised('proxy')];
  const close = async (): Promise<void> => {
    for (const each of [proxy, worker, master]) each.kill();
    await Promise.all([proxy, worker, master].map((each) => each.stop()));
    await scratch.remove();
  };
  try {
    await Promise.all([master.ready, worker.ready, proxy.ready]);
  } catch (error) {
    await close();
    throw error;
  }
  return { url: specs.url, master, worker, proxy, close };
}

/** Sends a signal to a server's process as it runs now. */
export function signal(server: SupervisedChild, name: NodeJS.Signals): void {
  const pid = server.pid();
  if (pid === undefined) throw new Error(`${server.name} does not run`);
  process.kill(pid, name);
}
