// The restore drill: each system set back or emptied alone, and both databases together. No release id is given to other bytes, no
// decision is lost without a pause, and everything continues after acceptance.
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { Finding } from '../../activities/installation.ts';
import { keepManifest, newestNumbers } from '../../activities/release-manifest.ts';
import { belong } from '../../workers/installation.ts';
import { whilePlatformRuns } from '../../workers/pause.ts';
import { RESTORED } from '../../workflows/domain/failures.ts';
import { accept, waiting } from '../../workers/restore.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { describeWith, postgresServer, temporalServer } from '../servers.ts';
import { until } from '../workflows/until.ts';
import { afterTwoDays, openDrill, type Drill, type Running, type Servers, type SetBackable } from './drill.ts';
import { startOwnStack } from './own-stack.ts';

const log = pino({ level: 'silent' });
/** A drill takes seconds embedded; on the stack it may take a minute on a busy machine. */
const DRILL_MS = 600_000;

const kinds = (findings: readonly Finding[]): string[] =>
  findings.map(({ system, kind }) => `${system} ${kind}`).sort();

/** The pause is recorded and stops every step that decides, publishes or delivers. */
async function expectPaused({ stores: { records } }: Running, findings: readonly string[]): Promise<void> {
  expect(kinds((await records.paused())?.findings ?? [])).toEqual(findings);
  const activities = whilePlatformRuns(records, {
    announceRelease: async () => 'announced',
    fileTransitions: async () => 'filed',
  });
  await expect(activities.announceRelease()).rejects.toMatchObject({
    code: RESTORED,
    message: expect.stringContaining('ocdl restore accept') as string,
  });
  await expect(records.openDelivery('application/scanner/kind')).rejects.toMatchObject({ code: RESTORED });
  // Steps of earlier decisions without external effects do not wait.
  expect(await activities.fileTransitions()).toBe('filed');
}

/** Accepts the restore and checks that work continues: the next start has no findings, and releases get new numbers. */
async function acceptAndGoOn(drill: Drill, running: Running): Promise<void> {
  const { findings } = await accept(running.installation, { voidTokens: false, log });
  expect(findings).not.toEqual([]);
  expect(await running.stores.records.paused()).toBeUndefined();
  await running.stop();
  const next = await drill.start();
  expect([next.belonging.findings, (await waiting(next.installation)).findings]).toEqual([[], []]);
  if (!(await next.stores.records.project('p'))) await drill.populate(next);
  // The ledger of the drill throws where an id is given to other bytes.
  expect(await drill.day(next, 'wednesday')).toBe('kind-3');
  expect((await next.stores.records.verifyAudit()).broken).toBeNull();
  const rows = (await next.stores.records.audit({ subject: 'installation' })).rows.map((row) => row.entry.kind);
  expect(rows).toEqual(expect.arrayContaining(['restore.found', 'restore.accepted']));
  await next.stop();
  await drill.close();
}

const alone: readonly (readonly [SetBackable, 'set back' | 'emptied', readonly string[]])[] = [
  ['records', 'set back', ['records older']],
  ['records', 'emptied', ['records emptied']],
  ['areas', 'set back', ['areas older']],
  ['areas', 'emptied', ['areas emptied']],
  ['releases', 'set back', ['releases older']],
  ['releases', 'emptied', ['releases emptied']],
  ['events', 'emptied', ['events emptied']],
  ['git', 'set back', ['git older']],
  ['git', 'emptied', ['git emptied']],
];

