// Releases, their deliveries and the applications that take them in, at each point of the way.
import assert from 'node:assert/strict';
import { mkdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { ApplicationName, Scene } from './scene.ts';
import { applications, PATIENCE_MS } from './scene.ts';
import type { Thing } from './thing.ts';

const liveSchema = z.object({ release: z.string().nullable(), generation: z.number() });
const deliverySchema = z.object({ state: z.string() });
const releaseSchema = z.object({ state: z.string() });

/** The things, in the order of their releases, and what is to be done on the disk between the two programs. */
export function deliveryThings(
  scene: Scene,
  holdService: () => Promise<void>,
): {
  readonly things: readonly Thing[];
  readonly between: () => Promise<void>;
} {
  const { approved, becomes, give, send, outcomeOf, pathOf, version } = scene;
  const [mia, dev] = [scene.as('mia'), scene.as('dev')];
  const state = { reverted: '' };
  const typePath = (application: ApplicationName): string =>
    `/v1/applications/${application}/types/${applications[application]}`;
  const live = (application: ApplicationName) => dev.get(`${typePath(application)}/live`, liveSchema);
  const delivery = async (application: ApplicationName, release: string): Promise<string> =>
    (await dev.find(`/v1/applications/${application}/deliveries/${release}`, deliverySchema))?.state ?? 'none';
  const delivered = (application: ApplicationName, release: string, states: readonly string[]) =>
    dev.until(
      `delivery of ${release}`,
      () => delivery(application, release),
      (found) => states.includes(found),
      PATIENCE_MS,
    );
  /** Sends the release command alone: its effects are not waited for. */
  const release = async (submission: string): Promise<string> => {
    const { revision, digest } = await version(submission);
    return send('mia', `${pathOf(submission)}/commands`, { name: 'release', revision, digest });
  };
  /** Nothing can be announced on the topic of `u`: a folder lies where its log goes. */
  const blocked = join(scene.home, 'events', 'u', 'log.jsonl');

  const thing = (submission: string, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `version ${submission}`,
    state: async () => (await version(submission)).state,
    ...given,
  });
  const ofDelivery = (application: ApplicationName, name: string, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `delivery ${application}/${name}`,
    state: () => delivery(application, name),
    ...given,
  });
  const ofApplication = (application: ApplicationName, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `application ${application}`,
    state: async () => (await live(application)).release ?? 'nothing is live',
    ...given,
  });
  const things: readonly Thing[] = [
    thing('live', {
      left: 'released',
      leave: async () => {
        await approved('live', { type: 't' });
        await give('mia', 'live', 'release');
        await delivered('scanner', 't-1', ['live', 'failed']);
      },
      end: 'released',
    }),
    thing('returned', {
      left: 'released',
      leave: async () => {
        await approved('returned', { type: 't', golden: 'wrong' });
        await give('mia', 'returned', 'release');
        await delivered('scanner', 't-2', ['live', 'failed']);
      },
      finish: async () =>
        give('mia', 'returned', 'reassign', {
          args: { to: 'sue', reason: 'the gate found it' },
          report: await scene.reportOf('returned'),
        }),
      end: 'reassigned',
    }),
    ofDelivery('scanner', 't-2', { left: 'failed', end: 'failed' }),
    thing('first', {
      left: 'released',
      leave: async () => {
        await approved('first', { type: 'r' });
        await give('mia', 'first', 'release');
        await delivered('reverter', 'r-1', ['live', 'failed']);
      },
      end: 'released',
    }),
    thing('second', {
      left: 'released',
      leave: async () => {
        await approved('second', { type: 'r' });
        await give('mia', 'second', 'release');
        await delivered('reverter', 'r-2', ['live', 'failed']);
      },
      // Only now may it be retired: nothing runs it any more.
      finish: async () => {
        assert.equal((await outcomeOf('dev', state.reverted))?.status, 'done');
        await give('mia', 'second', 'retire', { args: { reason: 'reverted' } });
      },
      end: 'retired',
    }),
    ofApplication('reverter', {
      left: 'r-2',
      ask: async () => {
        const { generation } = await live('reverter');
        const args = { release: 'r-1', reason: 'the second one is slow' };
        state.reverted = await send('dev', `${typePath('reverter')}/commands`, {
          name: 'revert',
          args,
          revision: generation,
        });
      },
      end: 'r-1',
    }),
    thing('announcing', {
      left: 'approved',
      leave: async () => {
        await mkdir(blocked, { recursive: true });
        await approved('announcing', { type: 'u' });
      },
      begin: async () => {
        await release('announcing');
        const ask = () => mia.find('/v1/releases/u-1', releaseSchema);
        await mia.until('the release to have its number', ask, (found) => found !== undefined, PATIENCE_MS);
      },
      finish: () => becomes('announcing', ['released']),
      end: 'released',
    }),
    {
      name: 'release u-1',
      left: 'allotted',
      end: 'announced',
      state: async () => (await mia.get('/v1/releases/u-1', releaseSchema)).state,
    },
    ofApplication('waiter', {
      left: 'nothing is live',
      finish: () => delivered('waiter', 'u-1', ['live', 'failed']),
      end: 'u-1',
    }),
    thing('gating', {
      left: 'released',
      leave: () => approved('gating', { type: 't' }),
      caught: 1,
      begin: async () => {
        await release('gating');
        await holdService();
        await delivered('scanner', 't-3', ['gating', 'live', 'failed']);
      },
      end: 'released',
    }),
    thing('ready', {
      left: 'approved',
      leave: () => approved('ready', { type: 't' }),
      // After the one that is on its way.
      finish: async () => {
        await delivered('scanner', 't-3', ['live', 'failed']);
        await give('mia', 'ready', 'release');
        await delivered('scanner', 't-4', ['live', 'failed']);
      },
      end: 'released',
    }),
    ofApplication('scanner', { left: 't-1', end: 't-4' }),
    // Live, and then replaced by the next release.
    ofDelivery('scanner', 't-3', { left: 'gating', end: 'superseded' }),
  ];
  return { things, between: () => rmdir(blocked) };
}
