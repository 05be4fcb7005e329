// What the passages run on: PostgreSQL and Temporal as the platform runs them, and in this process one worker for each contender.
import { fileURLToPath } from 'node:url';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import pg from 'pg';
import { createPostgresRecords } from '../../../activities/adapters/postgres/records.ts';
import { createSigner } from '../../../activities/signing.ts';
import { createWorkflowGateway } from '../../../api/temporal.ts';
import { superviseChild } from '../../../deploy/local/child.ts';
import { anyFreePort } from '../../../deploy/local/ports.ts';
import { findTemporal } from '../../../deploy/local/temporal-binary.ts';
import { temporalSpec } from '../../../deploy/local/temporal.ts';
import { admitting, dataConverter, workflowBundle, workflowTime } from '../../../workers/bundle.ts';
import { watchJobs } from '../../../workers/job-watch.ts';
import { createJobWorkers } from '../../../workers/queues.ts';
import { createActivities } from '../../../workers/wiring.ts';
import { defaultPolicy } from '../../../workflows/domain/model.ts';
import { taskQueues } from '../../../workflows/messages.ts';
import { people, signsFor } from '../../workflows/api-key.ts';
import { auditEntry } from '../../workflows/passage.ts';
import { testPool } from '../../contracts/records/jobs.ts';
import { startDatabase } from '../database.ts';
import { openInstantSystems } from './instant-systems.ts';
import { createPlainActivities } from './plain-activities.ts';
import type { Statement } from './plain-rows.ts';
import { plainQueues } from './plain-workflows.ts';
import { countStatements, openWatch } from './watch.ts';

export type LifecycleStage = Awaited<ReturnType<typeof openLifecycleStage>>;

const NAMESPACE = 'bench';
/** As many connections as a process of the platform has. */
const POOL = 10;

/** Opens it with project `p`, its types and its members. */
export async function openLifecycleStage(types: readonly string[], say: (line: string) => void) {
  countStatements();
  Runtime.install({ logger: new DefaultLogger('ERROR', () => undefined), shutdownSignals: [] });
  const database = await startDatabase(say);
  const temporal = superviseChild(await temporalServer(database.folder, say), {
    home: { run: join(database.folder, 'run'), logs: join(database.folder, 'logs') },
    ...{ verbose: false, say, onGivenUp: ({ message }: Error) => say(message) },
  });
  const closing: (() => Promise<unknown>)[] = [() => database.stop(), () => temporal.stop()];
  const close = async (): Promise<void> => {
    for (const end of closing.reverse()) await end();
  };
  try {
    await temporal.ready;
    return await open();
  } catch (error) {
    await close();
    throw error;
  }

  async function open() {
    const address = addresses.temporal;
    const records = await createPostgresRecords({ url: database.url });
    const pool = new pg.Pool({ connectionString: database.url, max: POOL });
    const connection = await Connection.connect({ address });
    const native = await NativeConnection.connect({ address });
    const [own, plain] = [await openInstantSystems(), await openInstantSystems()];
    closing.push(
      ...[() => own.close(), () => plain.close(), () => records.close(), () => pool.end()],
      ...[() => native.close(), () => connection.close()],
    );
    const signer = await createSigner(join(database.folder, 'keys'));
    await records.registerKeys(signer.publicKeys());
    await records.createProject({ project: 'p', types, policy: defaultPolicy }, auditEntry('project.created'));
    for (const [user, roles] of Object.entries(people)) {
      await records.createUser(user, false, auditEntry('user.created'));
      await records.setMember('p', { user, roles }, auditEntry('member.set'));
    }
    const watches = { platform: openWatch(), plain: openWatch() };
    const client = new Client({ connection, namespace: NAMESPACE });

    const activities = await createActivities({
      records: {
        ...records,
        // What a job's token would tell its wrapper.
        async issueToken(token, audit) {
          own.expectJob(token.name, token.job?.outputs ?? []);
          return records.issueToken(token, audit);
        },
      },
      ...{ areas: own.areas, cachedAreas: own.areas, releases: own.releases, code: own.code, bus: own.bus },
      ...{ cluster: own.cluster, signer, counters: () => ({}), close: async () => {} },
      outside: {
        ...{ sources: own.sources, archives: own.archives, scratch: join(database.folder, 'imports') },
        importBytes: 2 ** 20,
      },
    });
    const common = { connection: native, namespace: NAMESPACE, maxCachedWorkflows: 100 } as const;
    const admission = admitting(records).interceptors.activity;
    const platformWorkers = {
      ...{ ...common, activities, dataConverter },
      interceptors: { activity: [watches.platform.interceptor, ...admission] },
    };
    const scratch = join(database.folder, 'plain-imports');
    const plainWorkers = {
      ...{ ...common, activities: createPlainActivities({ pool, systems: plain, signer, scratch }) },
      interceptors: { activity: [watches.plain.interceptor] },
    };
    const { code } = await bundleWorkflowCode({
      workflowsPath: fileURLToPath(new URL('plain-workflows.ts', import.meta.url)),
      logger: new DefaultLogger('ERROR'),
    });
    const codePath = await workflowBundle(cache);
    const workers = await Promise.all([
      Worker.create({
        ...{ ...platformWorkers, ...workflowTime, taskQueue: taskQueues.core },
        workflowBundle: { codePath },
      }),
      createJobWorkers(platformWorkers),
      Worker.create({ ...plainWorkers, ...workflowTime, taskQueue: plainQueues.core, workflowBundle: { code } }),
      Worker.create({ ...plainWorkers, taskQueue: plainQueues.jobs }),
    ]).then((made) => made.flat());
    const running = Promise.all(workers.map((worker) => worker.run()));
    const jobs = watchJobs({
      ...{
        records,
        areas: own.areas,
        cluster: own.cluster,
        client,
        pool: testPool('local'),
        earlier: [],
        apiUrl: 'http://127.0.0.1:1',
      },
      onWarn: () => undefined,
    });
    closing.push(async () => {
      for (const worker of workers) worker.shutdown();
      await running;
      await jobs.stop();
    });

    /** Writes rows as a client does, in one transaction. */
    async function write(statements: readonly Statement[]): Promise<void> {
      const connected = await pool.connect();
      try {
        await connected.query('begin');
        for (const { text, values } of statements) await connected.query(text, [...values]);
        await connected.query('commit');
      } finally {
        connected.release();
      }
    }
    return {
      ...{ records, client, gateway: createWorkflowGateway(client), signed: signsFor(signer), watches, write, close },
      systems: { platform: own, plain },
      query: async (text: string) => (await pool.query<Record<string, unknown>>(text)).rows,
    };
  }
}

const cache = process.env.OCDL_CACHE ?? join(homedir(), '.cache', 'ocdl');
const addresses = { temporal: '' };

async function temporalServer(folder: string, say: (line: string) => void) {
  const binary = await findTemporal({ cache, env: process.env, onProgress: say });
  const [port, uiPort] = [await anyFreePort('127.0.0.1'), await anyFreePort('127.0.0.1')];
  addresses.temporal = `127.0.0.1:${port}`;
  return temporalSpec({ binary, folder: join(folder, 'temporal'), port, uiPort, namespace: NAMESPACE });
}
