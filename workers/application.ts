// An application's consumer: hears of releases on the topics of its types and wakes its workflow, which looks for itself.
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
import { createLog, letGo, onEnd, refused, run, tellReady } from './process.ts';
import { openBus, openRecords, patiently } from './wiring.ts';

/** How soon a new application is subscribed. */
const LOOK_EVERY_MS = 2_000;

const eventSchema = z.object({
  specversion: z.literal('1.0'),
  id: z.string().min(1),
  type: z.enum([releaseEventType, withdrawalEventType]),
  data: z.object({ release: z.string().min(1) }),
});

/**
 * Subscribes every (application, type) that the records know, also those that come later. An event only wakes: what is true
 * is read from the records. The offset moves once the workflow has the signal; an event that is none goes to the dead letters.
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
    // A type that an application no longer consumes. If it comes back, it is subscribed and woken like a new one.
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
              `no release event: ${event.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ')}`,
            );
          if (!(await records.release(event.data.data.release)))
            throw failure('NotFound', `there is no release ${event.data.data.release}`);
          await wakeUp(id);
        };
        subscriptions.set(
          id,
          await bus.subscribe({ topic: type, group: `application-${application}`, handle, onError }),
        );
        // What was announced while nobody listened, or ended among the dead letters, is found without its event.
        await wakeUp(id).catch(onError);
      }
    }
  };
  await look();
  const state = { isLooking: false };
  const timer = setInterval(() => {
    // A database that is away keeps a look for longer than this: a second one would subscribe everything twice.
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
    onError: (error) => log.warn({ error: String(error) }, 'an event could not be handled yet'),
  });
  onEnd(log, async () => {
    await consumer.stop();
    await belonging.stop();
    await bus.close();
    await records.close();
    await connection.close();
    letGo();
  });
  log.info('ready');
  tellReady();
}

if (import.meta.filename === process.argv[1]) await run('application', main);
