// Every port of a running platform listens only on loopback, and refuses pages of other sites with any host name or origin.
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { startPlatform, type Platform } from '../../deploy/local/platform.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import { findTemporal } from '../../deploy/local/temporal-binary.ts';
import { isLoopback, listeners, socketsOf, type Listener } from '../../deploy/stack/listeners.ts';
import { programs } from '../servers.ts';
import { newHome, type TestHome } from './homes.ts';

let home: TestHome;
let platform: Platform | undefined;
const running = (): Platform => {
  if (platform === undefined) throw new Error('the platform has not started');
  return platform;
};

beforeAll(async () => {
  await findTemporal(programs);
  home = await newHome({ OCDL_CACHE: programs.cache });
  platform = await startPlatform({ settings: home.settings, say: (line) => home.lines.push(line) });
}, 300_000);

afterAll(async () => {
  await platform?.stop();
  await home.remove();
}, 60_000);

/** The platform's processes with all their descendants. */
function processes(): ReadonlyMap<number, string> {
  const found = new Map(readRunRecords(join(home.home, 'run')).map(({ name, child }) => [child.pid, name]));
  const parents = readdirSync('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      return [[Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])] as const];
    } catch {
      return [];
    }
  });
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const [pid, parent] of parents) {
      const name = found.get(parent);
      if (name !== undefined) found.set(pid, name);
    }
  }
  return found;
}

function openPorts(): readonly (Listener & { readonly name: string })[] {
  const open = listeners();
  return [...processes()].flatMap(([pid, name]) => {
    const own = socketsOf(pid);
    return open.filter(({ inode }) => own.has(inode)).map((listener) => ({ ...listener, name }));
  });
}

type Answer = { readonly status: number; readonly text: string };

/** Sends one raw request; undefined if the response is not HTTP. Node's client would not send a foreign Host. */
function ask(port: number, request: string, headers: Readonly<Record<string, string>>): Promise<Answer | undefined> {
  const lines = Object.entries({ Connection: 'close', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  const body = request.startsWith('POST') ? '{}' : '';
  const length = body === '' ? '' : `Content-Length: ${body.length}\r\n`;
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let text = '';
    const end = (): void => {
      socket.destroy();
      const status = /^HTTP\/1\.\d (\d{3})/.exec(text)?.[1];
      resolve(status === undefined ? undefined : { status: Number(status), text });
    };
    socket.setTimeout(5_000, end);
    socket.once('connect', () => socket.write(`${request} HTTP/1.1\r\n${lines.join('')}${length}\r\n${body}`));
    socket.on('data', (data) => (text += data.toString('latin1')));
    socket.once('error', end);
    socket.once('close', end);
  });
}

/** Requests that a page might try: Temporal's HTTP API under both prefixes, its metrics, the platform's API. */
const requests = [
  'GET /',
  'GET /metrics',
  'GET /healthz',
  'GET /api/v1/namespaces',
  'GET /cluster/namespaces',
  'POST /api/v1/namespaces/default/workflows/from-a-page',
  'POST /namespaces/default/workflows/from-a-page',
  'GET /v1/projects',
  'POST /v1/projects',
];

test('listens only on loopback', () => {
  const open = openPorts();
  const named = new Set(open.map(({ name }) => name));
  expect([...named].sort()).toEqual(['api', 'postgres', 'temporal']);
  expect(open.filter((listener) => !isLoopback(listener))).toEqual([]);
});

test('each HTTP port refuses a foreign Host and a foreign Origin, and no workflow is started', async () => {
  const speaking: string[] = [];
  for (const { name, port } of openPorts()) {
    const own = `127.0.0.1:${port}`;
    if (!(await ask(port, 'GET /', { Host: own }))) continue;
    speaking.push(`${name} ${port}`);
    for (const request of requests) {
      const what = `${name}, port ${port}: ${request}`;
      for (const host of ['rebound.example', `rebound.example:${port}`, `127.0.0.1.rebound.example:${port}`]) {
        const answer = await ask(port, request, { Host: host });
        expect([what, host, answer?.status]).toEqual([what, host, name === 'api' ? 421 : 403]);
      }
      for (const origin of ['http://page.example', 'null', `http://127.0.0.1:${port + 1}`]) {
        const answer = await ask(port, request, { Host: own, Origin: origin, 'Content-Type': 'text/plain' });
        expect(`${what}\n${answer?.text}`).not.toMatch(/access-control-allow/i);
        // The platform's API uses no cookies: a page cannot send a token.
        if (name !== 'api') expect([what, origin, answer?.status]).toEqual([what, origin, 403]);
        else if (request.endsWith('/v1/projects')) expect([what, origin, answer?.status]).toEqual([what, origin, 401]);
      }
    }
  }
  // Exactly the Web UI and the platform's API.
  expect(speaking.sort()).toEqual(
    [`api ${new URL(running().apiUrl).port}`, `temporal ${new URL(running().uiUrl).port}`].sort(),
  );
  const connection = await Connection.connect({ address: running().temporalAddress });
  try {
    const { count } = await new Client({ connection }).workflow.count();
    expect(count).toBe(0);
  } finally {
    await connection.close();
  }
});

test('the Web UI serves its own pages, by either name of this machine', async () => {
  const { port } = new URL(running().uiUrl);
  for (const name of ['127.0.0.1', 'localhost', '[::1]']) {
    const own = { Host: `${name}:${port}` };
    expect((await ask(Number(port), 'GET /', own))?.text).toContain('<!doctype html>');
    const namespaces = { ...own, Origin: `http://${name}:${port}` };
    expect((await ask(Number(port), 'GET /api/v1/namespaces', namespaces))?.text).toContain('"name": "default"');
  }
});
