// The worker process: runs the workflows and all activities.
import { join } from 'node:path';
import { Client } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker, type LogLevel } from '@temporalio/worker';
import type { Logger } from 'pino';
import { registeredSigner } from '../activities/signing.ts';
import { ensureSearchAttributes } from './search-attributes.ts';
import { taskQueues } from '../workflows/messages.ts';
import { admitting, dataConverter, workflowBundle, workflowTime } from './bundle.ts';
import { keepLinked } from './chainer.ts';
import { openCompute } from './compute.ts';
import { workerConfig } from './config.ts';
import { watchJobs } from './job-watch.ts';
import { belong } from './installation.ts';
import { databaseOf, markedHome, markedNamespace, markedStores } from './marked-systems.ts';
import { createLog, closeParentChannel, onEnd, refused, run, tellReady } from './process.ts';
import { createJobWorkers } from './queues.ts';
import { createActivities, openBus, openSources, openStores, patiently } from './wiring.ts';

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
  const compute = await openCompute({ ...config, log }, stores);
  const signer = await registeredSigner(join(config.home, 'keys'), stores.records);
  const activities = await createActivities({
    ...stores,
    signer,
    bus,
    cluster: compute.services,
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

  const client = new Client({ connection, namespace: config.temporal.namespace, dataConverter });
  const names = compute.pools.map(({ pool }) => pool.name);
  const watches = compute.pools.map(({ pool, cluster, lockArchives }) =>
    watchJobs({
      ...stores,
      ...{ pool, cluster, lockArchives, client },
      earlier: names.slice(0, pool.rank),
      apiUrl: config.apiUrl,
      onWarn: (message) => log.warn(message),
    }),
  );

  const stop = (): void => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  // If one worker fails, all stop, so that no queue is left without a worker.
  const running = Promise.allSettled(workers.map((worker) => worker.run().finally(stop)));
  onEnd(log, stop);
  log.info({ taskQueues }, 'ready');
  tellReady();
  const ends = await running;
  await Promise.all(watches.map((watch) => watch.stop()));
  // Even if an activity did not stop in time: the jobs' processes must not outlive their worker.
  await compute.close();
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
