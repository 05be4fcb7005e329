// Processes of one installation: several APIs and workers of one home are allowed, another home is refused; `ocdl restore`.
import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { runProgram, type ProgramEnd } from '../../deploy/local/run-program.ts';
import { taskQueues } from '../../workflows/messages.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import { openNamespace } from '../workflows/namespace.ts';
import { eventually, newHome, type TestHome } from './homes.ts';

const root = new URL('../../', import.meta.url);
const ocdl = fileURLToPath(new URL('api/cli/ocdl.js', root));
/** Several processes start while other suites run. */
const PATIENCE_MS = 300_000;

interface Started {
  readonly child: ChildProcess;
  readonly said: () => string;
  /** The ready message, or how the process ended. */
  readonly ready: Promise<{ readonly url?: string; readonly adminToken?: string } | { readonly exit: unknown }>;
}
const children: Started[] = [];
const homes: TestHome[] = [];
const state = { address: '', namespace: '', database: '' };

beforeAll(async () => {
  state.address = (await temporalServer()).address;
});
beforeEach(async () => {
  state.database = await freshDatabase();
  state.namespace = `installation-${randomUUID()}`;
  const connection = await Connection.connect({ address: state.address });
  await openNamespace(connection, state.namespace);
  await connection.close();
});
afterEach(async () => {
  for (const { child } of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
  for (const home of homes.splice(0)) await home.remove();
});

async function aHome(): Promise<TestHome> {
  const home = await newHome();
  homes.push(home);
  return home;
}

const environment = (home: TestHome): Record<string, string | undefined> => ({
  ...{ PATH: process.env.PATH, HOME: process.env.HOME, OCDL_CACHE: process.env.OCDL_CACHE },
  ...{ OCDL_HOME: home.home, OCDL_API_PORT: '0', DATABASE_URL: state.database },
  ...{ TEMPORAL_ADDRESS: state.address, TEMPORAL_NAMESPACE: state.namespace },
});

function start(program: 'api' | 'workers' | 'application', home: TestHome): Started {
  const file = program === 'application' ? 'workers/application.ts' : `${program}/main.ts`;
  const child = fork(fileURLToPath(new URL(file, root)), {
    cwd: root,
    execArgv: ['--import', 'tsx'],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: environment(home),
  });
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => said.push(String(chunk)));
  const ready = Promise.race([
    once(child, 'message').then(([message]) => message as { url?: string }),
    once(child, 'exit').then(([exit]) => ({ exit: exit as unknown })),
  ]);
  const started = { child, said: () => said.join(''), ready };
  children.push(started);
  return started;
}

async function readyAll(
  started: readonly Started[],
): Promise<readonly { readonly url?: string; readonly adminToken?: string }[]> {
  const ready = await Promise.all(started.map((one) => one.ready));
  const ended = ready.flatMap((one, i) => ('exit' in one ? [started[i]?.said()] : []));
  expect(ended).toEqual([]);
  return ready as readonly { url?: string; adminToken?: string }[];
}

const restore = (home: TestHome, ...args: readonly string[]): Promise<ProgramEnd> =>
  runProgram(process.execPath, [ocdl, 'restore', ...args], {
    env: { ...environment(home), OCDL_API_PORT: home.env['OCDL_API_PORT'] },
    timeoutMs: PATIENCE_MS,
  });