function drills(servers: () => Promise<Servers>): void {
  it.each(alone)(
    '%s, %s: the platform pauses, and continues after acceptance',
    async (system, how, found) => {
      const drill = await afterTwoDays(await servers());
      await drill.change(system, how);
      const running = await drill.start();
      expect(kinds(running.belonging.findings)).toEqual(found);
      await expectPaused(running, found);
      await running.stop();
      // Another start, which finds claimed markers again, keeps the pause.
      const again = await drill.start();
      expect(kinds((await again.stores.records.paused())?.findings ?? []).map((one) => one.split(' ')[0])).toEqual([
        system,
      ]);
      await acceptAndGoOn(drill, again);
    },
    DRILL_MS,
  );

  it(
    'both databases: the older records and the emptied Temporal are found and accepted',
    async () => {
      const drill = await afterTwoDays(await servers());
      await drill.change('records', 'set back');
      await drill.emptyTemporal();
      const running = await drill.start();
      expect(kinds(running.belonging.findings)).toEqual(['records older', 'temporal emptied']);
      await expectPaused(running, ['records older']);
      await acceptAndGoOn(drill, running);
    },
    DRILL_MS,
  );

  it(
    'Temporal, emptied: it is claimed again and reported, without a pause',
    async () => {
      const drill = await afterTwoDays(await servers());
      await drill.emptyTemporal();
      const running = await drill.start();
      const { findings } = running.belonging;
      expect(kinds(findings)).toEqual(['temporal emptied']);
      expect(await running.stores.records.paused()).toBeUndefined();
      expect(await drill.day(running, 'wednesday')).toBe('kind-3');
      await running.stop();
      const next = await drill.start();
      expect(next.belonging.findings).toEqual([]);
      await next.stop();
      await drill.close();
    },
    DRILL_MS,
  );

  it(
    'the home, lost: the start is refused until an administrator accepts it on the machine',
    async () => {
      const drill = await afterTwoDays(await servers());
      const before = await drill.open();
      await before.stores.records.registerKeys({ '0123456789abcdef': 'ab'.repeat(32) });
      await before.close();
      await drill.loseHome();
      await expect(drill.start()).rejects.toThrow(
        /has no marker, and PostgreSQL .*copy its folder keys.*ocdl restore accept/,
      );
      const { stores, installation, close } = await drill.open();
      expect(kinds((await waiting(installation)).findings)).toEqual(['home emptied']);
      await accept(installation, { voidTokens: false, log });
      expect((await stores.records.known()).keys).toEqual([]);
      await close();
      const next = await drill.start();
      expect([next.belonging.findings, await drill.day(next, 'wednesday')]).toEqual([[], 'kind-3']);
      await next.stop();
      await drill.close();
    },
    DRILL_MS,
  );

  it(
    'records set back after a crash without a last checkpoint: the release store shows it',
    async () => {
      const drill = await afterTwoDays(await servers(), 'killed');
      await drill.change('records', 'set back');
      const running = await drill.start();
      await expectPaused(running, ['records older']);
      expect(running.belonging.findings[0]?.text).toContain('kind-2');
      await acceptAndGoOn(drill, running);
    },
    DRILL_MS,
  );

  it(
    'records set back unnoticed: a number held by another command is not reused, and the same command gets its own number again',
    async () => {
      const drill = await afterTwoDays(await servers());
      await drill.change('records', 'set back');
      const { stores, close } = await drill.open();
      await expect(drill.day({ stores }, 'wednesday')).rejects.toThrow(
        'number 2 of type kind is held in the release store by command tuesday to p/m/tuesday',
      );
      expect(await drill.day({ stores }, 'thursday')).toBe('kind-3');
      await close();

      await drill.change('records', 'set back');
      const again = await drill.open();
      expect(await drill.day(again, 'tuesday')).toBe('kind-2');
      await again.close();
      await drill.close();
    },
    DRILL_MS,
  );

  it(
    'records set back under a running platform are noticed by its next check',
    async () => {
      const drill = await afterTwoDays(await servers());
      const running = await drill.start(drill.home, 100);
      expect(running.belonging.findings).toEqual([]);
      await drill.setBackUnderneath();
      const paused = async () => (await running.stores.records.paused().catch(() => undefined)) !== undefined;
      await until('the pause', paused);
      await expectPaused(running, ['records older']);
      // The platform checks many times before the home has its new checkpoint: the lost history stays accepted.
      const { installation } = running;
      const home = {
        ...installation.home,
        claim: async (id: string) => (await sleep(1_000), installation.home.claim(id)),
      };
      await acceptAndGoOn(drill, { ...running, installation: { ...installation, home } });
    },
    DRILL_MS,
  );
}

