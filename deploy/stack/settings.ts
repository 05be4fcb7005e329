// Reads the environment of the stack into typed settings; the only place in deploy/stack/ that does.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { portNames, portTable, type PortName, type StackPorts } from './ports.ts';

export type StackSettings = {
  /** The stack's folder with data, logs and keys. */
  readonly home: string;
  /** The folder of fetched programs. */
  readonly cache: string;
  /** The ports set by variables. */
  readonly ports: Partial<StackPorts>;
  /** The whole environment, for Maven and Go. */
  readonly env: Readonly<Record<string, string | undefined>>;
};

const portSchema = z.coerce.number().int().min(1).max(65_535);

/** Reads settings from environment variables; an empty variable counts as unset. Throws one error that names each invalid variable. */
export function readStackSettings(env: StackSettings['env'] = process.env): StackSettings {
  const faults: string[] = [];
  const ports: Partial<Record<PortName, number>> = {};
  for (const name of portNames) {
    const { variable } = portTable[name];
    const given = env[variable];
    if (given === undefined || given === '') continue;
    const parsed = portSchema.safeParse(given);
    if (parsed.success) ports[name] = parsed.data;
    else faults.push(`${variable} must be a port from 1 to 65535`);
  }
  if (faults.length > 0) throw new Error(`Invalid configuration: ${faults.join('; ')}.`);
  return {
    home: resolve(env.OCDL_STACK_HOME || '.ocdl/stack'),
    cache: resolve(env.OCDL_CACHE || join(homedir(), '.cache', 'ocdl')),
    ports,
    env,
  };
}
