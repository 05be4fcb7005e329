// A world for workflow tests: real Temporal, PostgreSQL, disk, Git and event log; only the compute is scripted.
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { once } from '../../activities/model-center.ts';
import { consumeReleases } from '../../workers/application.ts';
import { createSigner } from '../../activities/signing.ts';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { admitting, dataConverter, workflowBundle, workflowTime } from '../../workers/bundle.ts';
import { watchJobs } from '../../workers/job-watch.ts';
import { createJobWorkers } from '../../workers/queues.ts';
import { createActivities, openBus, openStores } from '../../workers/wiring.ts';
import type { Policy } from '../../workflows/domain/model.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { storePath } from '../../workflows/domain/names.ts';
import type { Beginning } from '../../workflows/messages.ts';
import { taskQueues, wake } from '../../workflows/messages.ts';
import { testPool } from '../contracts/records/jobs.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import { people, signsFor } from './api-key.ts';
import { openNamespace } from './namespace.ts';
import { auditEntry, createPassage } from './passage.ts';
import { noteStarted, strayedReplays } from './replays.ts';
import type { Script } from './scripted-compute.ts';
import { scriptedCluster } from './scripted-compute.ts';

export type World = Awaited<ReturnType<typeof openWorld>>;

export interface WorldOptions {
  readonly policy?: Partial<Policy>;
  /** Caches almost no workflows, so that nearly every task replays the whole history. Slow. */
  readonly replayEachTask?: boolean;
}

