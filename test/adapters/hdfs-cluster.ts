// A NameNode and a DataNode of a test's own, which it may kill, pause and start again.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildSpec } from '../../deploy/local/child.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { endProcess, identify, isAlive, type ProcessRecord } from '../../deploy/local/process-identity.ts';
import { hdfs, hdfsSuperuser } from '../../deploy/stack/hdfs.ts';
import { runJava } from '../../deploy/stack/java.ts';
import { fetchJava } from '../../deploy/stack/programs.ts';
import { programs } from '../servers.ts';
import { scratchFolder } from './scratch-folder.ts';

export interface Server {
  /** Starts it and waits until it is ready. */
  readonly start: () => Promise<void>;
  readonly kill: () => Promise<void>;
  readonly pause: () => void;
  readonly resume: () => void;
}

export interface OwnHdfs {
  readonly url: string;
  readonly nameNode: Server;
  readonly dataNode: Server;
  /** Hadoop's own administration, as `hdfs dfsadmin`. */
  readonly dfsAdmin: (...args: readonly string[]) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** A Java server on a machine that starts several at once. */
const START_MS = 180_000;

/** Starts both. */
export async function ownHdfs(): Promise<OwnHdfs> {
  const scratch = await scratchFolder();
  const folder = scratch.path;
  const program = await fetchJava('hdfs', programs);
  const port = (): Promise<number> => anyFreePort('127.0.0.1');
  const ports = {
    rpc: await port(),
    http: await port(),
    data: await port(),
    dataHttp: await port(),
    dataIpc: await port(),
  };
  const parts = hdfs({ program, folder, ports });
  const [nameNode, dataNode] = [server(parts.nameNode, folder), server(parts.dataNode, folder)];
  const close = async (): Promise<void> => {
    await Promise.all([nameNode.kill(), dataNode.kill()]);
    await scratch.remove();
  };
  try {
    await Promise.all([nameNode.start(), dataNode.start()]);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url: parts.url,
    nameNode,
    dataNode,
    dfsAdmin: (...args) =>
      runJava(`dfsadmin ${args.join(' ')}`, {
        program,
        conf: parts.conf,
        main: 'org.apache.hadoop.hdfs.tools.DFSAdmin',
        args,
        heapMb: 128,
        env: { HADOOP_USER_NAME: hdfsSuperuser },
      }),
    close,
  };
}

function server(spec: ChildSpec, folder: string): Server {
  const state: { record?: ProcessRecord | undefined } = {};
  const signal = (name: NodeJS.Signals): void => {
    if (state.record) process.kill(state.record.pid, name);
  };
  return {
    async start() {
      await spec.before?.();
      const log = openSync(join(folder, `${spec.name}.log`), 'a');
      const child = spawn(spec.command, [...spec.args], { env: { ...spec.env }, stdio: ['ignore', log, log] });
      closeSync(log);
      state.record = child.pid === undefined ? undefined : identify(child.pid);
      for (const until = Date.now() + START_MS; Date.now() < until; await sleep(50)) {
        if (state.record === undefined || !isAlive(state.record)) break;
        if (await spec.isReady?.(state.record.pid).catch(() => false)) return;
      }
      throw new Error(`${spec.name} did not come up: see its log in ${folder}`);
    },
    // A paused process dies of SIGKILL as well.
    kill: async () => {
      if (state.record) await endProcess(state.record, 'SIGKILL', 10_000);
      state.record = undefined;
    },
    pause: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
  };
}
