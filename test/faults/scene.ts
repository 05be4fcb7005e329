// A separate platform for one fault: namespace, database, home, people; its worker is a child process that can be killed.
import { createPrivateKey, createPublicKey, hash, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { NativeConnection } from '@temporalio/worker';
import { once } from '../../activities/model-center.ts';
import { createSigner } from '../../activities/signing.ts';
import { workflowBundle } from '../../workers/bundle.ts';
import { workerConfig } from '../../workers/config.ts';
import { openBus, openStores } from '../../workers/wiring.ts';
import type { CommandBody } from '../../workflows/domain/command.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { storePath } from '../../workflows/domain/names.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import { openNamespace } from '../workflows/namespace.ts';
import { quieten } from '../workflows/world.ts';
import { startChild, type Child } from './child-process.ts';
import { writeKillPoint, type KillPoint } from './kill-point.ts';
import { createWorkers } from './workers.ts';

export type Scene = Awaited<ReturnType<typeof openScene>>;
export type Plant = '' | 'event-id' | 'move-key';

export const people: Readonly<Record<string, readonly Role[]>> = {
  sam: ['scientist'],
  mia: ['manager'],
  dev: ['developer'],
};
/** One key for all scenes, and one time of issue: then the same command has the same signature in each. */
const privateKey = createPrivateKey({
  key: Buffer.from(`302e020100300506032b657004220420${'5a'.repeat(32)}`, 'hex'),
  format: 'der',
  type: 'pkcs8',
});
const ISSUED_AT = '2026-11-01T12:00:00.000Z';

/** Opens a scene; each of its first workers dies at the next point of `killAt`. Later workers are not killed. */
export async function openScene({
  killAt = [],
  plant = '',
  kills = [],
  systems,
  bundle,
  interceptor,
}: {
  killAt?: readonly KillPoint[];
  plant?: Plant;
  /** Receives the end of each worker. */
  kills?: string[];
  /** Variables for separate servers, including a fresh database; the test run's Temporal and PostgreSQL unless given. */
  systems?: Readonly<Record<'DATABASE_URL' | 'TEMPORAL_ADDRESS', string>>;
  /** The workflows that its workers run; the platform's own unless given. */
  bundle?: string;
  /** Runs the worker in this process, with this around its activities: cheaper than a process if no kill is needed. */
  interceptor?: ActivityInterceptorsFactory;
} = {}) {
  const [{ address }, databaseUrl] = systems
    ? [{ address: systems.TEMPORAL_ADDRESS }, systems.DATABASE_URL]
    : await Promise.all([temporalServer(), freshDatabase()]);
  const namespace = `fault-${randomUUID()}`;
  const connection = await Connection.connect({ address });
  await openNamespace(connection, namespace);
  const home = await mkdtemp(join(tmpdir(), 'ocdl-fault-'));
  const environment = {
    ...systems,
    OCDL_HOME: home,
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: address,
    TEMPORAL_NAMESPACE: namespace,
    // Built once: what a scene runs does not change under it.
    WORKFLOW_BUNDLE: bundle ?? (await workflowBundle(join(tmpdir(), 'ocdl-test-bundle'))),
    PLANT: plant,
  };
  const config = workerConfig(environment);
  const stores = await openStores(config);
  await layKey(join(home, 'keys'));
  const signer = await createSigner(join(home, 'keys'));
  const state = { over: false, child: undefined as Child | undefined, died: undefined as Error | undefined };

  /** Starts a worker; when it is killed, the next one, as the platform's supervisor does. */
  async function supervise([point, ...later]: readonly KillPoint[]): Promise<void> {
    const child = await startChild('worker.ts', { ...environment, KILL_AT: writeKillPoint(point) });
    state.child = child;
    void child.ended.then((how) => {
      if (state.over) return;
      kills.push(how);
      if (how === 'SIGKILL') void supervise(later).catch((error: unknown) => (state.died = asError(error)));
      else state.died = new Error(`the worker ended by itself (${how}):\n${child.output()}`);
    });
  }

  async function startHere(around: ActivityInterceptorsFactory): Promise<{ stop(): Promise<void> }> {
    quieten();
    const [native, bus] = await Promise.all([NativeConnection.connect({ address }), openBus(config)]);
    const { workers, watch } = await createWorkers({
      ...{ connection: native, config, stores, records: stores.records, bus, interceptor: around },
      codePath: environment.WORKFLOW_BUNDLE,
    });
    const running = Promise.all(workers.map((worker) => worker.run()));
    running.catch((error: unknown) => (state.died = asError(error)));
    const jobs = watch();
    return {
      async stop() {
        for (const worker of workers) worker.shutdown();
        await running;
        await jobs.stop();
        await bus.close();
        await native.close();
      },
    };
  }

  /** Polls until there is an answer; otherwise says what was expected. */
  async function until<T>(what: string, ask: () => Promise<T | undefined | null | false>): Promise<T> {
    // A kill costs up to 15 s of Temporal's patience; several scenes share the machine.
    const end = Date.now() + 150_000;
    for (;;) {
      if (state.died) throw state.died;
      const answer = await ask().catch((error: unknown) => {
        if (Date.now() > end) throw error;
        return undefined;
      });
      if (answer) return answer;
      if (Date.now() > end) throw new Error(`waited in vain for ${what}; the worker said: ${state.child?.output()}`);
      await sleep(100);
    }
  }

  function signed(body: Partial<CommandBody> & Pick<CommandBody, 'workflowId' | 'commandId' | 'name' | 'actor'>) {
    const full: CommandBody = {
      v: 1,
      keyId: signer.newest,
      args: {},
      roles: people[body.actor] ?? [],
      policyVersion: 1,
      revision: 0,
      digest: null,
      report: null,
      issuedAt: ISSUED_AT,
      ...body,
    };
    return signer.sign(full);
  }

  await stores.records.registerKeys(signer.publicKeys());
  await populate(stores);
  const here = interceptor && (await startHere(interceptor));
  if (!here) await supervise(killAt);
  return {
    ...stores,
    client: new Client({ connection, namespace }),
    namespace,
    config,
    databaseUrl,
    environment,
    signer,
    /** How workers ended so far, and how many are to. */
    kills,
    deaths: killAt.length,
    until,
    signed,
    killWorker: () => void state.child?.process.kill('SIGKILL'),
    async close(): Promise<void> {
      state.over = true;
      await state.child?.stop();
      await here?.stop();
      await stores.close();
      await connection.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Lays the key where a platform's own lies. */
async function layKey(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const raw = createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).subarray(-32);
  const content = { createdAt: ISSUED_AT, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) };
  await writeFile(join(folder, `${hash('sha256', raw).slice(0, 16)}.json`), JSON.stringify(content));
}

/** An audit entry of the administrator who lays the scene. */
const audit = (kind: string, subject: string) => ({
  ...{ key: `${kind}/${subject}`, project: 'p', kind, actor: 'root', subject, digest: null, report: null },
  ...{ reason: '', detail: {}, at: new Date().toISOString() },
});

/** Makes the application that receives releases. Record the start of its workflow first: the sweep starts what has none. */
export async function addScanner({ records }: Pick<Scene, 'records'>): Promise<void> {
  await records.createApplication(
    {
      application: 'scanner',
      project: 'p',
      owner: 'dev',
      types: ['kind'],
      gates: ['function'],
      repository: 'p/app-scanner',
    },
    audit('application.created', 'scanner'),
  );
}

/** A project with its people and one test set. */
async function populate({ records, areas }: Awaited<ReturnType<typeof openStores>>): Promise<void> {
  await records.createProject({ project: 'p', types: ['kind'], policy: defaultPolicy }, audit('project.created', 'p'));
  for (const [user, roles] of Object.entries(people)) {
    await records.createUser(user, false, audit('user.created', user));
    await records.setMember('p', { user, roles }, audit('member.set', user));
  }
  const path = storePath({ area: 'staging', project: 'p', path: 'datasets/rows/test.jsonl' });
  const rows = await areas.write(path, once(Buffer.from('{}\n')));
  await records.registerDataSet(
    {
      project: 'p',
      dataset: 'rows',
      kind: 'test',
      files: [{ ...rows, name: 'test.jsonl' }],
      registeredBy: 'mia',
      registeredAt: new Date().toISOString(),
    },
    audit('dataset.registered', 'rows'),
  );
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));
