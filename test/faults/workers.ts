// The workers of a scene, wired as workers/main.ts wires them, with scripted compute and a place to disturb them at.
import { join } from 'node:path';
import { Client } from '@temporalio/client';
import type { PayloadCodec } from '@temporalio/common';
import type { ActivityInterceptorsFactory, NativeConnection } from '@temporalio/worker';
import { Worker } from '@temporalio/worker';
import type { EventBus } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import { createSigner } from '../../activities/signing.ts';
import { admitting, dataConverter, workflowTime } from '../../workers/bundle.ts';
import type { Config } from '../../workers/config.ts';
import { watchJobs } from '../../workers/job-watch.ts';
import { createJobWorkers } from '../../workers/queues.ts';
import type { Stores } from '../../workers/wiring.ts';
import { createActivities } from '../../workers/wiring.ts';
import { taskQueues } from '../../workflows/messages.ts';
import { testPool } from '../contracts/records/jobs.ts';
import { scriptedCluster } from './cluster.ts';

/** Makes the workers of all queues and the watcher of jobs; they do not run yet. */
export async function createWorkers(deps: {
  readonly connection: NativeConnection;
  readonly config: Config;
  readonly stores: Stores;
  readonly records: Records;
  readonly bus: EventBus;
  readonly codePath: string;
  readonly interceptor: ActivityInterceptorsFactory;
  readonly codec?: PayloadCodec;
}): Promise<{ readonly workers: readonly Worker[]; readonly watch: () => ReturnType<typeof watchJobs> }> {
  const { connection, config, stores, records, bus, codePath, interceptor, codec } = deps;
  const signer = await createSigner(join(config.home, 'keys'));
  await records.registerKeys(signer.publicKeys());
  const cluster = scriptedCluster(stores);
  const activities = await createActivities({
    ...{ ...stores, records, signer, bus, cluster },
  });
  const common = {
    connection,
    namespace: config.temporal.namespace,
    activities,
    dataConverter: { ...dataConverter, ...(codec && { payloadCodecs: [codec] }) },
    interceptors: { activity: [...admitting(records).interceptors.activity, interceptor] },
  };
  const made = await Promise.all([
    Worker.create({
      ...common,
      taskQueue: taskQueues.core,
      workflowBundle: { codePath },
      ...workflowTime,
      maxCachedWorkflows: 100,
      // Tasks in a dead worker's sticky queue soon go to other workers.
      stickyQueueScheduleToStartTimeout: '1 second',
    }),
    createJobWorkers(common),
  ]);
  const watch = (): ReturnType<typeof watchJobs> =>
    watchJobs({
      ...{
        ...stores,
        records,
        cluster,
        pool: testPool('local'),
        earlier: [],
        apiUrl: config.apiUrl,
        onWarn: () => undefined,
      },
      client: new Client({
        connection,
        namespace: config.temporal.namespace,
        dataConverter: common.dataConverter,
      }),
    });
  return { workers: made.flat(), watch };
}