test(
  'two APIs and two workers of one installation share its keys and its task queues; a second home is refused by all',
  async () => {
    const home = await aHome();
    const [a, b] = await readyAll([
      ...[start('api', home), start('api', home)],
      ...[start('workers', home), start('workers', home)],
      start('application', home),
    ]);
    const token = a?.adminToken ?? b?.adminToken ?? '';
    const ask = async (url: string | undefined, method: string, path: string, body?: object) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const response = await fetch(`${url}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
      return [response.status, await response.json()] as const;
    };
    // Each sees the other's writes.
    expect((await ask(a?.url, 'POST', '/v1/users', { user: 'sam' }))[0]).toBe(201);
    expect(JSON.stringify(await ask(b?.url, 'GET', '/v1/users'))).toContain('"sam"');

    const connection = await Connection.connect({ address: state.address });
    const records = await createPostgresRecords({ url: state.database });
    try {
      const { workflowService } = new Client({ connection, namespace: state.namespace }).connection;
      await eventually('both workers at the task queue', async () => {
        const { pollers } = await workflowService.describeTaskQueue({
          ...{ namespace: state.namespace, taskQueue: { name: taskQueues.core }, taskQueueType: 1 },
        });
        return new Set(pollers?.map(({ identity }) => identity)).size === 2;
      });
      const known = await records.known();
      expect([known.keys.length, await records.paused()]).toEqual([1, undefined]);
      // Every system that stores checkpoints has one of the first audit rows.
      await eventually('checkpoints', async () => {
        const { kept } = await records.known();
        return ['areas', 'releases', 'git', 'temporal'].every((system) => (kept[system] ?? 0) > 0);
      });

      const other = await aHome();
      for (const program of ['api', 'workers', 'application'] as const) {
        const refused = start(program, other);
        expect(await refused.ready).toEqual({ exit: 1 });
        expect(refused.said()).toMatch(
          new RegExp(
            `the home ${other.home} has no marker, and PostgreSQL at \\S+ belongs to installation ${known.installation}`,
          ),
        );
        expect(refused.said()).toContain('copy its folder keys into this home');
        expect(refused.said()).not.toContain(new URL(state.database).password);
      }
    } finally {
      await records.close();
      await connection.close();
    }
  },
  PATIENCE_MS,
);

test(
  'ocdl restore lists restored systems and accepts them, with a new administrator token',
  async () => {
    const home = await aHome();
    const [first] = await readyAll([start('api', home), start('workers', home)]);
    expect(await restore(home, 'list')).toMatchObject({ code: 0, output: 'All systems that answered agree.' });
    const records = await createPostgresRecords({ url: state.database });
    try {
      await eventually('a checkpoint in the areas', async () => ((await records.known()).kept['areas'] ?? 0) > 0);
      for (const { child } of children.splice(0)) {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      }
      // A different, empty database simulates a lost one.
      state.database = await freshDatabase();
      const listed = await restore(home, 'list');
      expect([listed.code, listed.output]).toEqual([
        1,
        expect.stringMatching(/records +emptied .*older than other systems/),
      ]);
      const [api] = await readyAll([start('api', home)]);
      const accepted = await restore(home, 'accept', '--void-tokens');
      expect([accepted.code, accepted.output]).toEqual([0, expect.stringContaining('Accepted')]);
      const [token = ''] = /ocdl_[0-9a-f]{16}_[\w-]{43}/.exec(accepted.output) ?? [];
      const me = async (bearer: string) =>
        (await fetch(`${api?.url}/v1/me`, { headers: { authorization: `Bearer ${bearer}` } })).status;
      // The first start on the new records has shown a token, which is revoked too.
      expect([await me(token), await me(api?.adminToken ?? ''), await me(first?.adminToken ?? '')]).toEqual([
        200, 401, 401,
      ]);
      expect(await restore(home, 'list')).toMatchObject({ code: 0, output: 'All systems that answered agree.' });
      expect(await restore(home, 'undo')).toMatchObject({
        code: 2,
        output: expect.stringContaining('Usage') as string,
      });
    } finally {
      await records.close();
    }
  },
  PATIENCE_MS,
);

test(
  'ocdl restore starts the embedded servers if no platform is running',
  async () => {
    const home = await aHome();
    const env = { ...home.env, PATH: process.env.PATH, HOME: process.env.HOME, OCDL_CACHE: process.env.OCDL_CACHE };
    const options = { env, timeoutMs: PATIENCE_MS };
    const { code, output } = await runProgram(process.execPath, [ocdl, 'restore', 'list'], options);
    expect([code, output]).toEqual([0, 'All systems that answered agree.']);
  },
  PATIENCE_MS,
);
