// The embedded PostgreSQL alone, as the platform runs it: commits reach the disk.
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { superviseChild } from '../../deploy/local/child.ts';
import { preparePostgres } from '../../deploy/local/postgres.ts';

export interface BenchDatabase {
  /** A folder for whatever else the benchmark needs; it goes with the database. */
  readonly folder: string;
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts it in a temporary folder. */
export async function startDatabase(say: (line: string) => void): Promise<BenchDatabase> {
  // Below a folder that others may enter: as root, PostgreSQL runs as another user.
  const folder = await mkdtemp(join(tmpdir(), 'ocdl-bench-'));
  const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 5 });
  try {
    const { spec, url } = await preparePostgres({ folder: join(folder, 'postgres') });
    const server = superviseChild(spec, {
      home: { run: join(folder, 'run'), logs: join(folder, 'logs') },
      verbose: false,
      say,
      onGivenUp: ({ message }) => say(message),
    });
    const stop = async (): Promise<void> => {
      await server.stop();
      await remove();
    };
    await server.ready.catch(async (error: unknown) => {
      await stop();
      throw error;
    });
    return { folder, url, stop };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** What a measurement ran on. */
export function machine(): string {
  const processors = cpus();
  const [load = 0] = loadavg();
  const gigabytes = (totalmem() / 2 ** 30).toFixed(0);
  return `${processors.length} × ${processors[0]?.model ?? 'unknown'}, ${gigabytes} GiB, Node ${process.version}, load ${load.toFixed(1)}`;
}
