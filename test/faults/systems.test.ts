// Each real system is killed, paused or restarted in the middle of a submission, a release and a delivery; the end is the same.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';
import pg from 'pg';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import type { Supervised } from '../../deploy/local/supervisor.ts';
import { portTable, type PortName } from '../../deploy/stack/ports.ts';
import { startStack, type Stack } from '../../deploy/stack/stack.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { deadLetterTopic } from '../../activities/ports.ts';
import { stackVariables } from '../e2e/foreign-clients.ts';
import { describeWith, programs } from '../servers.ts';
import { until } from '../workflows/until.ts';
import { lifecycleId, pass, type Passing } from './passage.ts';
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
/** Where in the passage: as soon as the step is on its way. */
const moments = { submission: 'submitted', release: 'released', delivery: 'announced' } as const;
type Moment = keyof typeof moments;

interface Fault {
  readonly system: System;
  readonly action: Action;
  readonly moment: Moment;
}

/** Longer than any step takes undisturbed, so that it meets the pause. */
const PAUSE_MS = 5_000;
/** For every combination on a busy machine. */
const WITHIN_MS = 5_400_000;
/** `npm run faults` takes every combination, else each pair of system, action and moment occurs once. */
const all: readonly Fault[] = (Object.keys(systems) as System[]).flatMap((system, row) =>
  actions.flatMap((action, column) =>
    (Object.keys(moments) as Moment[])
      .filter((_, at) => process.env.FAULTS === 'all' || at === (row + column) % actions.length)
      .map((moment) => ({ system, action, moment })),
  ),
);

describeWith(['kafka', 'hdfs', 'alluxio', 's3'], 'faults of real systems', () => {
  const home = mkdtempSync(join(tmpdir(), 'ocdl-fault-stack-'));
  const end = new AbortController();
  let stack: Supervised<Stack>;
  let variables: Readonly<Record<string, string>>;
  let clean: Snapshot;

  beforeAll(async () => {
    const ports = await freePorts();
    const settings = { home, cache: programs.cache, ports, env: programs.env };
    const said: string[] = [];
    const say = (line: string): void => void said.push(line);
    stack = await startStack({ settings, say, verbose: false, stop: end.signal, force: new AbortController().signal });
    void stack.ended.then(({ error }) => error && process.stderr.write(`${error.message}\n${said.join('\n')}\n`));
    // One partition: what a new reader finds at the end of it is all there is.
    variables = { ...stackVariables(home), TEMPORAL_UI_URL: '', OCDL_KAFKA_PARTITIONS: '1' };
    clean = await passAndEmpty();
  }, WITHIN_MS);

  afterAll(async () => {
    end.abort();
    await stack?.ended;
    rmSync(home, { recursive: true, force: true });
  }, WITHIN_MS);

  it('ends, undisturbed, with one event, one live version and its bytes in S3', () => {
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
    '$system: $action in the middle of a $moment',
    async ({ system, action, moment }) => {
      const disturb = async (): Promise<void> =>
        void inject(system, action).catch((error: unknown) => end.abort(error));
      expect(differences(clean, await passAndEmpty({ [moments[moment]]: disturb }))).toEqual([]);
    },
    WITHIN_MS,
  );

  it(
    'says what it waits for and why, and goes on by itself',
    async () => {
      const reasons: string[] = [];
      const submitted = async (scene: Scene): Promise<void> => {
        signal('namenode', 'SIGKILL');
        const gateway = createWorkflowGateway(scene.client);
        const [waiting] = await scene.until('the submission to wait', async () => {
          const found = await gateway.waiting(lifecycleId, 10_000);
          return found.length > 0 && found;
        });
        reasons.push(`${waiting?.step}: ${waiting?.reason}`);
      };
      expect(differences(clean, await passAndEmpty({ submitted }))).toEqual([]);
      expect(reasons).toEqual([expect.stringMatching(/^stageModel: .*NameNode/) as string]);
    },
    WITHIN_MS,
  );

  /** One passage on a scene of its own; afterwards the systems are empty again, so that each begins alike. */
  async function passAndEmpty(passing?: Passing): Promise<Snapshot> {
    const DATABASE_URL = await newDatabase(variables['DATABASE_URL'] ?? '');
    const { TEMPORAL_ADDRESS = '' } = variables;
    const scene = await openScene({ systems: { ...variables, DATABASE_URL, TEMPORAL_ADDRESS } });
    try {
      await pass(scene, passing);
      return await snapshot(scene);
    } finally {
      await empty(scene);
      await scene.close();
    }
  }

  async function inject(system: System, action: Action): Promise<void> {
    if (action !== 'pause') return signal(system, action === 'kill' ? 'SIGKILL' : 'in order');
    signal(system, 'SIGSTOP');
    await sleep(PAUSE_MS);
    signal(system, 'SIGCONT');
  }

  /** The stack's supervisor starts again what has ended. */
  function signal(system: System, name: NodeJS.Signals | 'in order'): void {
    const records = readRunRecords(join(home, 'run'));
    for (const each of systems[system]) {
      const record = records.find((one) => one.name === each);
      if (!record) throw new Error(`${each} does not run`);
      process.kill(record.child.pid, name === 'in order' ? record.stopSignal : name);
    }
  }
});

async function freePorts(): Promise<Record<PortName, number>> {
  const ports: Partial<Record<PortName, number>> = {};
  for (const name of Object.keys(portTable) as PortName[]) ports[name] = await anyFreePort('127.0.0.1');
  return ports as Record<PortName, number>;
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
    [releases, ['releases']],
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
