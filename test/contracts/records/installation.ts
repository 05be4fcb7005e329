// The contract of Records, the installation: whose they are, checkpoints, the pause after a restore, and numbers given once.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Finding } from '../../../activities/installation.ts';
import type { Records } from '../../../activities/records.ts';
import { RESTORED } from '../../../workflows/domain/failures.ts';
import { openLifecycle } from './lifecycle-scene.ts';
import { allot, digestOf, linkAll, setProject, type RecordsCase, type Scene } from './scene.ts';

const finding = (system: Finding['system'], text: string): Finding => ({ system, kind: 'older', text, pauses: true });

async function accept(records: Records, scene: Scene, some: Partial<Parameters<Records['acceptRestore']>[0]> = {}) {
  const { tick, keys } = await records.known();
  await records.acceptRestore({ tick, numbers: [], keys, voidTokens: false, ...some }, scene.entry());
}

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
    name: 'checkpoints count on, name the last row of the audit, and come only when it has grown',
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
      await records.pause([finding('areas', 'first'), finding('git', 'first')], scene.entry());
      await records.pause([finding('areas', 'second')], scene.entry());
      const texts = (await records.paused())?.findings.map(({ system, text }) => `${system} ${text}`).sort();
      assert.deepEqual(texts, ['areas second', 'git first']);
      await records.kept('areas', 9);
      await records.registerKeys({ 'key-1': '11'.repeat(32), 'key-2': '22'.repeat(32) });
      const { tick } = await records.known();
      await accept(records, scene, { tick: tick + 40, keys: ['key-2'] });
      assert.equal(await records.paused(), undefined);
      const known = await records.known();
      assert.deepEqual([known.tick, known.kept, known.keys], [tick + 40, {}, ['key-2']]);
    },
  },
  {
    name: 'an accepted restore gives no number up to the floor again, and may void the tokens of people and applications',
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
    name: 'while all is paused no decision is made, and afterwards the same command is decided',
    async run(records, scene) {
      const { submit, about, record, decide, standing } = await openLifecycle(records, scene);
      await submit('rf-1');
      const command = await about('rf-1', 'withdraw', 'sam');
      await record(command);
      await records.claimInstallation(randomUUID());
      await records.pause([finding('areas', 'older')], scene.entry());
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
    name: 'the newest manifest of a type is known, and announced releases without one are found',
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
