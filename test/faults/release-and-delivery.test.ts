// A worker is killed before and after the effect of each activity of a release and its delivery; the result is the same.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChild } from './child-process.ts';
import { hurriedBundle } from './hurried-bundle.ts';
import { lanes } from './lanes.ts';
import { moments, nameOf, type KillPoint } from './kill-point.ts';
import type { Executed, Passing } from './passage.ts';
import { activitiesOfRelease, lifecycleId, pass, releaseCommandId } from './passage.ts';
import { openScene, type Plant, type Scene } from './scene.ts';
import { differences, snapshot, type Snapshot } from './snapshot.ts';

/** Each scene mostly waits out Temporal's patience with the dead worker's activity, so more of them fit than there are cores. */
const AT_ONCE = Number(process.env.FAULTS_AT_ONCE ?? 8);
/** For the whole file on a busy machine; on two idle cores it takes a few minutes. */
const WITHIN_MS = 1_800_000;
/** Activities that come as often as their workflow is woken: there the scene wakes it until the worker is dead. */
const reads: Readonly<Record<string, 'application' | 'modelLifecycle'>> = {
  openDelivery: 'application',
  readFence: 'application',
  advanceVersion: 'modelLifecycle',
};

interface Scenario {
  readonly name: string;
  readonly killAt?: readonly KillPoint[];
  readonly plant?: Plant;
  readonly passing?: Passing;
}
interface Ended {
  readonly name: string;
  readonly kills: readonly string[];
  /** The differences from the clean run, or why the run did not end. */
  readonly problems: readonly string[];
}

const folder = mkdtempSync(join(tmpdir(), 'ocdl-fault-bundle-'));
let bundle: string;
let clean: Snapshot;
let executed: readonly Executed[];
/** Every scenario, by what it is about; all share the same lanes, so that no group waits for another. */
let activities: readonly Promise<Ended>[];
let tasks: readonly Promise<Ended>[];
let consumers: readonly Promise<Ended>[];
let planted: Readonly<Record<'event-id' | 'move-key', Promise<Ended>>>;
let started: readonly Promise<Ended>[] = [];

beforeAll(async () => {
  bundle = await hurriedBundle(folder);
  const scene = await openScene({ bundle });
  try {
    await pass(scene);
    clean = await snapshot(scene);
    executed = await activitiesOfRelease(scene);
    expect(scene.kills).toEqual([]);
  } finally {
    await scene.close();
  }
  const lane = lanes(AT_ONCE);
  const start = (scenario: Scenario): Promise<Ended> => lane(() => run(scenario));
  activities = activityScenarios(executed).map(start);
  tasks = taskScenarios.map(start);
  consumers = consumerScenarios.map(start);
  planted = { 'event-id': start(plantedScenarios['event-id']), 'move-key': start(plantedScenarios['move-key']) };
  started = [...activities, ...tasks, ...consumers, ...Object.values(planted)];
}, WITHIN_MS);

// Even if only some tests run, no scene outlives this file.
afterAll(async () => {
  await Promise.all(started);
  rmSync(folder, { recursive: true, force: true });
}, WITHIN_MS);

it('without faults, ends with one event, one live version at generation 1 and one commit per step', () => {
  expect(clean['authoritative.live_pointers']).toEqual([
    expect.stringMatching(/"generation":1,.*"release":"kind-1"/) as string,
  ]);
  expect(clean.events).toEqual([expect.stringContaining('"id":"kind-1"') as string]);
  expect(clean['dead letters']).toEqual([]);
  expect(clean.branches).toHaveLength(2);
  for (const branch of clean.branches ?? [])
    expect((JSON.parse(branch) as { messages: string[] }).messages).toHaveLength(2);
  expect(clean.releases).toHaveLength(3);
  expect(clean['audit chain']).toEqual([expect.stringContaining('broken at null') as string]);
  expect([...(clean.areas ?? []), ...(clean.releases ?? [])].filter((line) => line.includes('.tmp'))).toEqual([]);
});

it(
  'ends the same wherever the worker is killed',
  async () => {
    // The current number of activities; fewer mean that the list was read incorrectly.
    expect(activities.length).toBeGreaterThanOrEqual(17);
    await expectEndsAsClean('worker, around an activity', activities, ['SIGKILL', 'SIGKILL']);
  },
  WITHIN_MS,
);

it(
  'ends the same if the worker is killed while a workflow handles a command',
  () => expectEndsAsClean('worker, in a workflow task', tasks, ['SIGKILL']),
  WITHIN_MS,
);

it(
  'ends the same if the consumer is killed between the event and the wake-up',
  () => expectEndsAsClean('consumer', consumers, [], 1),
  WITHIN_MS,
);

