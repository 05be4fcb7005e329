// An operator may terminate, cancel or reset any workflow of a passage at any step: the record resumes it, and the end is the same.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { sweep } from '../../api/sweep.ts';
import { createWorkflowGateway } from '../../api/temporal.ts';
import { parseWorkflowId } from '../../workflows/messages.ts';
import { watchAgreement } from './agreement.ts';
import { byHand, operations, type Operation } from './by-hand.ts';
import { interruptions, withoutDocumented } from './documented.ts';
import { hurriedBundle } from './hurried-bundle.ts';
import { holdingActivities, moments, nameOf, type ActivityPoint } from './kill-point.ts';
import { lanes } from './lanes.ts';
import type { Executed } from './passage.ts';
import { activitiesOfPassage, applicationId, lifecycleId, pass } from './passage.ts';
import { openScene, type Scene } from './scene.ts';
import { differences, snapshot, type Snapshot } from './snapshot.ts';

/** The operation, its target workflow, and the activity during which it happens. */
interface Disturbance {
  readonly operation: Operation;
  readonly to: 'itself' | 'its parent';
  readonly at: ActivityPoint;
}
interface Ended {
  readonly name: string;
  readonly operation: Operation;
  readonly problems: readonly string[];
}

/** A scene mostly waits for Temporal and PostgreSQL. */
const AT_ONCE = Number(process.env.FAULTS_AT_ONCE ?? 4);
const WITHIN_MS = 3_600_000;
/** The platform's own pause is half a minute; what matters is that it looks again. */
const SWEEP_EVERY_MS = 500;
/** Steps that run once per wake-up, with the number that every passage has. */
const always: Readonly<Record<string, number>> = {
  readFence: 0,
  openDelivery: 2,
  advanceVersion: 2,
  fileTransitions: 5,
};

const folder = mkdtempSync(join(tmpdir(), 'ocdl-by-hand-bundle-'));
let clean: Snapshot;
let started: readonly Promise<Ended>[] = [];

beforeAll(async () => {
  const bundle = await hurriedBundle(folder);
  const undisturbed = await openScene({ bundle, interceptor: () => ({}) });
  let steps: readonly Executed[];
  try {
    await pass(undisturbed);
    clean = await snapshot(undisturbed);
    steps = await activitiesOfPassage(undisturbed);
  } finally {
    await undisturbed.close();
  }
  const lane = lanes(AT_ONCE);
  const only = new RegExp(process.env.FAULTS_ONLY ?? '');
  const every = everyDisturbance(
    steps.filter(({ activity, occurrence }) => occurrence <= (always[activity] ?? Infinity)),
  );
  const wanted = process.env.FAULTS === 'all' ? every : chosen(every);
  started = wanted.filter((one) => only.test(nameFor(one))).map((one) => lane(() => run(bundle, one)));
}, WITHIN_MS);

afterAll(async () => {
  await Promise.all(started);
  rmSync(folder, { recursive: true, force: true });
}, WITHIN_MS);

it.each(operations)(
  '%s at any step: the passage ends as without it',
  async (operation) => {
    const ended = (await Promise.all(started)).filter((one) => one.operation === operation);
    const failed = ended.filter(({ problems }) => problems.length > 0);
    process.stderr.write(
      `${operation}: ${ended.length} passages, ${ended.length - failed.length} ended as undisturbed\n`,
    );
    expect(failed).toEqual([]);
    // At least one of each workflow type, unless FAULTS_ONLY selects some.
    expect(ended.length).toBeGreaterThanOrEqual(process.env.FAULTS_ONLY === undefined ? 7 : 0);
  },
  WITHIN_MS,
);

const nameFor = ({ operation, to, at }: Disturbance): string =>
  `${operation} ${to === 'itself' ? 'the workflow' : 'the parent'} at ${nameOf(at)}`;

const targetOf = ({ at, to }: Disturbance): string => `${to} at ${at.workflow}`;

/** Every step with every operation, before and after its effect; of a child's steps also to the workflow that has started it. */
function everyDisturbance(steps: readonly Executed[]): readonly Disturbance[] {
  return steps.flatMap((step) => {
    const isChild = step.workflow === 'release' || step.workflow === 'delivery';
    const targets = isChild ? (['itself', 'its parent'] as const) : (['itself'] as const);
    return targets.flatMap((to) =>
      operations.flatMap((operation) =>
        moments.map((moment) => ({ operation, to, at: { kind: 'activity', ...step, moment } as const })),
      ),
    );
  });
}

/** Each operation once to each kind of target, at varying steps and moments. */
function chosen(all: readonly Disturbance[]): readonly Disturbance[] {
  const targets = [...new Set(all.map(targetOf))];
  return targets.flatMap((target, n) =>
    operations.flatMap((operation, turn) => {
      const moment = moments[(n + turn) % moments.length];
      const fits = all.filter(
        (one) => targetOf(one) === target && one.operation === operation && one.at.moment === moment,
      );
      return fits[Math.floor(((turn + 0.5) * fits.length) / operations.length)] ?? [];
    }),
  );
}

async function run(bundle: string, disturbance: Disturbance): Promise<Ended> {
  const { operation, to } = disturbance;
  const name = nameFor(disturbance);
  const began = Date.now();
  const held = holdingActivities(disturbance.at);
  const problems: string[] = [];
  try {
    const scene = await openScene({ bundle, interceptor: held.interceptor });
    const agreement = await watchAgreement(scene.databaseUrl);
    const sweeping = keepSweeping(scene);
    try {
      const disturbing = held.reached.then(async ({ workflowExecution }) => {
        const id = workflowExecution?.workflowId ?? '';
        await byHand(scene.client, scene.namespace, operation, to === 'itself' ? id : parentOf(id));
        sweeping.begin();
      });
      disturbing.then(held.letGo, held.letGo);
      await pass(scene);
      if (!held.isReached()) throw new Error('the passage never came to this point');
      await disturbing;
      await held.finished;
      await sweeping.stop();
      problems.push(...compare(disturbance, await snapshot(scene)));
    } finally {
      held.letGo();
      await sweeping.stop();
      problems.push(...(await agreement.stop()));
      await scene.close();
    }
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  }
  if (process.env.FAULTS === 'all')
    process.stderr.write(`${name}, ${Date.now() - began} ms: ${problems[0]?.slice(0, 300) ?? 'as undisturbed'}\n`);
  return { name, operation, problems };
}

/** How the end differs from the undisturbed one; a cancellation must be on record. */
function compare({ operation }: Disturbance, found: Snapshot): readonly string[] {
  const problems = differences(withoutDocumented(clean), withoutDocumented(found));
  if (operation === 'cancel' && interruptions(found).length === 0)
    problems.push('the cancellation is not in the audit');
  return problems;
}

/** The workflow that has started a release or a delivery. */
function parentOf(id: string): string {
  const workflow = parseWorkflowId(id)?.workflow;
  if (workflow === 'release') return lifecycleId;
  if (workflow === 'delivery') return applicationId;
  throw new Error(`${id} has no parent`);
}

/** The sweep, which the API repeats. */
function keepSweeping({ records, client }: Scene): { begin(): void; stop(): Promise<void> } {
  const workflows = createWorkflowGateway(client);
  const state = { over: false, running: Promise.resolve() };
  const log = pino({ level: 'silent' });
  return {
    begin() {
      state.running = (async () => {
        while (!state.over) {
          await sweep({ records, workflows, log });
          await sleep(SWEEP_EVERY_MS);
        }
      })();
      state.running.catch(() => undefined);
    },
    async stop() {
      state.over = true;
      await state.running;
    },
  };
}
