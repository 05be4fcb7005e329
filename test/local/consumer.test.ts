// The applications' consumer: works while unrelated systems are down, and reads the applications one run at a time.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import type { EventBus } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import { superviseChild, type SupervisedChild } from '../../deploy/local/child.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { embeddedProcesses } from '../../deploy/local/processes.ts';
import { consumeReleases } from '../../workers/application.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import { openNamespace } from '../workflows/namespace.ts';
import { eventually, newHome } from './homes.ts';

test('is ready while HDFS is down', async () => {
  const [{ address: temporalAddress }, databaseUrl] = await Promise.all([temporalServer(), freshDatabase()]);
  const TEMPORAL_NAMESPACE = `consumer-${randomUUID()}`;
  const connection = await Connection.connect({ address: temporalAddress });
  await openNamespace(connection, TEMPORAL_NAMESPACE);
  await connection.close();
  const home = await newHome({
    TEMPORAL_NAMESPACE,
    OCDL_HDFS_URL: `http://127.0.0.1:${await anyFreePort('127.0.0.1')}`,
  });
  const context = { settings: home.settings, ports: { api: 0, ui: 0, temporal: 0 }, temporalAddress, databaseUrl };
  const spec = embeddedProcesses.programs({ ...context, temporalUiUrl: '' }).find(({ name }) => name === 'application');
  if (spec === undefined) throw new Error('the platform has no consumer');
  const folders = { run: join(home.home, 'run'), logs: join(home.home, 'logs') };
  const say = (line: string): void => void home.lines.push(line);
  const started: { child?: SupervisedChild } = {};
  try {
    started.child = superviseChild(spec, {
      home: folders,
      verbose: false,
      say,
      onGivenUp: ({ message }) => say(message),
    });
    const late = sleep(60_000, undefined, { ref: false }).then(() => {
      throw new Error(`not ready within 60 s: ${home.lines.join('\n')}`);
    });
    await Promise.race([started.child.ready, late]);
  } finally {
    await started.child?.stop();
    await home.remove();
  }
}, 120_000);

test('unsubscribes a type that is no longer consumed, and subscribes and wakes one that returns', async () => {
  const state = { types: ['kind', 'other'] };
  const records = { applications: async () => [{ application: 'app', types: state.types }] } as unknown as Records;
  const [topics, woken] = [new Set<string>(), [] as string[]];
  const bus = {
    subscribe: async ({ topic }: { topic: string }) => {
      topics.add(topic);
      return { stop: async () => void topics.delete(topic) };
    },
  } as unknown as EventBus;
  const wakeUp = async (id: string): Promise<void> => void woken.push(id);
  const consumer = await consumeReleases({ records, bus, wakeUp, onError: () => undefined });
  expect([...topics]).toEqual(['kind', 'other']);
  state.types = ['other'];
  await eventually('kind is left', () => !topics.has('kind'), 10_000);
  state.types = ['kind', 'other'];
  await eventually('kind is back', () => topics.has('kind'), 10_000);
  await consumer.stop();
  expect(woken).toEqual(['application/app/kind', 'application/app/other', 'application/app/kind']);
}, 30_000);

test('does not start a second read while a slow one is running', async () => {
  const looks = { now: 0, most: 0, all: 0 };
  const records = {
    applications: async () => {
      looks.all += 1;
      looks.now += 1;
      looks.most = Math.max(looks.most, looks.now);
      // The caller waits for the first read; the later ones take longer than the interval.
      if (looks.all > 1) await sleep(5_000, undefined, { ref: false });
      looks.now -= 1;
      return [];
    },
  } as unknown as Records;
  const wakeUp = (): Promise<void> => Promise.resolve();
  const consumer = await consumeReleases({ records, bus: {} as EventBus, wakeUp, onError: () => undefined });
  await sleep(6_500);
  await consumer.stop();
  expect(looks.all).toBeGreaterThan(1);
  expect(looks.most).toBe(1);
});
