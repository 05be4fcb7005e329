// Reads the environment of the stack into typed settings; the only place in deploy/stack/ that does.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { kubernetesPortTable, kwokPortTable, type KubernetesPorts, type KwokPorts } from './kubernetes/ports.ts';
import { portTable, type PortTable, type StackPorts } from './ports.ts';

export type KubernetesSettings = {
  /** False: only the control plane, which does not need root. */
  readonly node: boolean;
  /** Number of simulated GPUs on the node. */
  readonly gpus: number;
  /** Nodes that kwok simulates. */
  readonly kwokNodes: number;
  readonly kubernetesPorts: Partial<KubernetesPorts>;
  readonly kwokPorts: Partial<KwokPorts>;
};

export type StackSettings = {
  /** The stack's folder with data, logs and keys. */
  readonly home: string;
  /** The folder of fetched programs. */
  readonly cache: string;
  /** The ports set by variables. */
  readonly ports: Partial<StackPorts>;
  readonly kubernetes: KubernetesSettings;
  /** The whole environment, for Maven and Go. */
  readonly env: Readonly<Record<string, string | undefined>>;
};

const portSchema = z.coerce.number().int().min(1).max(65_535);
/** A thousand simulated nodes fit a personal machine; a node has at most 16 GPUs. */
const kwokNodesSchema = z.coerce.number().int().min(1).max(1_000);
const gpusSchema = z.coerce.number().int().min(0).max(16);

/** Reads settings from environment variables; an empty variable counts as unset. Throws one error that names each invalid variable. */
export function readStackSettings(env: StackSettings['env'] = process.env): StackSettings {
  const faults: string[] = [];
  const read = <T>(variable: string, schema: z.ZodType<T>, otherwise: T, must: string): T => {
    const given = env[variable];
    if (given === undefined || given === '') return otherwise;
    const parsed = schema.safeParse(given);
    if (parsed.success) return parsed.data;
    faults.push(`${variable} must be ${must}`);
    return otherwise;
  };
  const readPorts = <Name extends string>(table: PortTable<Name>): Partial<Record<Name, number>> => {
    const ports: Partial<Record<Name, number>> = {};
    for (const name of Object.keys(table) as Name[]) {
      const port = read<number | undefined>(table[name].variable, portSchema, undefined, 'a port from 1 to 65535');
      if (port !== undefined) ports[name] = port;
    }
    return ports;
  };
  const settings: StackSettings = {
    home: resolve(env.OCDL_STACK_HOME || '.ocdl/stack'),
    cache: resolve(env.OCDL_CACHE || join(homedir(), '.cache', 'ocdl')),
    ports: readPorts(portTable),
    kubernetes: {
      node: read('OCDL_STACK_KUBERNETES_NODE', z.enum(['true', 'false']), 'true', '`true` or `false`') === 'true',
      gpus: read('OCDL_STACK_KUBERNETES_GPUS', gpusSchema, 0, 'a number from 0 to 16'),
      kwokNodes: read('OCDL_STACK_KWOK_NODES', kwokNodesSchema, 4, 'a number from 1 to 1000'),
      kubernetesPorts: readPorts(kubernetesPortTable),
      kwokPorts: readPorts(kwokPortTable),
    },
    env,
  };
  if (faults.length > 0) throw new Error(`Invalid configuration: ${faults.join('; ')}.`);
  return settings;
}
