// The contract of Records, the installation: owner, checkpoints, the pause after a restore, and numbers assigned once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Finding } from '../../../activities/installation.ts';
import type { Records } from '../../../activities/records.ts';
import { RESTORED } from '../../../workflows/domain/failures.ts';
import { openLifecycle } from './lifecycle-scene.ts';
import { allot, digestOf, linkAll, setProject, type RecordsCase, type Scene } from './scene.ts';

const finding = (system: Finding['system'], text: string): Finding => ({ system, kind: 'older', text, pauses: true });

async function accept(records: Records, scene: Scene, some: Partial<Parameters<Records['acceptRestore']>[0]> = {}) {
  const { tick, accepted, keys } = await records.known();
  const { findings = [] } = (await records.paused()) ?? {};
  await records.acceptRestore(
    { tick, accepted, numbers: [], keys, voidTokens: false, findings, ...some },
    scene.entry(),
  );
}

async function pause(records: Records, scene: Scene, findings: readonly Finding[]): Promise<void> {
  const { accepted } = await records.known();
  assert.equal(await records.pause(findings, scene.entry(), accepted), true);
}

/** Long enough for clocks in milliseconds. */
const PAUSE_MS = 1_500;

const numbersOf = async (records: Records, { type }: Scene) =>
  (await records.known()).numbers.find((one) => one.type === type);

