// Cases on Records: the audit, its chain, and requests that were refused.
import assert from 'node:assert/strict';
import type { AuditRow, Records } from '../../../activities/records.ts';
import type { RecordsCase } from './scene.ts';
import { at, digestOf, fails, linkAll } from './scene.ts';

const twenty = Array.from({ length: 20 }, (_, index) => index);

async function auditOf(records: Records, project: string): Promise<readonly AuditRow[]> {
  const { rows } = await records.audit({ project });
  return rows;
}

/** The rows follow each other in the intact chain. */
async function assertChained(records: Records, rows: readonly AuditRow[]): Promise<void> {
  const [first] = rows;
  assert.ok(first, 'there are no rows');
  assert.deepEqual(
    rows.map(({ seq }) => (seq ?? 0) - (first.seq ?? 0)),
    [...rows.keys()],
  );
  for (const [index, row] of rows.entries()) if (index > 0) assert.equal(row.previous, rows[index - 1]?.hash);
  assert.equal((await records.verifyAudit()).broken, null);
}

export const auditCases: readonly RecordsCase[] = [
  {
    name: 'an audit entry is kept once per key, in order, as it was given',
    async run(records, { project, entry }) {
      const first = entry({ detail: { b: [1.5, 1e21, 'é\u0000'], a: { nested: null } }, digest: digestOf('x') });
      const second = entry();
      await records.record([first, second, first], []);
      await records.record([{ ...first, reason: 'changed' }], []);
      const third = entry();
      await records.record([second, third], []);
      await linkAll(records);
      await records.record([first, third], []);
      await linkAll(records);
      const rows = await auditOf(records, project);
      assert.deepEqual(
        rows.map((row) => row.entry),
        [first, second, third],
      );
      await assertChained(records, rows);
      assert.deepEqual(await records.audited(second.key), second);
      assert.equal(await records.audited(`${second.key}/none`), undefined);
    },
  },
  {
    name: 'an entry is visible immediately, after those in the chain, and counted as unlinked until it is linked',
    async run(records, { project, entry }) {
      const [first, second] = [entry(), entry()];
      await records.record([first], []);
      await linkAll(records);
      await records.record([second], []);
      const before = await records.verifyAudit();
      const rows = await auditOf(records, project);
      assert.deepEqual(
        rows.map((row) => row.entry),
        [first, second],
      );
      assert.equal(typeof rows[0]?.seq, 'number');
      assert.deepEqual(rows[1], { seq: null, previous: null, hash: null, entry: second });
      assert.ok(before.unlinked >= 1, 'the unlinked row is not counted');
      assert.equal(before.overdue, 0);
      await linkAll(records);
      const after = await records.verifyAudit();
      assert.deepEqual(after, { ...before, unlinked: 0 });
      await assertChained(records, await auditOf(records, project));
    },
  },
  {
    name: 'concurrent entries, linked by concurrent linkers, form one chain without gaps',
    async run(records, { project, entry }) {
      await linkAll(records);
      const linking = twenty.map(async () => records.linkAudit());
      await Promise.all([...twenty.map(async () => records.record([entry(), entry()], [])), ...linking]);
      await Promise.all(twenty.map(async () => records.linkAudit()));
      await linkAll(records);
      const rows = await auditOf(records, project);
      assert.equal(rows.length, 40);
      await assertChained(records, rows);
      const { rows: all, unlinked } = await records.verifyAudit();
      assert.ok(all >= 40);
      assert.equal(unlinked, 0);
    },
  },
  {
    name: 'the audit is queried by project, by subject and by page',
    async run(records, { project, entry }) {
      const entries = twenty.slice(0, 7).map((n) => entry({ subject: `${project}/${n % 2 ? 'odd' : 'even'}` }));
      await records.record([...entries, entry({ project: null, subject: `${project}/even` })], []);
      const { rows, next } = await records.audit({ project, limit: 5 });
      assert.equal(rows.length, 5);
      const rest = await records.audit({ project, limit: 5, after: next ?? '' });
      assert.equal(rest.rows.length, 2);
      assert.equal(rest.next, undefined);
      assert.deepEqual(
        [...rows, ...rest.rows].map((row) => row.entry),
        entries,
      );
      assert.equal((await records.audit({ subject: `${project}/even` })).rows.length, 5);
      const ofPlatform = await records.audit({ project: null, subject: `${project}/even` });
      assert.equal(ofPlatform.rows.length, 1);
      await fails(records.audit({ after: 'x' }), 'InvalidInput', 'after');
    },
  },
  {
    name: 'paging through the audit while rows are being linked returns each row once',
    async run(records, { project, entry }) {
      const entries = twenty.map(() => entry());
      await records.record(entries.slice(0, 8), []);
      const found: unknown[] = [];
      for (let after: string | undefined, page = 1; page <= 9; page += 1) {
        const { rows, next } = await records.audit({ project, limit: 3, ...(after !== undefined && { after }) });
        found.push(...rows.map((row) => row.entry));
        after = next;
        if (page === 1) await records.record(entries.slice(8), []);
        if (page === 2) await linkAll(records);
        if (next === undefined) break;
      }
      assert.deepEqual(found, entries);
    },
  },
  {
    name: 'refused requests within a minute are stored as the first one and a count',
    async run(records, scene) {
      const { project, user } = scene;
      const by = { principal: `user/${user}`, action: 'version.decide' };
      const refusal = (minute: number) =>
        scene.entry({ key: `${project}/refused/${minute}`, kind: 'command.refused', at: at(60 * minute) });
      // Concurrent, and each with its own id: a repeated call does not count again.
      await Promise.all(
        twenty.map(async (n) => {
          for (let again = 0; again < 2; again += 1)
            if (n === 0 || again === 0) await records.recordRefused(refusal(0), { ...by, request: `a-${n}` });
        }),
      );
      await records.recordRefused(refusal(0), { ...by, request: 'b' });
      await records.recordRefused(refusal(0), { ...by, request: 'b' });
      await records.recordRefused(refusal(1), { ...by, request: 'c' });
      const first = await auditOf(records, project);
      assert.deepEqual(
        first.map((row) => row.entry),
        [refusal(0), refusal(1)],
      );
      await linkAll(records);
      const [, , counted, ...more] = (await auditOf(records, project)).map((row) => row.entry);
      assert.deepEqual(more, []);
      const { kind, actor, subject, detail } = counted ?? assert.fail('nothing tells how many there were');
      assert.deepEqual([kind, actor, subject], ['command.refused.counted', 'sam', refusal(0).subject]);
      const count = Number(detail['count']);
      // A repeat after another request counts again, at most once.
      assert.ok(count === 21 || count === 22, `${count} were counted`);
      assert.deepEqual(detail, { ...by, count, first: refusal(0).key });
    },
  },
];
