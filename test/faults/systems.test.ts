// Each real system is killed, paused and restarted in the middle of a submission, a release and a delivery; the end is the same.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import pg from 'pg';
import { pino } from 'pino';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { readRunRecords, type RunRecord } from '../../deploy/local/run-records.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { deadLetterTopic } from '../../activities/ports.ts';
import { openStores } from '../../workers/wiring.ts';
import { sha256 } from '../contracts/artifact-store/material.ts';
import { collect } from '../contracts/cases.ts';
import { describeWith } from '../servers.ts';
import { until } from '../workflows/until.ts';
import { startOwnStack } from './own-stack.ts';
import { endOf, lifecycleId, pass, type Passing } from './passage.ts';
import { openScene, type Scene } from './scene.ts';
import { differences, snapshot, type Snapshot } from './snapshot.ts';

const systems = {
  kafka: ['kafka'],
  s3: ['s3'],
  namenode: ['hdfs-namenode'],
  datanode: ['hdfs-datanode'],
  alluxio: ['alluxio-proxy', 'alluxio-worker'],
  postgres: ['postgres'],
  temporal: ['temporal'],
} as const satisfies Readonly<Record<string, readonly string[]>>;
type System = keyof typeof systems;
const actions = ['kill', 'pause', 'restart'] as const;
type Action = (typeof actions)[number];
/** Where in the passage: as soon as the step has started. */
const moments = { submission: 'submitted', release: 'released', delivery: 'announced' } as const;
type Moment = keyof typeof moments;

interface Fault {
  readonly system: System;
  readonly action: Action;
  readonly moment: Moment;
}
interface Disturbed {
  readonly name: string;
  readonly faults: readonly Fault[];
}

/** Longer than any step takes undisturbed, so that it meets the pause. */
const PAUSE_MS = 5_000;
/** For every combination on a busy machine. */
const WITHIN_MS = 5_400_000;
/**
 * Each action once per system, in one passage where a step cannot end without the system (it can without Alluxio). Each kill
 * falls where the system is used: a submission needs no Kafka, no S3.
 */
const chosen: Readonly<Record<System, readonly Readonly<Partial<Record<Moment, Action>>>[]>> = {
  kafka: [{ submission: 'restart', release: 'kill', delivery: 'pause' }],
  s3: [{ submission: 'pause', release: 'kill', delivery: 'restart' }],
  namenode: [{ submission: 'kill', release: 'pause', delivery: 'restart' }],
  datanode: [{ submission: 'pause', release: 'restart', delivery: 'kill' }],
  alluxio: [{ submission: 'kill', delivery: 'restart' }, { release: 'pause' }],
  postgres: [{ submission: 'restart', release: 'kill', delivery: 'pause' }],
  temporal: [{ submission: 'pause', release: 'restart', delivery: 'kill' }],
};
/** `npm run faults` takes every combination, each in a separate passage. */
const all: readonly Disturbed[] = (Object.keys(systems) as System[]).flatMap((system) => {
  const every = Object.keys(moments) as Moment[];
  const single = every.flatMap((moment) => actions.map((action) => ({ [moment]: action })));
  return (process.env.FAULTS === 'all' ? single : chosen[system]).map((passage: Partial<Record<Moment, Action>>) => {
    const faults = every.flatMap((moment) => {
      const action = passage[moment];
      return action ? [{ system, action, moment }] : [];
    });
    const name = faults.map(({ action, moment }) => `${action} in the middle of a ${moment}`).join(', ');
    return { name: `${system}: ${name}`, faults };
  });
});

