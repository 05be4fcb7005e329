// The applications' consumer: receives release events and signals the application's workflow, which reads the records.
import { Client, Connection } from '@temporalio/client';
import { z } from 'zod';
import { failure } from '../activities/failures.ts';
import { releaseEventType, withdrawalEventType } from '../activities/release.ts';
import type { EventBus } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import { wake, workflowId } from '../workflows/messages.ts';
import { workerConfig } from './config.ts';
import { belong } from './installation.ts';
import { databaseOf, markedEvents, markedHome, markedNamespace } from './marked-systems.ts';
import { createLog, closeParentChannel, onEnd, refused, run, tellReady } from './process.ts';
import { openBus, openRecords, patiently } from './wiring.ts';

/** A new application is subscribed within this time. */
const LOOK_EVERY_MS = 2_000;

const eventSchema = z.object({
  specversion: z.literal('1.0'),
  id: z.string().min(1),
  type: z.enum([releaseEventType, withdrawalEventType]),
  data: z.object({ release: z.string().min(1) }),
});

/**
 * Subscribes every (application, type) in the records, including those added later. An event only wakes the workflow, which
 * reads the records. The offset is committed once the signal is sent; malformed events go to the dead-letter topic.
 */
export async function consumeReleases(deps: {
  records: Records;
  bus: EventBus;
  wakeUp: (id: string) => Promise<void>;
  onError: (error: unknown) => void;
}): Promise<{ stop(): Promise<void> }> {
  const { records, bus, wakeUp, onError } = deps;
  const subscriptions = new Map<string, { stop(): Promise<void> }>();
  const look = async (): Promise<void> => {
    const applications = await records.applications({});
    const wanted = new Set(
      applications.flatMap(({ application, types }) =>
        types.map((type) => workflowId.application({ application, type })),
      ),
    );
    // Types that an application no longer consumes. A type that returns is subscribed and woken like a new one.
    for (const [id, subscription] of subscriptions) {
      if (wanted.has(id)) continue;
      await subscription.stop();
      subscriptions.delete(id);
    }
    for (const { application, types } of applications) {
      for (const type of types) {
        const id = workflowId.application({ application, type });
        if (subscriptions.has(id)) continue;
        const handle = async ({ value }: { value: unknown }): Promise<void> => {
          const event = eventSchema.safeParse(value);
          if (!event.success)
            throw failure(
              'InvalidInput',
              `malformed release event: ${event.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ')}`,
            );
          if (!(await records.release(event.data.data.release)))
            throw failure('NotFound', `release ${event.data.data.release} does not exist`);
          await wakeUp(id);
        };
        subscriptions.set(
          id,
          await bus.subscribe({ topic: type, group: `application-${application}`, handle, onError }),
        );
        // Releases announced before this subscription, or whose event was dead-lettered, are found without their event.
        await wakeUp(id).catch(onError);
      }
    }
  };
  await look();
  const state = { isLooking: false };
  const timer = setInterval(() => {
    // While the database is unavailable, a run can take longer than the interval; a second one would subscribe everything twice.
    if (state.isLooking) return;
    state.isLooking = true;
    void look()
      .catch(onError)
      .finally(() => (state.isLooking = false));
  }, LOOK_EVERY_MS);
  return {
    async stop() {
      clearInterval(timer);
      await Promise.all([...subscriptions.values()].map((subscription) => subscription.stop()));
    },
  };
}

async function main(): Promise<void> {
  const config = workerConfig();
  const log = createLog('application', config.logLevel);
  const [records, bus, connection] = await Promise.all([
    openRecords(config, log),
    openBus(config, log),
    patiently(
      () => Connection.connect(config.temporal.connection),
      (message) => log.warn(message),
    ),
  ]);
  const belonging = await belong(
    {
      records,
      database: databaseOf(config.databaseUrl),
      home: markedHome(config.home),
      systems: [markedNamespace(connection, config.temporal), markedEvents(config, bus)],
      signs: false,
    },
    { log, checkpoints: false, onRefused: refused(log) },
  );
  const { workflow } = new Client({ connection, namespace: config.temporal.namespace });
  const consumer = await consumeReleases({
    records,
    bus,
    wakeUp: (id) => workflow.getHandle(id).signal(wake),
    onError: (error) => log.warn({ error: String(error) }, 'an event could not be handled; retrying'),
  });
  onEnd(log, async () => {
    await consumer.stop();
    await belonging.stop();
    await bus.close();
    await records.close();
    await connection.close();
    closeParentChannel();
  });
  log.info('ready');
  tellReady();
}

if (import.meta.filename === process.argv[1]) await run('application', main);
