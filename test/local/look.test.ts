// One look at the systems of an installation: what counts as seen, and what is reported as unseen.
import { pino } from 'pino';
import type { Checkpoint, MarkedSystem } from '../../activities/installation.ts';
import type { ArtifactStore } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import type { MarkedHome } from '../../workers/marked-systems.ts';
import { belong } from '../../workers/installation.ts';
import { look } from '../../workers/look.ts';

const OWN = 'own-installation';
const checkpoint = (installation: string, tick: number): Checkpoint => ({
  ...{ v: 1, installation, tick, accepted: 0, audit: { seq: 0, hash: '' }, kept: {}, at: '2026-01-01T00:00:00.000Z' },
});

function systemWith(name: MarkedSystem['name'], newest: Checkpoint | undefined): MarkedSystem {
  return {
    ...{ name, where: `the ${name}`, owner: async () => OWN, claim: async () => OWN },
    checkpoints: { newest: async () => newest, keep: async () => undefined, seldom: false },
  };
}
const home: MarkedHome = { ...systemWith('home', undefined), marker: 'keys/installation', keys: async () => [] };
const records = {
  known: async () => ({ installation: OWN, tick: 3, accepted: 0, kept: {}, keys: [], numbers: [] }),
  auditHash: async () => undefined,
};

test('a checkpoint of another installation, left in a system that was taken over, is ignored', async () => {
  const systems = [systemWith('areas', checkpoint('another', 5_000)), systemWith('releases', checkpoint(OWN, 3))];
  const { seen, unseen } = await look({ records, home, systems, signs: false }, 1_000);
  expect(seen.systems.map(({ name, newest }) => [name, newest?.tick])).toEqual([
    ['home', undefined],
    ['areas', undefined],
    ['releases', 3],
  ]);
  expect(unseen.size).toBe(0);
});

test('a release store whose numbers cannot be read counts as not checked, so that no restore is accepted without it', async () => {
  const systems = [systemWith('releases', checkpoint(OWN, 3))];
  const releases = { list: async () => Promise.reject(new Error('slow down')) } as unknown as ArtifactStore;
  const { seen, unseen } = await look({ records, home, systems, releases, signs: false }, 1_000);
  expect(seen.numbers).toBeUndefined();
  expect([...unseen].map(([{ where }, why]) => `${where}: ${why}`)).toEqual([
    'the releases: its release numbers could not be read: slow down',
  ]);
});

test('a restore that is accepted while the systems are read does not pause again: they are read once more', async () => {
  const state = { accepted: 0, areas: 1, paused: [] as unknown[], looks: 0 };
  const areas: MarkedSystem = {
    ...systemWith('areas', undefined),
    checkpoints: {
      async newest() {
        const found = checkpoint(OWN, state.areas);
        state.looks += 1;
        // Meanwhile an administrator accepts: all systems get a new checkpoint.
        Object.assign(state, { accepted: 1, areas: 3 });
        return found;
      },
      keep: async () => undefined,
      seldom: false,
    },
  };
  const fake: Partial<Records> = {
    ...records,
    known: async () => ({ ...(await records.known()), accepted: state.accepted, kept: { areas: 3 } }),
    claimInstallation: async () => OWN,
    kept: async () => undefined,
    pause: async (findings, _, accepted) => accepted === state.accepted && state.paused.push(...findings) > 0,
  };
  const installation = { records: fake as Records, database: 'db', home, systems: [areas], signs: false };
  const log = pino({ level: 'silent' });
  const belonging = await belong(installation, { log, checkpoints: false, onRefused: () => undefined });
  await belonging.stop();
  expect([belonging.findings, state.paused, state.looks]).toEqual([[], [], 2]);
});
