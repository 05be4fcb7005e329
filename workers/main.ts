// The worker process: runs the workflows and all activities.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker, type LogLevel } from '@temporalio/worker';
import type { Logger } from 'pino';
import { registeredSigner } from '../activities/signing.ts';
import { ensureSearchAttributes } from './search-attributes.ts';
import { taskQueues } from '../workflows/messages.ts';
import { admitting, dataConverter, workflowBundle, workflowTime } from './bundle.ts';
import { keepLinked } from './chainer.ts';
import { workerConfig } from './config.ts';
import { watchJobs } from './job-watch.ts';
import { belong } from './installation.ts';
import { databaseOf, markedHome, markedNamespace, markedStores } from './marked-systems.ts';
import { createLog, closeParentChannel, onEnd, refused, run, tellReady } from './process.ts';
import { createJobWorkers, places } from './queues.ts';
import {
  createActivities,
  openBus,
  openCompute,
  openLockArchives,
  openSources,
  openStores,
  patiently,
} from './wiring.ts';

/**
 * At shutdown, short activities have one second to finish; then all others are cancelled, and Temporal reschedules them on the
 * next worker. A job's program has 5 s to stop (activities/adapters/local-process/program.ts). The supervisor waits for both.
 */
const SHUTDOWN = { shutdownGraceTime: '1 second', shutdownForceTime: '7 seconds' } as const;

async function main(): Promise<void> {
  const config = workerConfig();
  const log = createLog('worker', config.logLevel);
  installRuntime(log);
  const [bundle, connection, stores, bus] = await Promise.all([
    workflowBundle(config.cache),
    patiently(
      () => NativeConnection.connect(config.temporal.connection),
      (message) => log.warn(message),
    ),
    openStores(config, log),
    openBus(config, log),
  ]);
  const belonging = await belong(
    {
      ...stores,
      database: databaseOf(config.databaseUrl),
      home: markedHome(config.home),
      systems: [markedNamespace(connection, config.temporal), ...markedStores(config, { ...stores, bus })],
      signs: true,
    },
    { log, checkpoints: true, onRefused: refused(log) },
  );
  const chainer = keepLinked({ records: stores.records, onWarn: (message) => log.warn(message) });
  await ensureSearchAttributes(connection, config.temporal.namespace);
  const cluster = await openCompute({ ...config, log }, stores);
  const lockArchives = await openLockArchives(config, stores, log);
  const signer = await registeredSigner(join(config.home, 'keys'), stores.records);
  const activities = await createActivities({
    ...stores,
    signer,
    bus,
    cluster,
    outside: openSources(config),
    onWarn: (message) => log.warn(message),
  });
  const common = {
    connection,
    namespace: config.temporal.namespace,
    activities,
    dataConverter,
    ...SHUTDOWN,
    ...admitting(stores.records),
  };
  const workers = await Promise.all([
    Worker.create({
      ...common,
      taskQueue: taskQueues.core,
      workflowBundle: { codePath: bundle },
      ...workflowTime,
    }),
    createJobWorkers(common),
  ]).then((made) => made.flat());

  const watch = watchJobs({
    ...stores,
    cluster,
    lockArchives,
    // Jobs of local processes are lost with their machine; those on Kubernetes are found again by any worker.
    ...(config.kubernetes
      ? { pool: 'kubernetes', places: places.kubernetes }
      : { pool: `local ${hostname()} ${config.home}`, places: places.local }),
    client: new Client({ connection, namespace: config.temporal.namespace, dataConverter }),
    apiUrl: config.apiUrl,
    onWarn: (message) => log.warn(message),
  });

  const stop = (): void => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  // If one worker fails, all stop, so that no queue is left without a worker.
  const running = Promise.allSettled(workers.map((worker) => worker.run().finally(stop)));
  onEnd(log, stop);
  log.info({ taskQueues }, 'ready');
  tellReady();
  const ends = await running;
  await watch.stop();
  await lockArchives?.close();
  // Even if an activity did not stop in time: the jobs' processes must not outlive their worker.
  await cluster.close();
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  await belonging.stop();
  await bus.close();
  await chainer.stop();
  await stores.close();
  await connection.close();
  closeParentChannel();
}

/** Writes the SDK's log through our logger. */
function installRuntime(log: Logger): void {
  const levels = {
    TRACE: 'trace',
    DEBUG: 'debug',
    INFO: 'info',
    WARN: 'warn',
    ERROR: 'error',
  } as const satisfies Record<LogLevel, string>;
  Runtime.install({
    logger: new DefaultLogger('INFO', ({ level, message, meta }) => {
      // The workers of the long activities intentionally have no workflows.
      if (message.startsWith('No workflows registered')) return;
      const { workflowId, activityType, ...rest } = meta ?? {};
      log[levels[level]](
        { workflowId: workflowId as unknown, activity: activityType as unknown, ...(level === 'INFO' ? {} : rest) },
        message,
      );
    }),
  });
}

await run('worker', main);
