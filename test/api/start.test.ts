// The API as a process: starts on a real database, creates its first administrator once, and stops on request.
import type { ChildProcess } from 'node:child_process';
import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once as event } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { apiConfig } from '../../api/config.ts';
import { freePort, freshDatabase, temporalServer } from '../servers.ts';
import { openNamespace } from '../workflows/namespace.ts';

interface Ready {
  readonly type: string;
  readonly url: string;
  readonly adminToken?: string;
}
interface Started {
  readonly child: ChildProcess;
  readonly ready: Promise<Ready>;
  readonly ended: Promise<number | null>;
  readonly said: () => string;
}

const state = { home: '', database: '', temporal: '', namespace: `start-${randomUUID()}` };
const children: ChildProcess[] = [];
beforeAll(async () => {
  state.home = await mkdtemp(join(tmpdir(), 'ocdl-start-'));
  state.database = await freshDatabase();
  state.temporal = (await temporalServer()).address;
  const connection = await Connection.connect({ address: state.temporal });
  // A namespace belongs to one installation.
  await openNamespace(connection, state.namespace);
  await connection.close();
}, 600_000);
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(state.home, { recursive: true, force: true }));

function start(change: Record<string, string> = {}): Started {
  const child = fork(join(import.meta.dirname, '../../api/main.ts'), {
    execArgv: ['--import', 'tsx'],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...{ PATH: process.env['PATH'], HOME: process.env['HOME'] },
      ...{ OCDL_HOME: state.home, OCDL_API_PORT: '0', DATABASE_URL: state.database, TEMPORAL_ADDRESS: state.temporal },
      TEMPORAL_NAMESPACE: state.namespace,
      ...change,
    },
  });
  children.push(child);
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => said.push(String(chunk)));
  const ended = event(child, 'exit').then(([code]) => code as number | null);
  const ready = Promise.race([
    event(child, 'message').then(([message]) => message as Ready),
    ended.then((code) => Promise.reject(new Error(`ended with ${code}: ${said.join('')}`))),
  ]);
  ready.catch(() => undefined);
  return { child, ready, ended, said: () => said.join('') };
}

const me = async (url: string, token: string) =>
  (await fetch(`${url}/v1/me`, { headers: { authorization: `Bearer ${token}` } })).status;

test('the first start creates an administrator, a later one does not; SIGTERM and the end of the parent stop it', async () => {
  const first = start();
  const { url, adminToken = '', type } = await first.ready;
  expect([type, url]).toEqual(['ready', expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/)]);
  expect(await me(url, adminToken)).toBe(200);
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  first.child.kill('SIGTERM');
  expect(await first.ended).toBe(0);
  expect(first.said()).not.toContain(adminToken);

  const second = start();
  const again = await second.ready;
  expect(again.adminToken).toBeUndefined();
  expect(await me(again.url, adminToken)).toBe(200);
  second.child.disconnect();
  expect(await second.ended).toBe(0);
}, 600_000);

test('the listener for pods is another address of the same process', async () => {
  const port = await freePort();
  const { url, adminToken = '' } = await start({
    OCDL_DATA_LISTEN: `127.0.0.1:${port}`,
    DATABASE_URL: await freshDatabase(),
    OCDL_HOME: await mkdtemp(join(state.home, 'pods-')),
    TEMPORAL_ADDRESS: '127.0.0.1:1',
  }).ready;
  expect(await me(url, adminToken)).toBe(200);
  expect(await me(`http://127.0.0.1:${port}`, adminToken)).toBe(404);
  const headers = { authorization: `Bearer ${adminToken}` };
  expect((await fetch(`http://127.0.0.1:${port}/v1/jobs/j/inputs/code.tar`, { headers })).status).toBe(403);
}, 600_000);

test('without its workflow server it answers, but is not ready', async () => {
  const { ready } = start({ TEMPORAL_ADDRESS: '127.0.0.1:1', DATABASE_URL: await freshDatabase() });
  const { url } = await ready;
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const response = await fetch(`${url}/readyz`);
  expect([response.status, await response.json()]).toMatchObject([503, { missing: ['workflows'] }]);
}, 600_000);

test('a platform without users does not listen on a network', async () => {
  const { ended, said } = start({ OCDL_API_HOST: '0.0.0.0', DATABASE_URL: await freshDatabase() });
  expect(await ended).toBe(1);
  expect(said()).toContain('a platform without users does not listen on a network');
}, 600_000);

describe('the configuration', () => {
  const given = { DATABASE_URL: 'postgresql://localhost/ocdl' };

  test('has defaults, and answers only on the loopback interface and to its own names', () => {
    expect(apiConfig(given)).toMatchObject({
      ...{ host: '127.0.0.1', port: 8470, temporal: { address: '127.0.0.1:7233', namespace: 'default' } },
      limits: { hosts: ['localhost', '127.0.0.1', '[::1]'], fileBytes: 2 * 1024 ** 3 },
    });
    expect(apiConfig({ ...given, OCDL_API_HOST: '0.0.0.0' }).limits.hosts).toBe('any');
    expect(apiConfig({ ...given, OCDL_API_HOSTS: 'ocdl.example,Other.example' }).limits.hosts).toEqual([
      ...['ocdl.example', 'other.example', 'localhost', '127.0.0.1', '[::1]'],
    ]);
    // Jobs' wrappers come past the proxy, by the address that they are given.
    const behind = { ...given, OCDL_API_HOST: '0.0.0.0', OCDL_API_URL: 'http://Worker-1.example:8470' };
    expect(apiConfig({ ...behind, OCDL_API_HOSTS: 'ocdl.example' }).limits.hosts).toContain('worker-1.example');
  });

  test('reports all mistakes together, without secrets', () => {
    const wrong = { OCDL_API_PORT: '99999', DATABASE_URL: 'mysql://root:hunter2@x', TEMPORAL_ADDRESS: 'no port' };
    const message = (): string => {
      try {
        apiConfig(wrong);
      } catch (error) {
        return String(error);
      }
      return '';
    };
    for (const name of Object.keys(wrong)) expect(message()).toContain(name);
    expect(message()).not.toContain('hunter2');
  });
});
