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
/** Ports by name, as `portTable` describes them. */
export type PortTable<Name extends string> = Readonly<
  Record<Name, { readonly what: string; readonly variable: string; readonly preferred: number }>
>;

export const portNames = Object.keys(portTable) as readonly PortName[];
const portSchema = z.int().min(1).max(65_535);

/** The servers' default ports. */
export const defaultPorts: StackPorts = defaultPortsOf(portTable);

/** Reads the ports of a home's last start; undefined before the first. */
export function readPorts(home: string): StackPorts | undefined {
  return readPortsOf(portTable, pathOf(home));
}

/** Chooses the ports of the stack's servers and stores them in the home. */
export async function choosePorts(
  home: string,
  explicit: Partial<StackPorts>,
  say: (line: string) => void,
): Promise<StackPorts> {
  return await choosePortsOf(portTable, pathOf(home), explicit, say);
}

/** The default ports of a table. */
export function defaultPortsOf<Name extends string>(table: PortTable<Name>): Readonly<Record<Name, number>> {
  const preferred = namesOf(table).map((name) => [name, table[name].preferred] as const);
  return portsOfSchema(table).parse(Object.fromEntries(preferred));
}

/** Reads the stored ports of a table; undefined if none were stored yet. */
export function readPortsOf<Name extends string>(
  table: PortTable<Name>,
  path: string,
): Readonly<Record<Name, number>> | undefined {
  if (!existsSync(path)) return undefined;
  return portsOfSchema(table).parse(JSON.parse(readFileSync(path, 'utf8')));
}

/**
 * Chooses all ports of a table and stores them. A port set by a variable must be free. Otherwise the last or the default port
 * is used, or the next free one if it is in use. Messages name the process that uses a port.
 */
export async function choosePortsOf<Name extends string>(
  table: PortTable<Name>,
  path: string,
  explicit: Partial<Readonly<Record<Name, number>>>,
  say: (line: string) => void,
): Promise<Readonly<Record<Name, number>>> {
  const kept = readPortsOf(table, path);
  const taken = new Set<number>();
  const chosen: [Name, number][] = [];
  for (const name of namesOf(table)) {
    const { what, variable, preferred } = table[name];
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
  const ports = portsOfSchema(table).parse(Object.fromEntries(chosen));
  writeFileSync(`${path}.new`, `${JSON.stringify(ports, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return ports;
}

function portsOfSchema<Name extends string>(table: PortTable<Name>) {
  return z.record(z.enum(namesOf(table)), portSchema);
}

function namesOf<Name extends string>(table: PortTable<Name>): readonly Name[] {
  return Object.keys(table) as Name[];
}

function pathOf(home: string): string {
  return join(home, 'ports.json');
}