export const installationCases: readonly RecordsCase[] = [
  {
    name: 'the first installation that claims the records keeps them',
    async run(records) {
      const [one, other] = await Promise.all([
        records.claimInstallation(randomUUID()),
        records.claimInstallation(randomUUID()),
      ]);
      assert.equal(one, other);
      assert.equal(await records.claimInstallation(randomUUID()), one);
      assert.equal((await records.known()).installation, one);
    },
  },
  {
    name: 'checkpoints are numbered, name the last audit row, and are written only when the audit has grown',
    async run(records, { entry, user }) {
      const installation = await records.claimInstallation(randomUUID());
      await records.record([entry()], []);
      await linkAll(records);
      const first = await records.checkpoint(false);
      assert.equal(first?.installation, installation);
      assert.equal(await records.auditHash(first.audit.seq), first.audit.hash);
      assert.equal(await records.auditHash(first.audit.seq + 1), undefined);
      assert.equal(await records.checkpoint(false), undefined);
      await records.kept(user, 5);
      await records.kept(user, 3);
      await records.record([entry()], []);
      await linkAll(records);
      const second = await records.checkpoint(false);
      assert.deepEqual([second?.tick, second?.audit.seq, second?.kept[user]], [first.tick + 1, first.audit.seq + 1, 5]);
      assert.equal((await records.checkpoint(true))?.tick, first.tick + 2);
      assert.deepEqual([(await records.known()).tick, (await records.known()).kept[user]], [first.tick + 2, 5]);
    },
  },
  {
    name: 'a pause keeps the newest finding of each system until it is accepted',
    async run(records, scene) {
      await records.claimInstallation(randomUUID());
      await accept(records, scene);
      assert.equal(await records.paused(), undefined);
      await pause(records, scene, [finding('areas', 'first'), finding('git', 'first')]);
      await pause(records, scene, [finding('areas', 'second')]);
      const texts = (await records.paused())?.findings.map(({ system, text }) => `${system} ${text}`).sort();
      assert.deepEqual(texts, ['areas second', 'git first']);
      await records.kept('areas', 9);
      await records.registerKeys({ 'key-1': '11'.repeat(32), 'key-2': '22'.repeat(32) });
      const { tick } = await records.known();
      const before = (await records.known()).accepted;
      // Other systems know of restores that these records no longer know.
      await accept(records, scene, { tick: tick + 40, accepted: before + 3, keys: ['key-2'] });
      assert.equal(await records.paused(), undefined);
      const known = await records.known();
      assert.equal(known.accepted, before + 4);
      assert.equal((await records.checkpoint(true))?.accepted, before + 4);
      assert.deepEqual([known.tick, known.kept, known.keys], [tick + 40, {}, ['key-2']]);
    },
  },
  {
    name: 'an accepted restore assigns no number up to the floor again, and may void the tokens of people and applications',
    async run(records, scene) {
      await records.claimInstallation(randomUUID());
      await setProject(records, scene);
      await records.createUser(scene.user, false, scene.entry());
      const token = { tokenId: scene.user, sha256: digestOf(scene.user), kind: 'user' as const, name: scene.user };
      await records.issueToken({ ...token, expiresAt: null, job: null }, scene.entry());
      assert.equal((await allot(records, scene, 1)).sequence, 1);
      await accept(records, scene, { numbers: [{ type: scene.type, sequence: 7 }] });
      assert.ok(await records.principal(token.sha256));
      await accept(records, scene, { numbers: [{ type: scene.type, sequence: 4 }], voidTokens: true });
      assert.equal(await records.principal(token.sha256), undefined);
      assert.equal((await allot(records, scene, 2)).release, `${scene.type}-8`);
    },
  },
  {
    name: 'no decision is made during a pause, and the same command is decided afterwards',
    async run(records, scene) {
      const { submit, about, record, decide, standing } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'withdraw', 'sam');
      await record(command);
      await records.claimInstallation(randomUUID());
      await pause(records, scene, [finding('areas', 'older')]);
      try {
        await assert.rejects(decide(command), { code: RESTORED });
        await assert.rejects(records.openDelivery(`application/${scene.application}/${scene.type}`), {
          code: RESTORED,
        });
        assert.equal((await standing('rf-1')).version.state, 'new');
      } finally {
        await accept(records, scene);
      }
      assert.equal((await decide(command)).version.state, 'withdrawn');
    },
  },
  {
    name: 'what was found before a restore was accepted does not pause again',
    async run(records, scene) {
      await records.claimInstallation(randomUUID());
      const { accepted } = await records.known();
      await pause(records, scene, [finding('areas', 'older')]);
      await accept(records, scene);
      const stale = scene.entry();
      assert.equal(await records.pause([finding('areas', 'older')], stale, accepted), false);
      assert.equal(await records.paused(), undefined);
      assert.deepEqual(
        (await records.audit({ subject: stale.subject })).rows.filter((row) => row.entry.key === stale.key),
        [],
      );
      // A look that began after it pauses.
      await pause(records, scene, [finding('areas', 'older')]);
      await accept(records, scene);
    },
  },
  {
    name: 'a restore is accepted only with all that was found, and checkpoints never count back',
    async run(records, scene) {
      await records.claimInstallation(randomUUID());
      await pause(records, scene, [finding('areas', 'older')]);
      const seen = (await records.paused())?.findings ?? [];
      await pause(records, scene, [finding('git', 'was found meanwhile')]);
      await assert.rejects(accept(records, scene, { findings: seen }), /was found meanwhile.*ocdl restore list/);
      assert.equal((await records.paused())?.findings.length, 2);
      const { tick } = await records.known();
      await accept(records, scene, { tick: 0 });
      assert.deepEqual([await records.paused(), (await records.known()).tick], [undefined, tick]);
    },
  },
  {
    name: 'a pause does not count in the time for an undo',
    async run(records, scene) {
      const { submit, give, standing, idOf, setPolicy } = await openLifecycle(records, scene, { undoWithinSeconds: 1 });
      await submit('rf-1');
      await submit('rf-2');
      const advance = async (submission: string) =>
        records.advanceVersion(idOf(submission), { revision: (await standing(submission)).version.revision });
      assert.equal((await give('rf-2', 'reject', 'mia', { args: { reason: 'no' } })).came, 'done');
      await sleep(1_000);
      // Enough for the steps after the pause on a busy machine.
      await setPolicy(2, { undoWithinSeconds: 8 });
      assert.equal((await give('rf-1', 'reject', 'mia', { args: { reason: 'no' } })).came, 'done');
      const [before, over] = [(await standing('rf-1')).undoUntil, (await standing('rf-2')).undoUntil];
      await records.claimInstallation(randomUUID());
      await pause(records, scene, [finding('areas', 'older')]);
      try {
        await sleep(Math.max(PAUSE_MS, Date.parse(before ?? '') - Date.now() + 100));
        // It must not close while people cannot decide.
        await assert.rejects(advance('rf-1'), { code: RESTORED });
      } finally {
        await accept(records, scene);
      }
      const { undoUntil, closed } = await advance('rf-1');
      assert.equal(closed, false);
      assert.ok(Date.parse(undoUntil ?? '') - Date.parse(before ?? '') >= PAUSE_MS, `${before} became ${undoUntil}`);
      // What was over before the pause stays over.
      assert.deepEqual(
        [(await standing('rf-2')).undoUntil, (await give('rf-2', 'undo', 'max')).came],
        [over, 'wrong-state'],
      );
      const { came, message } = await give('rf-1', 'undo', 'max');
      assert.equal(came, 'done', message);
      assert.equal((await advance('rf-2')).closed, true);
    },
  },
  {
    name: 'a pause does not count in the time without labels after which a scan is closed',
    async run(records, scene) {
      const { submit, idOf } = await openLifecycle(records, scene);
      await submit('rf-1');
      const id = idOf('rf-1');
      // Its end is ten seconds off, so that it does not depend on the pauses of other cases.
      const since = new Date(Date.parse(await records.clock()) - 60_000).toISOString();
      const quiet = { since, forMs: 70_000 };
      await records.claimInstallation(randomUUID());
      await pause(records, scene, [finding('areas', 'older')]);
      try {
        await sleep(PAUSE_MS);
        await assert.rejects(records.closeQuiet(id, quiet), { code: RESTORED });
      } finally {
        await accept(records, scene);
      }
      const { until } = await records.closeQuiet(id, quiet);
      assert.ok(Date.parse(until ?? '') >= Date.parse(since) + quiet.forMs + PAUSE_MS, `${since} became ${until}`);
      assert.equal((await records.start(id))?.closedAt, null);
      const later = { ...quiet, since: await records.clock() };
      assert.deepEqual(await records.closeQuiet(id, { ...later, forMs: 0 }), { until: null });
      assert.notEqual((await records.start(id))?.closedAt, null);
    },
  },
  {
    name: 'a retired key signs nothing new until a home that has no other one registers it again',
    async run(records, scene) {
      const [old, other] = [`${scene.user}-1`, `${scene.user}-2`];
      await records.claimInstallation(randomUUID());
      const { keys } = await records.known();
      assert.deepEqual(await records.registerKeys({ [old]: '11'.repeat(32) }), [old]);
      await accept(records, scene, { keys });
      assert.deepEqual(await records.registerKeys({ [old]: '11'.repeat(32) }, false), []);
      assert.deepEqual(await records.registerKeys({ [old]: '11'.repeat(32), [other]: '22'.repeat(32) }), [other]);
      // Workflows may still get commands that it signed.
      const known = await records.keys();
      assert.deepEqual([known[old], known[other]], ['11'.repeat(32), '22'.repeat(32)]);
      assert.equal((await records.known()).keys.includes(old), false);
      await accept(records, scene, { keys });
      assert.deepEqual(await records.registerKeys({ [old]: '11'.repeat(32) }), [old]);
      const { rows } = await records.audit({ subject: 'installation' });
      const again = rows.filter(({ entry }) => entry.kind === 'signing-keys.accepted-again');
      assert.deepEqual(again.map(({ entry }) => entry.detail).at(-1), { keys: [old] });
    },
  },
  {
    name: 'an effect that waited for a restore leaves its decision pending, and fences nothing',
    async run(records, scene) {
      const { approve, give, standing, idOf } = await openLifecycle(records, scene);
      await approve('rf-1');
      const { command, came } = await give('rf-1', 'release', 'mia');
      assert.equal(came, 'accepted');
      const waited = { reason: RESTORED, message: 'paused' };
      const { pending } = await records.failDecision(idOf('rf-1'), command.body.commandId, waited);
      assert.equal(pending?.commandId, command.body.commandId);
      assert.equal(await records.fenced(pending.release ?? ''), false);
      assert.equal((await standing('rf-1')).version.state, 'approved');
      const failed = { reason: 'Unavailable', message: 'no success in time' };
      assert.equal((await records.failDecision(idOf('rf-1'), command.body.commandId, failed)).pending, null);
    },
  },
  {
    name: 'the newest manifest of a type is returned, and announced releases without a manifest are found',
    async run(records, scene) {
      await setProject(records, scene);
      const [first, second] = [await allot(records, scene, 1, 'c-1'), await allot(records, scene, 2, 'c-2')];
      const missing = async (): Promise<readonly string[]> =>
        (await records.unmanifested(1_000)).flatMap(({ commandId, release }) =>
          release.type === scene.type ? [`${commandId} ${release.sequence}`] : [],
        );
      await records.announced(first.release);
      assert.deepEqual(await missing(), ['c-1 1']);
      assert.equal(await records.releaseCommand(second.release), 'c-2');
      assert.deepEqual(await numbersOf(records, scene), { type: scene.type, newest: 2, written: 0 });
      await records.manifested(first.release);
      assert.deepEqual(await missing(), []);
      assert.equal((await numbersOf(records, scene))?.written, 1);
      await records.manifested(second.release);
      assert.equal((await numbersOf(records, scene))?.written, 2);
    },
  },
];
