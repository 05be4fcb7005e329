// A table of stand-in processes for tests of the supervisor, and their journal.
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChildSpec } from '../../../deploy/local/child.ts';
import { anyFreePort } from '../../../deploy/local/ports.ts';
import { embeddedProcesses, programEnvironment, type ProcessTable } from '../../../deploy/local/processes.ts';

const file = fileURLToPath(new URL('./program.js', import.meta.url));

export type StandInOptions = {
  /** True: the real Temporal and PostgreSQL, with stand-ins only for our own programs. */
  readonly realServers?: boolean;
  readonly graceMs?: number;
};

/** The table: each stand-in records its start and its signal in HOME/journal. */
export function standIns({ realServers = false, graceMs = 2_000 }: StandInOptions = {}): ProcessTable {
  const programs: ProcessTable['programs'] = (context) =>
    ['worker', 'application', 'api'].map((name) => ({
      name,
      command: process.execPath,
      args: [file, name, journalOf(context.settings.home)],
      env: programEnvironment(context),
      stopSignal: 'SIGTERM',
      graceMs,
    }));
  if (realServers) return { ...embeddedProcesses, programs };
  const server = (name: string, home: string, port: number, stopSignal: ChildSpec['stopSignal']): ChildSpec => ({
    name,
    command: process.execPath,
    args: [file, name, journalOf(home), String(port)],
    env: {},
    stopSignal,
    graceMs,
    isReady: () => listens(port),
  });
  return {
    temporal: async ({ settings, ports }) => server('temporal', settings.home, ports.temporal, 'SIGTERM'),
    postgres: async ({ settings }) => {
      const port = await anyFreePort('127.0.0.1');
      return {
        spec: server('postgres', settings.home, port, 'SIGINT'),
        url: `postgresql://stand-in@127.0.0.1:${port}/x`,
      };
    },
    programs,
  };
}

export type Note = { readonly name: string; readonly what: string; readonly pid: number };

/** The journal entries of a home's stand-ins, in order. */
export function notesOf(home: string): readonly Note[] {
  let text = '';
  try {
    text = readFileSync(journalOf(home), 'utf8');
  } catch {
    return [];
  }
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [name = '', what = '', pid = ''] = line.split(' ');
      return { name, what, pid: Number(pid) };
    });
}

/** The stand-ins' journal file; the files next to it control their behaviour. */
export function journalOf(home: string): string {
  return join(home, 'journal');
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
