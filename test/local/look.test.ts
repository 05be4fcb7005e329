// One look at the systems of an installation: what counts as seen, and what is reported as unseen.
import type { Checkpoint, MarkedSystem } from '../../activities/installation.ts';
import type { ArtifactStore } from '../../activities/ports.ts';
import type { MarkedHome } from '../../workers/marked-systems.ts';
import { look } from '../../workers/look.ts';

const OWN = 'own-installation';
const checkpoint = (installation: string, tick: number): Checkpoint => ({
  ...{ v: 1, installation, tick, audit: { seq: 0, hash: '' }, kept: {}, at: '2026-01-01T00:00:00.000Z' },
});

function systemWith(name: MarkedSystem['name'], newest: Checkpoint | undefined): MarkedSystem {
  return {
    ...{ name, where: `the ${name}`, owner: async () => OWN, claim: async () => OWN },
    checkpoints: { newest: async () => newest, keep: async () => undefined, seldom: false },
  };
}
const home: MarkedHome = { ...systemWith('home', undefined), marker: 'keys/installation', keys: async () => [] };
const records = {
  known: async () => ({ installation: OWN, tick: 3, kept: {}, keys: [], numbers: [] }),
  auditHash: async () => undefined,
};

test('a checkpoint of another installation, left in a system that was taken over, does not count', async () => {
  const systems = [systemWith('areas', checkpoint('another', 5_000)), systemWith('releases', checkpoint(OWN, 3))];
  const { seen, unseen } = await look({ records, home, systems, signs: false }, 1_000);
  expect(seen.systems.map(({ name, newest }) => [name, newest?.tick])).toEqual([
    ['home', undefined],
    ['areas', undefined],
    ['releases', 3],
  ]);
  expect(unseen.size).toBe(0);
});

test('a release store whose numbers cannot be read is unseen, so that nobody accepts a restore without them', async () => {
  const systems = [systemWith('releases', checkpoint(OWN, 3))];
  const releases = { list: async () => Promise.reject(new Error('slow down')) } as unknown as ArtifactStore;
  const { seen, unseen } = await look({ records, home, systems, releases, signs: false }, 1_000);
  expect(seen.numbers).toBeUndefined();
  expect([...unseen].map(([{ where }, why]) => `${where}: ${why}`)).toEqual([
    'the releases: its release numbers could not be read: slow down',
  ]);
});