describeWith(['kafka', 'hdfs', 'alluxio', 's3'], 'faults of real systems', () => {
  let stack: Awaited<ReturnType<typeof startOwnStack>>;
  let variables: Readonly<Record<string, string>>;
  let clean: Snapshot;

  beforeAll(async () => {
    stack = await startOwnStack();
    variables = stack.variables;
    clean = await passAndEmpty({
      async submitted(scene) {
        const cached = await openCached(scene);
        expect(await cached.read().finally(() => cached.close())).toBe('by Alluxio');
      },
    });
  }, WITHIN_MS);

  afterAll(async () => {
    await stack?.stop();
  }, WITHIN_MS);

  it('without faults, ends with one event, one live version and its bytes in S3', () => {
    expect(clean['authoritative.live_pointers']).toEqual([
      expect.stringMatching(/"generation":1,.*"release":"kind-1"/) as string,
    ]);
    expect(clean.events).toEqual([expect.stringContaining('"id":"kind-1"') as string]);
    // It ran on these systems, not on the embedded ones.
    for (const uri of ['s3://ocdl-releases/', 'hdfs:areas/']) expect(JSON.stringify(clean)).toContain(uri);
    expect(clean['dead letters']).toEqual([]);
    expect(clean.releases).toHaveLength(3);
    expect(clean.areas?.length).toBeGreaterThan(6);
  });

  it.each(all)(
    '$name',
    async ({ faults }) => {
      const passing: Partial<Record<(typeof moments)[Moment], (scene: Scene) => Promise<void>>> = {};
      const begun: { moment: Moment; at: number }[] = [];
      for (const fault of faults)
        passing[moments[fault.moment]] = async (scene) =>
          void begun.push({ moment: fault.moment, at: await inject(fault, scene) });
      const ends: { moment: Moment; at: number }[] = [];
      const over = async (scene: Scene): Promise<void> => {
        for (const { moment } of faults) ends.push({ moment, at: await endOf(scene, moment) });
      };
      expect(differences(clean, await passAndEmpty(passing, over))).toEqual([]);
      // Each fault came before its step was over.
      expect(begun.map(({ moment, at }, n) => [moment, at < (ends[n]?.at ?? 0)])).toEqual(
        faults.map(({ moment }) => [moment, true]),
      );
    },
    WITHIN_MS,
  );

  /** One passage in its own scene; the systems are emptied afterwards, so that each starts equal. */
  async function passAndEmpty(passing?: Passing, over?: (scene: Scene) => Promise<void>): Promise<Snapshot> {
    const DATABASE_URL = await newDatabase(variables['DATABASE_URL'] ?? '');
    const { TEMPORAL_ADDRESS = '' } = variables;
    const scene = await openScene({ systems: { ...variables, DATABASE_URL, TEMPORAL_ADDRESS } });
    try {
      await pass(scene, passing);
      await over?.(scene);
      return await snapshot(scene);
    } finally {
      await empty(scene);
      await scene.close();
    }
  }

  /** Disturbs a system and waits until it is as before; returns when that began. */
  async function inject({ system, action, moment }: Fault, scene: Scene): Promise<number> {
    const heard = stack.said.length;
    const before = pidsOf(system);
    // Opened before, so that the read comes before Alluxio runs again. One that is ended in order may have served still.
    const cached = system === 'alluxio' && action !== 'restart' ? await openCached(scene) : undefined;
    signal(system, action === 'kill' ? 'SIGKILL' : action === 'pause' ? 'SIGSTOP' : 'in order');
    const at = Date.now();
    try {
      if (cached) expect(await cached.read()).toBe('by HDFS');
      if (system === 'namenode' && action === 'kill' && moment === 'submission')
        expect(await waitedFor(scene)).toMatch(/^stageModel: .*NameNode/);
      if (action === 'pause') await sleep(Math.max(0, at + PAUSE_MS - Date.now()));
    } finally {
      if (action === 'pause') signal(system, 'SIGCONT');
      await cached?.close();
    }
    if (action === 'pause') expect(pidsOf(system)).toEqual(before);
    else
      await until(`${system} to run again`, async () => {
        // Another process each, of which the supervisor has said that it is ready.
        const again = Object.entries(pidsOf(system)).map(([name, pid]) => [name, pid, pid !== before[name]] as const);
        return again.every(
          ([name, pid, isNew]) =>
            isNew && stack.said.slice(heard).includes(`${name} is running again (process ${pid}).`),
        );
      });
    return at;
  }

  /** What the platform says that a submission waits for, and why. */
  async function waitedFor(scene: Scene): Promise<string> {
    const gateway = createWorkflowGateway(scene.client);
    const [waiting] = await scene.until('the submission to wait', async () => {
      const found = await gateway.waiting(lifecycleId, 10_000);
      return found.length > 0 && found;
    });
    return `${waiting?.step}: ${waiting?.reason}`;
  }

  /** What a job would be given of the submitted model, as the API reads it: through Alluxio, or else from HDFS. */
  async function openCached({ config }: Scene) {
    const stores = await openStores(config, pino({ level: 'silent' }));
    const { areas, cachedAreas, counters } = stores;
    return {
      async read(): Promise<'by Alluxio' | 'by HDFS'> {
        const uri = areas.uri('private/p/sam/s-1/model.onnx' as StorePath);
        expect(sha256(await collect(await cachedAreas.read(uri)))).toBe(await areas.digest(uri));
        return counters()['alluxio_fallbacks'] === 0 ? 'by Alluxio' : 'by HDFS';
      },
      close: () => stores.close(),
    };
  }

  function recordsOf(system: System): readonly RunRecord[] {
    const records = readRunRecords(join(stack.home, 'run'));
    return systems[system].map((name) => {
      const record = records.find((one) => one.name === name);
      if (!record) throw new Error(`${name} does not run`);
      return record;
    });
  }
  const pidsOf = (system: System): Readonly<Record<string, number>> =>
    Object.fromEntries(recordsOf(system).map(({ name, child }) => [name, child.pid]));

  /** The stack's supervisor starts again what has ended. A pause is of all that belongs to a system, PostgreSQL's backends too. */
  function signal(system: System, name: NodeJS.Signals | 'in order'): void {
    for (const { child, stopSignal } of recordsOf(system))
      if (name === 'SIGSTOP' || name === 'SIGCONT') signalAll(child.pid, name);
      else process.kill(child.pid, name === 'in order' ? stopSignal : name);
  }
});

/** The parent first, so that it starts no new children. */
function signalAll(pid: number, name: NodeJS.Signals): void {
  process.kill(pid, name);
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  for (const child of children)
    try {
      signalAll(Number(child), name);
    } catch {
      // It has just ended by itself.
    }
}

async function newDatabase(url: string): Promise<string> {
  const name = `fault_${randomUUID().replaceAll('-', '')}`;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  return Object.assign(new URL(url), { pathname: `/${name}` }).href;
}

/** Removes what a passage left in the stores and topics. */
async function empty({ areas, releases, config }: Scene): Promise<void> {
  for (const [store, folders] of [
    [areas, ['private/p', 'common/p', 'staging/p']],
    [releases, ['releases', 'manifests']],
  ] as const)
    for (const folder of folders)
      for (const { uri } of (await store.list(folder as StorePath)).files) await store.remove(uri);
  const kafka = new Kafka({ brokers: [...(config.kafka ? config.kafka.brokers : [])], logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).filter((topic) => ['kind', deadLetterTopic('kind')].includes(topic));
    await admin.deleteTopics({ topics });
    await until('every consumer group to be gone', async () => {
      const { groups } = await admin.listGroups();
      // A group of a member that was cut off is only free when its session has ended.
      await admin.deleteGroups(groups.map(({ groupId }) => groupId));
      return true;
    });
  } finally {
    await admin.disconnect();
  }
}