/** Opens a world with project `p` (type `kind`), its members, a code repository and the test set `rows`. */
export async function openWorld(options: WorldOptions = {}) {
  const [{ address }, databaseUrl] = await Promise.all([temporalServer(), freshDatabase()]);
  const namespace = `test-${randomUUID()}`;
  // A flooded history exceeds gRPC's default limit of 4 MiB.
  const connection = await Connection.connect({ address, channelArgs: { 'grpc.max_receive_message_length': -1 } });
  await openNamespace(connection, namespace);
  const home = await mkdtemp(join(tmpdir(), 'ocdl-world-'));
  const stores = await openStores({ home, databaseUrl });
  const bus = await openBus({ home });
  const script: Script = { train: 'succeed', evaluate: 'pass', service: 'golden' };
  const cluster = scriptedCluster(script, stores);
  const signer = await createSigner(join(home, 'keys'));
  await stores.records.registerKeys(signer.publicKeys());
  const activities = await createActivities({
    ...{ ...stores, bus, signer, cluster: cluster.port },
  });
  quieten();
  const native = await NativeConnection.connect({ address });
  const policy: Policy = { ...defaultPolicy, undoWithinSeconds: 30, ...options.policy };
  /** The users of a Temporal namespace: a client, the API's gateway, and people's actions through it. */
  function clientOf(namespace: string) {
    const started = new Set<string>();
    const client = new Client({ connection, namespace, interceptors: { workflow: [noteStarted(started)] } });
    const gateway = createWorkflowGateway(client);
    const passage = createPassage({ stores, client, policy, gateway, signed: signsFor(signer) });
    return { namespace, client, started, own: { namespace, client, gateway, ...passage } };
  }
  const first = clientOf(namespace);
  /** Every namespace that this world has used, the current one last. */
  const used = [first];
  const present = () => used.at(-1) ?? first;
  const codePath = await workflowBundle(join(tmpdir(), 'ocdl-test-bundle'));

  const workers: { worker: Worker; running: Promise<void> }[] = [];
  const watches: ReturnType<typeof watchJobs>[] = [];
  async function startWorkers(): Promise<void> {
    const common = {
      ...{ connection: native, namespace: present().namespace, activities, dataConverter },
      ...admitting(stores.records),
    } as const;
    const made = await Promise.all([
      // Each workflow is also replayed once when the world closes. Two cached workflows are the minimum: without a cache the SDK
      // loses tasks that coincide with a query, and each costs its timeout of ten seconds.
      Worker.create({
        ...common,
        taskQueue: taskQueues.core,
        workflowBundle: { codePath },
        ...workflowTime,
        maxCachedWorkflows: options.replayEachTask ? 2 : 100,
      }),
      // A cancellation arrives with a heartbeat, so heartbeats are not throttled.
      createJobWorkers({ ...common, maxHeartbeatThrottleInterval: '1 second' }),
    ]);
    workers.push(...made.flat().map((worker) => ({ worker, running: worker.run() })));
    watches.push(
      watchJobs({
        ...{
          ...stores,
          cluster: cluster.port,
          pool: testPool('local', { gpus: 1 }),
          earlier: [],
          apiUrl: 'http://127.0.0.1:1',
          onWarn: () => undefined,
        },
        client: new Client({ connection, namespace: present().namespace, dataConverter }),
      }),
    );
  }
  async function stopWorkers(): Promise<void> {
    const all = workers.splice(0);
    for (const { worker } of all) worker.shutdown();
    await Promise.all([...all.map(({ running }) => running), ...watches.splice(0).map((watch) => watch.stop())]);
  }
  await startWorkers();
  const consumer = await consumeReleases({
    records: stores.records,
    bus,
    wakeUp: (id) => present().client.workflow.getHandle(id).signal(wake),
    onError: () => undefined,
  });

  await stores.records.createProject({ project: 'p', types: ['kind'], policy }, auditEntry('project.created'));
  for (const [user, roles] of Object.entries(people)) {
    await stores.records.createUser(user, false, auditEntry('user.created'));
    await stores.records.setMember('p', { user, roles }, auditEntry('member.set'));
  }
  await stores.code.ensure('p/code');
  const { commit } = await stores.code.commit({
    repository: 'p/code',
    branch: 'main',
    files: { 'train.py': 'print()', 'requirements.lock': '' },
    message: 'training',
    author: 'sam',
  });

  const rows = await stores.areas.write(
    storePath({ area: 'staging', project: 'p', path: 'datasets/rows/test.jsonl' }),
    once(Buffer.from('{}\n')),
  );
  await stores.records.registerDataSet(
    {
      project: 'p',
      dataset: 'rows',
      kind: 'test',
      files: [{ ...rows, name: 'test.jsonl' }],
      registeredBy: 'mia',
      registeredAt: new Date().toISOString(),
    },
    auditEntry('dataset.registered'),
  );

  const run: Beginning = {
    run: {
      code: { repository: 'p/code', commit },
      entrypoint: 'train.py',
      lock: 'requirements.lock',
      data: [],
      parameters: {},
      seed: 1,
      compute: 'cpu',
      deadlineSeconds: 60,
    },
  };

  return {
    ...stores,
    bus,
    connection,
    home,
    script,
    /** Names of the started jobs, in order. */
    begunJobs: cluster.begunJobs,
    /** Names of the jobs that were stopped while running. */
    endedJobs: cluster.endedJobs,
    run,
    ...first.own,
    startWorkers,
    stopWorkers,
    /** Simulates the loss of all Temporal data: the platform continues with an empty one. Returns the actions through it. */
    async emptyTemporal() {
      await stopWorkers();
      const empty = `test-${randomUUID()}`;
      await openNamespace(connection, empty);
      used.push(clientOf(empty));
      await startWorkers();
      return present().own;
    },
    /** Replays each workflow of the world from its complete history, then closes everything. */
    async close(): Promise<void> {
      await consumer.stop();
      await stopWorkers();
      const strayed: string[] = [];
      for (const { client, started } of used) strayed.push(...(await strayedReplays(client, codePath, started)));
      await cluster.close();
      await bus.close();
      await stores.records.close();
      await native.close();
      await connection.close();
      await rm(home, { recursive: true, force: true });
      if (strayed.length > 0) throw new Error(`replay takes another way:\n${strayed.join('\n')}`);
    },
  };
}

/** The runtime's logger can be chosen once a process. */
export function quieten(): void {
  try {
    Runtime.install({ logger: new DefaultLogger('ERROR') });
  } catch {
    // Another world of this process has already set it.
  }
}
