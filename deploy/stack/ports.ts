// The stack's ports: variables, defaults, and the ports stored in a home.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { choosePort } from '../local/ports.ts';
import { whoListensOn } from './listeners.ts';

/** Every port: what listens there, its variable, and the server's default port. */
export const portTable = {
  kafka: { what: 'Kafka broker', variable: 'OCDL_STACK_KAFKA_PORT', preferred: 9092 },
  kafkaController: { what: 'Kafka controller', variable: 'OCDL_STACK_KAFKA_CONTROLLER_PORT', preferred: 9093 },
  hdfsRpc: { what: 'HDFS NameNode', variable: 'OCDL_STACK_HDFS_RPC_PORT', preferred: 8020 },
  hdfsHttp: { what: 'WebHDFS', variable: 'OCDL_STACK_HDFS_PORT', preferred: 9870 },
  hdfsData: { what: 'HDFS DataNode', variable: 'OCDL_STACK_HDFS_DATA_PORT', preferred: 9866 },
  hdfsDataHttp: { what: 'WebHDFS of the DataNode', variable: 'OCDL_STACK_HDFS_DATA_HTTP_PORT', preferred: 9864 },
  hdfsDataIpc: { what: 'HDFS DataNode control', variable: 'OCDL_STACK_HDFS_DATA_IPC_PORT', preferred: 9867 },
  alluxioMaster: { what: 'Alluxio master', variable: 'OCDL_STACK_ALLUXIO_MASTER_PORT', preferred: 19998 },
  alluxioMasterWeb: { what: 'Alluxio master web', variable: 'OCDL_STACK_ALLUXIO_MASTER_WEB_PORT', preferred: 19999 },
  alluxioWorker: { what: 'Alluxio worker', variable: 'OCDL_STACK_ALLUXIO_WORKER_PORT', preferred: 29999 },
  alluxioWorkerWeb: { what: 'Alluxio worker web', variable: 'OCDL_STACK_ALLUXIO_WORKER_WEB_PORT', preferred: 30000 },
  alluxioProxy: { what: 'Alluxio proxy', variable: 'OCDL_STACK_ALLUXIO_PORT', preferred: 39999 },
  s3: { what: 'S3 server', variable: 'OCDL_STACK_S3_PORT', preferred: 7070 },
  postgres: { what: 'PostgreSQL', variable: 'OCDL_STACK_POSTGRES_PORT', preferred: 5432 },
  temporal: { what: 'Temporal server', variable: 'OCDL_STACK_TEMPORAL_PORT', preferred: 7233 },
  temporalUi: { what: 'Temporal Web UI', variable: 'OCDL_STACK_TEMPORAL_UI_PORT', preferred: 8233 },
} as const;

export type PortName = keyof typeof portTable;
export type StackPorts = Readonly<Record<PortName, number>>;

export const portNames = Object.keys(portTable) as readonly PortName[];
const portsSchema = z.record(z.enum(portNames), z.int().min(1).max(65_535));

/** The servers' default ports. */
export const defaultPorts: StackPorts = portsSchema.parse(
  Object.fromEntries(portNames.map((name) => [name, portTable[name].preferred])),
);

/** Reads the ports of a home's last start; undefined before the first. */
export function readPorts(home: string): StackPorts | undefined {
  const path = pathOf(home);
  return existsSync(path) ? portsSchema.parse(JSON.parse(readFileSync(path, 'utf8'))) : undefined;
}

/**
 * Chooses all ports and stores them in the home. A port set by a variable must be free. Otherwise the last or the default port
 * is used, or the next free one if it is in use. Messages name the process that uses a port.
 */
export async function choosePorts(
  home: string,
  explicit: Partial<StackPorts>,
  say: (line: string) => void,
): Promise<StackPorts> {
  const kept = readPorts(home);
  const taken = new Set<number>();
  const chosen: [PortName, number][] = [];
  for (const name of portNames) {
    const { what, variable, preferred } = portTable[name];
    const wished = explicit[name] ?? kept?.[name] ?? preferred;
    const who = (): string =>
      taken.has(wished) ? 'another server of this stack' : (whoListensOn(wished) ?? 'an unknown process');
    const wish = { what, variable, explicit: explicit[name], preferred: wished };
    const choice = await choosePort(wish, '127.0.0.1', taken).catch((error: unknown) => {
      throw new Error(`${error instanceof Error ? error.message : String(error)} It is held by ${who()}.`);
    });
    if (choice.note !== undefined) say(`${choice.note} It is held by ${who()}.`);
    taken.add(choice.port);
    chosen.push([name, choice.port]);
  }
  const ports = portsSchema.parse(Object.fromEntries(chosen));
  writeFileSync(`${pathOf(home)}.new`, `${JSON.stringify(ports, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${pathOf(home)}.new`, pathOf(home));
  return ports;
}

function pathOf(home: string): string {
  return join(home, 'ports.json');
}
