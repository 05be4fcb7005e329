// Proves that the contracts of stores, buses and code hosts can fail: each case does so over an adapter with a planted fault.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGitHost } from '../../activities/adapters/git.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createLocalLog } from '../../activities/adapters/local-log.ts';
import { artifactStoreCases } from './artifact-store.ts';
import { patience, type Case, type Fault } from './cases.ts';
import { markedStore } from '../../activities/marked-systems.ts';
import { codeHostCases } from './code-host.ts';
import { eventBusCases } from './event-bus.ts';
import { markerCases } from './marker.ts';
import { busFaults } from './faulty/bus-faults.ts';
import { markerFaults } from './faulty/marker-faults.ts';
import { hostFaults } from './faulty/host-faults.ts';
import { storeFaults } from './faulty/store-faults.ts';

/** How long a case waits: long for a correct adapter, and shorter for a faulty one, which is expected to time out. */
const SOUND_MS = 60_000;
const FAULTY_MS = 3_000;
/** A case that hangs has failed, before jest's own timeout. */
const HANGING_MS = 5 * FAULTY_MS;

let root = '';
let opened = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'ocdl-faulty-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const openStore = async (folder: string) => ({
  store: await createLocalDisk({ root: folder, name: 'good' }),
  close: async () => undefined,
});
const openBus = async (folder: string) => {
  const buses: Awaited<ReturnType<typeof createLocalLog>>[] = [];
  const another = async () => {
    const bus = await createLocalLog({ root: folder, pollMs: 20 });
    buses.push(bus);
    return bus;
  };
  return {
    bus: await another(),
    another,
    close: async () => void (await Promise.all(buses.map((bus) => bus.close()))),
  };
};
const openHost = async (folder: string) => {
  const another = () => createGitHost({ root: folder });
  return { host: await another(), another, close: async () => undefined };
};

const openMarked = async (folder: string) => {
  const another = async () => markedStore('areas', folder, (await openStore(folder)).store);
  return { marked: await another(), another, close: async () => undefined };
};

/** The outcome of a case: the reason of its failure, or undefined. */
async function outcome<Subject>(
  one: Case<Subject>,
  subject: Subject,
  isSound: boolean,
): Promise<{ readonly error: unknown } | undefined> {
  patience.ms = isSound ? SOUND_MS : FAULTY_MS;
  const timer = new AbortController();
  const hanging = sleep(
    isSound ? 2 * SOUND_MS : HANGING_MS,
    { error: new Error('it hangs') },
    { signal: timer.signal },
  );
  hanging.catch(() => undefined);
  try {
    const ended = one.run(subject).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    return await Promise.race([ended, hanging]);
  } finally {
    timer.abort();
  }
}

function provesFaults<Subject extends { readonly close: () => Promise<void> }>(
  port: string,
  cases: readonly Case<Subject>[],
  faults: readonly Fault<Subject>[],
  open: (folder: string) => Promise<Subject>,
): void {
  const sound = new Set<string>();
  describe(`the contract of ${port} detects an adapter that`, () => {
    for (const fault of faults)
      it(fault.name, async () => {
        const one = cases.find(({ name }) => name === fault.caughtBy);
        assert.ok(one, `there is no case "${fault.caughtBy}"`);
        const good = await open(join(root, String((opened += 1))));
        try {
          if (!sound.has(one.name))
            assert.equal(await outcome(one, good, true), undefined, 'the case fails already without the fault');
          sound.add(one.name);
          const failed = await outcome(one, fault.wrap(good), false);
          assert.ok(failed, `"${one.name}" did not notice`);
          // Any other failure comes from the fault itself and proves nothing about the case.
          const { failsWith = /planted/ } = fault;
          if (!(failed.error instanceof assert.AssertionError)) assert.match(String(failed.error), failsWith);
        } finally {
          await good.close();
        }
      });

    it('has any of the faults that its cases check', () => {
      const proven = new Set(faults.map(({ caughtBy }) => caughtBy));
      assert.deepEqual(
        cases.map(({ name }) => name).filter((name) => !proven.has(name)),
        [],
        'cases that were never seen to fail',
      );
    });
  });
}

provesFaults('ArtifactStore', artifactStoreCases, storeFaults, openStore);
provesFaults('EventBus', eventBusCases, busFaults, openBus);
provesFaults('CodeHost', codeHostCases, hostFaults, openHost);
provesFaults('marked systems', markerCases, markerFaults, openMarked);
