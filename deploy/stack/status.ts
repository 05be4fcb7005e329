// Reports the state of each server of a stack.
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildSpec } from '../local/child.ts';
import { isAlive } from '../local/process-identity.ts';
import { readRunRecords } from '../local/run-records.ts';
import { kubernetesProcesses } from './kubernetes/kubernetes.ts';
import { readPorts } from './ports.ts';
import { cachePath } from './programs.ts';
import { readSelection } from './selection.ts';
import { processTable, servers } from './servers.ts';
import type { StackSettings } from './settings.ts';

export type ServerStatus = {
  readonly name: string;
  readonly state: 'running' | 'not answering' | 'missing';
  readonly pid?: number;
  readonly port?: number;
  readonly log: string;
};

/** Reports for each selected server whether it is running and answers. */
export async function stackStatus(settings: StackSettings): Promise<readonly ServerStatus[]> {
  const { home, cache } = settings;
  const records = readRunRecords(join(home, 'run')).filter((record) => isAlive(record.child));
  const selection = readSelection(home);
  const { node, gpus } = selection;
  const processes: Process[] = [
    ...(selection.servers ? stackProcesses(settings, records.length > 0) : []),
    ...kubernetesProcesses(selection.kubernetes, home, { node, gpus }, cache).map(({ spec, port }) => ({
      ...{ name: spec.name, isReady: spec.isReady },
      ...(port === undefined ? {} : { port }),
    })),
  ];
  return await Promise.all(
    processes.map(async ({ name, port, isReady }): Promise<ServerStatus> => {
      const place = { name, log: join(home, 'logs', `${name}.log`), ...(port === undefined ? {} : { port }) };
      const pid = records.find((record) => record.name === name)?.child.pid;
      if (pid === undefined) return { ...place, state: 'missing' };
      const answer = isReady?.(pid).catch(() => false) ?? false;
      // 10 s: a paused process accepts connections but never answers.
      const answered = await Promise.race([answer, sleep(10_000, false, { ref: false })]);
      return { ...place, pid, state: answered ? 'running' : 'not answering' };
    }),
  );
}

type Process = { readonly name: string; readonly port?: number; readonly isReady?: ChildSpec['isReady'] | undefined };

function stackProcesses({ home, cache }: StackSettings, isAnyRunning: boolean): readonly Process[] {
  const ports = readPorts(home);
  const probes = new Map<string, ChildSpec['isReady']>();
  if (ports !== undefined && isAnyRunning) {
    // Only needed to build the specs; nothing is started.
    const of = (server: 'kafka' | 'hdfs' | 'alluxio') => ({ java: 'java', jars: cachePath(server, cache) });
    const programs = { kafka: of('kafka'), hdfs: of('hdfs'), alluxio: of('alluxio'), s3: '', temporal: '' };
    const { variables: _, ...specs } = servers(home, ports, programs);
    for (const spec of Object.values(specs)) probes.set(spec.name, spec.isReady);
    probes.set('postgres', () => postgresAnswers(ports.postgres));
  }
  return Object.entries(processTable).map(([name, port]) => ({
    ...{ name, isReady: probes.get(name) },
    ...(ports && { port: ports[port] }),
  }));
}

/** Sends an SSLRequest, which every server of PostgreSQL's protocol answers with one letter. */
function postgresAnswers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    // The message's length and its code (1234, 5679).
    socket.once('connect', () => socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])));
    socket.once('data', (answer) => end(/^[SN]/.test(answer.toString('latin1'))));
    socket.once('error', () => end(false));
    socket.once('close', () => end(false));
  });
}