describe('with a planted defect, the comparison fails', () => {
  it.each([
    ['event-id', /^events: extra/],
    ['move-key', /^authoritative\.audit: extra .*delivery\.failed/],
  ] as const)(
    '%s',
    async (plant, sign) => {
      const { kills, problems } = await planted[plant];
      expect(kills).toEqual(['SIGKILL']);
      expect(problems).toContainEqual(expect.stringMatching(sign));
    },
    WITHIN_MS,
  );
});

/** Each activity: the first worker is killed before its effect, the second, which retries it, after it; the third is not killed. */
function activityScenarios(list: readonly Executed[]): readonly Scenario[] {
  // Whether the application is woken during a delivery is chance: this read must be among them.
  const fence = { workflow: 'application', activity: 'readFence', occurrence: 1 };
  return [...list.filter(({ activity }) => activity !== 'readFence'), fence].map((one) => {
    const before = { kind: 'activity', ...one, moment: 'before' } as const;
    const after = { ...before, occurrence: 'retried', moment: 'after' } as const;
    return { name: `${nameOf(before)} and after`, killAt: [before, after], passing: { nudge: reads[one.activity] } };
  });
}

async function expectEndsAsClean(
  what: string,
  scenarios: readonly Promise<Ended>[],
  workerKills: readonly string[],
  otherKills = 0,
): Promise<void> {
  const ended = await Promise.all(scenarios);
  const same = ended.filter(({ problems }) => problems.length === 0);
  const kills = ended.flatMap((one) => one.kills).length + otherKills * ended.length;
  process.stderr.write(`${what}: ${kills} kills, ${same.length} ends equal to the clean run\n`);
  expect(ended.filter(({ problems }) => problems.length > 0)).toEqual([]);
  expect(ended.filter((one) => one.kills.join() !== workerKills.join())).toEqual([]);
}

async function run({ name, killAt, plant, passing }: Scenario): Promise<Ended> {
  const kills: string[] = [];
  try {
    const scene = await openScene({ bundle, kills, ...(killAt && { killAt }), ...(plant && { plant }) });
    try {
      await pass(scene, passing);
      return { name, kills: [...kills], problems: differences(clean, await snapshot(scene)) };
    } finally {
      await scene.close();
    }
  } catch (error) {
    return { name, kills: [...kills], problems: [error instanceof Error ? error.message : String(error)] };
  }
}

/** Kills the worker from outside once the record says that the release was decided. */
async function killWhenAccepted(scene: Scene): Promise<void> {
  await scene.until('the command to be decided', async () => {
    const row = await scene.records.command(lifecycleId, releaseCommandId);
    return row && !row.isOpen;
  });
  scene.killWorker();
}

/** A consumer in its own process that kills itself around the event's wake-up; its successor must be handed the event again. */
function dyingConsumer(moment: 'before' | 'after') {
  return async (scene: Scene): Promise<{ stop(): Promise<void> }> => {
    const first = await startChild('consumer.ts', { ...scene.environment, KILL_AT: moment });
    const second = first.ended.then((how) => {
      if (how !== 'SIGKILL') throw new Error(`the consumer was never killed, it ended by ${how}: ${first.output()}`);
      return startChild('consumer.ts', { ...scene.environment, KILL_AT: '' });
    });
    second.catch(() => undefined);
    return {
      async stop() {
        // A consumer without the event would never end.
        const tooLong = setTimeout(() => first.process.kill('SIGTERM'), 60_000);
        const successor = await second.finally(() => clearTimeout(tooLong));
        // Once for the subscription, and once for the unfinished event.
        for (const end = Date.now() + 30_000; successor.said.length < 2 && Date.now() < end;) await sleep(100);
        const { length } = successor.said;
        await successor.stop();
        if (length < 2) throw new Error('the consumer after the killed one was not handed the event');
      },
    };
  };
}

const taskScenarios: readonly Scenario[] = [
  ...moments.map((moment) => {
    const killAt = { kind: 'task', commandId: releaseCommandId, moment } as const;
    return { name: nameOf(killAt), killAt: [killAt] };
  }),
  { name: 'as soon as the command is accepted', passing: { released: killWhenAccepted } },
];
const consumerScenarios: readonly Scenario[] = moments.map((moment) => ({
  name: `consumer, ${moment} the wake-up`,
  passing: { consume: dyingConsumer(moment) },
}));
const killAfter = (workflow: string, activity: string): readonly KillPoint[] => [
  { kind: 'activity', workflow, activity, occurrence: 1, moment: 'after' },
];
const plantedScenarios = {
  'event-id': { name: 'event-id', killAt: killAfter('release', 'announceRelease'), plant: 'event-id' },
  'move-key': { name: 'move-key', killAt: killAfter('application', 'moveLivePointer'), plant: 'move-key' },
} as const satisfies Record<string, Scenario>;
