// The embedded Temporal server with its Web UI: how it is run, and when it answers.
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { ChildSpec } from './child.ts';
import { ensureSearchAttributes } from './search-attributes.ts';
import { serverEnvironment } from './settings.ts';

export type TemporalOptions = {
  readonly binary: string;
  /** The folder that holds its database. */
  readonly folder: string;
  readonly port: number;
  readonly uiPort: number;
  readonly namespace: string;
};

const host = '127.0.0.1';

/** Returns the server's process; it is ready when the namespace answers and every search attribute is registered. */
export function temporalSpec(options: TemporalOptions): ChildSpec {
  const { binary, folder, port, uiPort, namespace } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = { answered: false };
  return {
    name: 'temporal',
    command: binary,
    args: [
      ...['server', 'start-dev', '--ip', host, '--port', String(port), '--ui-port', String(uiPort)],
      ...['--namespace', namespace, '--db-filename', join(folder, 'temporal.db')],
      // With SQLite's default pragmas the server does two workflows a second on disk, with these fourteen.
      ...['--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=NORMAL'],
      // Trainings, evaluations and imports carry their project as fairness key: a long backlog of one holds up no other.
      ...['--dynamic-config-value', 'matching.enableFairness=true'],
      // Fairness is within a partition of a queue, and one server has no use for several.
      ...['--dynamic-config-value', 'matching.numTaskqueueReadPartitions=1'],
      ...['--dynamic-config-value', 'matching.numTaskqueueWritePartitions=1'],
      ...['--log-level', 'warn', '--log-format', 'json', '--color', 'never'],
      // Nothing of the person's own Temporal configuration is meant for this server.
      ...['--disable-config-file', '--disable-config-env'],
    ],
    env: serverEnvironment(),
    stopSignal: 'SIGTERM',
    graceMs: 2_500,
    before: () => {
      state.answered = false;
      return Promise.resolve();
    },
    isReady: async () => {
      // A bare connection costs nothing: the gRPC client is only asked once somebody listens.
      state.answered ||= await listens(port);
      return state.answered && (await answers(`${host}:${port}`, namespace));
    },
    // The development server warns of its own start and stop at length; errors matter.
    terminalLine: (line) => (/"level":"(ERROR|FATAL|error|fatal)"/.test(line) ? temporalMessage(line) : undefined),
  };
}

async function answers(address: string, namespace: string): Promise<boolean> {
  const { Connection } = await import('@temporalio/client');
  const connection = await Connection.connect({ address, connectTimeout: '2s' });
  try {
    await connection.workflowService.describeNamespace({ namespace });
    await ensureSearchAttributes(connection, namespace);
    return true;
  } finally {
    await connection.close();
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function temporalMessage(line: string): string {
  return /"msg":"([^"]*)"/.exec(line)?.[1] ?? line;
}
