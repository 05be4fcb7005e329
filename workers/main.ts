// The worker process: runs the workflows and all activities.
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { ensureSearchAttributes } from '../deploy/local/search-attributes.ts';
import { taskQueues } from '../workflows/messages.ts';
import { dataConverter, workflowBundle, workflowTime } from './bundle.ts';
import { workerConfig } from './config.ts';
import { createLog, letGo, onEnd, tellReady } from './process.ts';
import { createActivities, openBus, openCluster, openSources, openStores, patiently } from './wiring.ts';

/** Long jobs side by side: one per core of a small machine; the rest wait in the queue, durably. */
const JOBS_AT_ONCE = 2;

const config = workerConfig();
const log = createLog('worker', config.logLevel);
Runtime.install({
  logger: new DefaultLogger('INFO', ({ level, message, meta }) => {
    // The worker of the jobs' queue has none, on purpose.
    if (message.startsWith('No workflows registered')) return;
    const known =
      level === 'TRACE'
        ? 'trace'
        : level === 'DEBUG'
          ? 'debug'
          : level === 'INFO'
            ? 'info'
            : level === 'WARN'
              ? 'warn'
              : 'error';
    const { workflowId, activityType, ...rest } = meta ?? {};
    log[known](
      { workflowId: workflowId as unknown, activity: activityType as unknown, ...(level === 'INFO' ? {} : rest) },
      message,
    );
  }),
});

const [bundle, connection, stores, bus] = await Promise.all([
  workflowBundle(config.cache),
  patiently(
    () => NativeConnection.connect(config.temporal.connection),
    (message) => log.warn(message),
  ),
  openStores(config, log),
  openBus(config, log),
]);
await ensureSearchAttributes(connection, config.temporal.namespace);
const cluster = await openCluster({ ...config, log }, stores);
const activities = await createActivities({
  ...stores,
  bus,
  cluster,
  apiUrl: config.apiUrl,
  outside: openSources(config),
});
const common = {
  connection,
  namespace: config.temporal.namespace,
  activities,
  dataConverter,
  shutdownGraceTime: '5 seconds',
  shutdownForceTime: '10 seconds',
} as const;
const workers = await Promise.all([
  Worker.create({
    ...common,
    taskQueue: taskQueues.core,
    workflowBundle: { codePath: bundle },
    ...workflowTime,
  }),
  Worker.create({ ...common, taskQueue: taskQueues.jobs, maxConcurrentActivityTaskExecutions: JOBS_AT_ONCE }),
]);

const running = Promise.all(workers.map((worker) => worker.run()));
onEnd(log, () => {
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
});
log.info({ taskQueues }, 'ready');
tellReady();
await running;
await cluster.close();
await bus.close();
await stores.close();
await connection.close();
letGo();
