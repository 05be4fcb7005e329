// A home whose Temporal server of an earlier version had tasks in its queues: the present server, which keeps other queues, gives them out.
import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { findTemporal } from '../../deploy/local/temporal-binary.ts';
import { temporalSpec } from '../../deploy/local/temporal.ts';
import { programs } from '../servers.ts';
import { eventually } from './homes.ts';

const folder = mkdtempSync(join(tmpdir(), 'ocdl-earlier-queues-'));
const state = { server: undefined as ChildProcess | undefined, port: 0 };

async function startServer(): Promise<void> {
  state.port = await anyFreePort('127.0.0.1');
  const uiPort = await anyFreePort('127.0.0.1');
  const binary = await findTemporal(programs);
  const spec = temporalSpec({ binary, folder, port: state.port, uiPort, namespace: 'default' });
  const server = spawn(spec.command, [...spec.args], { env: spec.env, stdio: 'ignore' });
  state.server = server;
  await eventually('the server to answer', async () => (await spec.isReady?.(server.pid ?? 0)) ?? false);
}

async function stopServer(): Promise<void> {
  const { server } = state;
  if (server === undefined || server.exitCode !== null) return;
  const exit = new Promise((resolve) => server.once('exit', resolve));
  server.kill('SIGTERM');
  await exit;
}

const connected = async <R>(work: (connection: Connection) => Promise<R>): Promise<R> => {
  const connection = await Connection.connect({ address: `127.0.0.1:${state.port}` });
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
};

/** Runs statements on the server's database and returns the last one's number. */
function sqlite(...statements: readonly string[]): number {
  const program = [
    'import sqlite3, sys',
    'database = sqlite3.connect(sys.argv[1], timeout=10)',
    'rows = [database.execute(statement).fetchone() for statement in sys.argv[2:]]',
    'database.commit()',
    'print(rows[-1][0])',
  ].join('\n');
  const args = ['-I', '-c', program, join(folder, 'temporal.db'), ...statements];
  return Number(execFileSync('python3', args, { encoding: 'utf8' }));
}

afterAll(async () => {
  await stopServer();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}, 60_000);

test('a workflow task that waits in a queue of an earlier server is given to a worker', async () => {
  await startServer();
  await connected((connection) =>
    new Client({ connection }).workflow.start('waits', { taskQueue: 'earlier', workflowId: 'waiting' }),
  );
  const here = "select count(*) from tasks_v2 where instr(task_queue_id, cast('earlier' as blob)) > 0";
  await eventually('the task to be in its queue', () => sqlite(here) === 1, 30_000);
  await stopServer();
  // Where an earlier server kept it: in the table of queues without fairness.
  const moved = sqlite(
    `insert into tasks (range_hash, task_queue_id, task_id, data, data_encoding)
     select range_hash, task_queue_id, task_id, data, data_encoding from tasks_v2`,
    'delete from tasks_v2',
    'select count(*) from tasks',
  );
  assert.ok(moved >= 1);

  await startServer();
  const { workflowExecution } = await connected((connection) =>
    connection.withDeadline(Date.now() + 60_000, () =>
      connection.workflowService.pollWorkflowTaskQueue({ namespace: 'default', taskQueue: { name: 'earlier' } }),
    ),
  );
  assert.equal(workflowExecution?.workflowId, 'waiting');
  await eventually('the earlier queues to be empty', () => sqlite('select count(*) from tasks') === 0, 30_000);
}, 300_000);
