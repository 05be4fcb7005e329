// The embedded Temporal server with its Web UI: its process and its readiness check.
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { ChildSpec } from './child.ts';
import { ensureSearchAttributes } from '../../workers/search-attributes.ts';
import { serverEnvironment } from './settings.ts';

export type TemporalOptions = {
  readonly binary: string;
  /** The folder of its database. */
  readonly folder: string;
  readonly port: number;
  readonly uiPort: number;
  readonly namespace: string;
};

const host = '127.0.0.1';

/** Returns the server's process, which is ready when the namespace answers and every search attribute is registered. */
export function temporalSpec(options: TemporalOptions): ChildSpec {
  const { binary, folder, port, uiPort, namespace } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const state = { answered: false };
  return {
    name: 'temporal',
    command: binary,
    args: [
      ...['--port', String(port), '--ui-port', String(uiPort)],
      ...['--namespace', namespace, '--db-file', join(folder, 'temporal.db')],
    ],
    env: serverEnvironment(),
    stopSignal: 'SIGTERM',
    graceMs: 2_500,
    before: () => {
      state.answered = false;
      return Promise.resolve();
    },
    isReady: async () => {
      // A TCP connection is cheap, so the gRPC client is used only once the port is open.
      state.answered ||= await listens(port);
      return state.answered && (await answers(`${host}:${port}`, namespace));
    },
    // The server logs many warnings during its own start and stop; only errors matter.
    terminalLine: (line) => (/"level":"(error|fatal)"/.test(line) ? temporalMessage(line) : undefined),
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