describe('restore drill on embedded systems', () => {
  const embedded = async (): Promise<Servers> => ({
    postgres: (await postgresServer()).url,
    temporal: (await temporalServer()).address,
    variables: {},
  });
  drills(embedded);

  it('records set back in the middle of a check, and then counted on to the number that the systems hold, are noticed', async () => {
    const drill = await afterTwoDays(await embedded());
    const { stores, installation, close } = await drill.open();
    const { records } = stores;
    const state = { isSetBack: false };
    const checkpoint = async () => {
      if (state.isSetBack) return records.checkpoint(false);
      state.isSetBack = true;
      await drill.setBackUnderneath();
      // The older records count on: their new checkpoint has the number of the one that they lost.
      return records.checkpoint(true);
    };
    const belonging = await belong(
      { ...installation, records: { ...records, checkpoint } },
      { log, onRefused: () => undefined, checkpoints: true, everyMs: 50 },
    );
    await until('the pause', async () => (await records.paused()) !== undefined);
    expect(kinds((await records.paused())?.findings ?? [])).toEqual(['records older']);
    await belonging.stop();
    await close();
    await drill.close();
  });

  it('records of before an accepted restore are accepted once, and every system has a checkpoint again', async () => {
    const drill = await afterTwoDays(await embedded());
    for (const system of ['areas', 'records'] as const) {
      await drill.change(system, 'set back');
      const running = await drill.start();
      expect(kinds(running.belonging.findings)).toEqual([`${system} older`]);
      await accept(running.installation, { voidTokens: false, log });
      await running.stop();
    }
    const next = await drill.start();
    const { installation, stores } = next;
    expect([next.belonging.findings, await stores.records.paused()]).toEqual([[], undefined]);
    const { tick, accepted } = await stores.records.known();
    for (const { name, checkpoints } of [installation.home, ...installation.systems])
      if (checkpoints)
        expect([name, await checkpoints.newest()]).toEqual([name, expect.objectContaining({ tick, accepted })]);
    expect(accepted).toBe(2);
    await next.stop();
    // What is lost afterwards is found.
    await drill.change('areas', 'set back');
    const again = await drill.start();
    expect(kinds(again.belonging.findings)).toEqual(['areas older']);
    await again.stop();
    await drill.close();
  });

  it('releases of an earlier version of the platform get manifests, so that their numbers are not assigned again', async () => {
    const drill = await openDrill(await embedded());
    const first = await drill.start();
    await drill.populate(first);
    await first.stop();
    await drill.copy();
    const second = await drill.start();
    const { records, releases } = second.stores;
    const earlier = (submission: string) => ({
      ...{ type: 'kind', project: 'p', model: 'm', submission, version: 1, digest: 'ab'.repeat(32) as Digest },
      ...{ files: [], report: null, approvedBy: ['mia'], releasedBy: 'mia', releasedAt: new Date().toISOString() },
    });
    const { release } = await records.allotRelease('c-1', earlier('s-1'));
    await records.announced(release);
    await second.stop();
    expect(await newestNumbers(releases, new Map())).toEqual(new Map([['kind', 1]]));
    await drill.change('records', 'set back');
    const { stores, close } = await drill.open();
    const same = await stores.records.allotRelease('c-2', earlier('s-2'));
    await expect(keepManifest(stores, same)).rejects.toThrow('number 1 of type kind is held');
    expect((await stores.records.allotRelease('c-3', earlier('s-3'))).release).toBe('kind-2');
    await close();
    await drill.close();
  });

  it('voiding all tokens revokes those of people and applications, and issues one to an administrator', async () => {
    const drill = await afterTwoDays(await embedded());
    const running = await drill.start();
    const { records } = running.stores;
    const sha256 = 'ab'.repeat(32) as never;
    const audit = (await records.audit({})).rows[0]?.entry;
    if (!audit) throw new Error('no audit');
    const token = { tokenId: 't-1', sha256, kind: 'user', name: 'admin', expiresAt: null, job: null } as const;
    await records.issueToken(token, { ...audit, key: 't-1' });
    // The first administrator by name may use no token.
    await records.createUser('aaron', true, { ...audit, key: 'u-1' });
    await records.changeUser('aaron', { disabled: true }, { ...audit, key: 'u-2' });
    const { adminToken } = await accept(running.installation, { voidTokens: true, log });
    expect(adminToken).toMatch(/^ocdl_/);
    expect(await records.principal(sha256)).toBeUndefined();
    const kindsOf = (await records.audit({})).rows.map(({ entry }) => entry.kind);
    expect(kindsOf).toEqual(expect.arrayContaining(['tokens.voided', 'token.issued']));
    expect((await records.tokens('admin')).filter(({ revokedAt }) => revokedAt === null)).toHaveLength(1);
    await running.stop();
    await drill.close();
  });
});

if (process.env['FAULTS'] === 'all')
  describeWith(['kafka', 'hdfs', 'alluxio', 's3'], 'restore drill on the stack', () => {
    const opened: { stack?: Awaited<ReturnType<typeof startOwnStack>> } = {};
    beforeAll(async () => {
      opened.stack = await startOwnStack();
    }, DRILL_MS * 3);
    afterAll(async () => opened.stack?.stop(), DRILL_MS);

    drills(async () => {
      const variables = opened.stack?.variables ?? {};
      const { DATABASE_URL = '', TEMPORAL_ADDRESS = '', ...stores } = variables;
      return { postgres: DATABASE_URL, temporal: TEMPORAL_ADDRESS, variables: stores };
    });
  });
