// A worker process for fault tests: wired as workers/main.ts, with scripted compute, and it may kill itself at one named point.
import { randomUUID } from 'node:crypto';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { z } from 'zod';
import type { EventBus } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import { workerConfig } from '../../workers/config.ts';
import { openBus, openStores } from '../../workers/wiring.ts';
import { killingActivities, killingTasks, readKillPoint } from './kill-point.ts';
import { createWorkers } from './workers.ts';

const faults = z
  .object({ WORKFLOW_BUNDLE: z.string().min(1), KILL_AT: z.string(), PLANT: z.enum(['', 'event-id', 'move-key']) })
  .parse(process.env);
const config = workerConfig();
const point = readKillPoint(faults.KILL_AT);
Runtime.install({ logger: new DefaultLogger('ERROR') });

const [connection, stores, bus] = await Promise.all([
  NativeConnection.connect({ address: config.temporal.address }),
  openStores(config),
  openBus(config),
]);
const records = faults.PLANT === 'move-key' ? withoutMoveKeys(stores.records) : stores.records;
const { workers, watch } = await createWorkers({
  ...{ connection, config, stores, records, codePath: faults.WORKFLOW_BUNDLE },
  bus: faults.PLANT === 'event-id' ? withRandomIds(bus) : bus,
  interceptor: killingActivities(point),
  codec: killingTasks(point),
});
// An unsupervised worker must not outlive its test.
process.on('disconnect', () => process.exit(1));
watch();
process.send?.('ready');
await Promise.all(workers.map((worker) => worker.run()));

/** Planted defect: a repeated announcement becomes a new event. */
function withRandomIds(given: EventBus): EventBus {
  return { ...given, publish: (topic, key, event) => given.publish(topic, key, { ...event, id: randomUUID() }) };
}

/** Planted defect: a repeated move becomes a new move. */
function withoutMoveKeys(given: Records): Records {
  return { ...given, moveLivePointer: (move, audit) => given.moveLivePointer({ ...move, key: randomUUID() }, audit) };
}
