// Records on PostgreSQL: the contract, and what only this adapter has: tampering, migrations, lost connections.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { createScene, linkAll, recordsContract } from '../contracts/records.ts';
import { freshDatabase } from '../servers.ts';

recordsContract('PostgreSQL', async () => createPostgresRecords({ url: await freshDatabase() }));

/** A separate database with its Records, and a plain connection for operations that Records do not offer. */
async function withDatabase(work: (records: Records, sql: pg.Client, url: string) => Promise<void>): Promise<void> {
  const url = await freshDatabase();
  const records = await createPostgresRecords({ url });
  const sql = new pg.Client({ connectionString: url });
  try {
    await sql.connect();
    await work(records, sql, url);
  } finally {
    await sql.end();
    await records.close();
  }
}

/** Carries out statements with the audit's triggers disabled, as only its owner can. */
async function tamper(sql: pg.Client, statements: string): Promise<void> {
  for (const trigger of ['append_only', 'link_once'])
    await sql.query(`alter table authoritative.audit disable trigger ${trigger}`);
  await sql.query(statements);
  for (const trigger of ['append_only', 'link_once'])
    await sql.query(`alter table authoritative.audit enable always trigger ${trigger}`);
}

async function writeEntries(records: Records, count: number): Promise<void> {
  const { entry } = createScene();
  const entries = Array.from({ length: count }, () => entry());
  await records.record(entries, []);
  await linkAll(records);
}

/** The verification result of an intact chain with so many linked rows. */
const whole = (rows: number) => ({ rows, broken: null, unlinked: 0, overdue: 0 });

const forged = (
  seq: number,
): string => `insert into authoritative.audit (seq, previous, hash, key, project, subject, entry)
  select ${seq}, hash, hash, 'forged', project, subject, entry from authoritative.audit`;

describe('the audit on PostgreSQL', () => {
  it.each([
    ['a changed entry', `update authoritative.audit set entry = replace(entry, 'sam', 'eve') where seq = 3`, 3],
    ['a changed column', `update authoritative.audit set subject = 'other' where seq = 4`, 4],
    ['a changed hash', `update authoritative.audit set hash = repeat('1', 64) where seq = 5`, 5],
    ['a malformed entry', `update authoritative.audit set entry = '{' where seq = 2`, 2],
    ['a deleted row', `delete from authoritative.audit where seq = 3`, 3],
    ['a deleted first row', `delete from authoritative.audit where seq = 1`, 1],
    ['a deleted last row', `delete from authoritative.audit where seq = 6`, 6],
    ['deletion of all rows', `delete from authoritative.audit`, 1],
    ['an inserted row', `${forged(7)} where seq = 6`, 7],
    [
      'a row inserted in between',
      `update authoritative.audit set seq = seq + 100 where seq > 3;
       update authoritative.audit set seq = seq - 99 where seq > 100;
       ${forged(4)} where seq = 3`,
      4,
    ],
    ['swapped rows', `update authoritative.audit set seq = case seq when 2 then 30 else seq end`, 2],
  ])('detects %s', async (_, statements, broken) => {
    await withDatabase(async (records, sql) => {
      await writeEntries(records, 6);
      assert.deepEqual(await records.verifyAudit(), whole(6));
      await tamper(sql, statements);
      assert.equal((await records.verifyAudit()).broken, broken);
    });
  });

  it('is verified in pages to its end', async () => {
    await withDatabase(async (records, sql) => {
      for (let n = 0; n < 5; n++) await writeEntries(records, 500);
      assert.deepEqual(await records.verifyAudit(), whole(2500));
      await tamper(
        sql,
        `update authoritative.audit set entry = replace(entry, 'sam', 'eve') where seq in (2100, 2200)`,
      );
      assert.deepEqual(await records.verifyAudit(), { ...whole(2500), broken: 2100 });
    });
  });

  it('cannot be changed, even by its owner or by a session in replica role', async () => {
    await withDatabase(async (records, sql) => {
      await writeEntries(records, 2);
      const statements = [
        `update authoritative.audit set entry = entry`,
        `delete from authoritative.audit`,
        `truncate authoritative.audit`,
      ];
      for (const role of ['origin', 'replica']) {
        await sql.query(`set session_replication_role = ${role}`);
        for (const statement of statements) await assert.rejects(sql.query(statement), /append-only/);
      }
      assert.deepEqual(await records.verifyAudit(), whole(2));
    });
  });

  it('continues without a gap after a failed transaction', async () => {
    await withDatabase(async (records) => {
      const { entry, project } = createScene();
      await writeEntries(records, 1);
      await assert.rejects(records.setPolicy(project, { ...policy }, entry()));
      await assert.rejects(records.record([entry(), { ...entry(), key: 'nul \u0000' }], []));
      await writeEntries(records, 1);
      assert.deepEqual(
        (await records.audit({})).rows.map(({ seq }) => seq),
        [1, 2],
      );
    });
  });

  it('lets a row be linked once, and changed in no other way', async () => {
    await withDatabase(async (records, sql) => {
      const { entry } = createScene();
      await records.record([entry(), entry()], []);
      const set = (columns: string) => sql.query(`update authoritative.audit set ${columns} where arrival = 1`);
      const linked = `seq = 1, previous = 'p', hash = 'h'`;
      for (const more of ['entry', 'key', 'subject', 'project'])
        await assert.rejects(set(`${linked}, ${more} = 'other'`), /append-only/);
      await assert.rejects(set(`${linked}, recorded_at = now() - interval '1 day'`), /append-only/);
      await assert.rejects(set(`entry = 'other'`), /append-only/);
      await assert.rejects(set(`seq = 1`), /check constraint/);
      await set(linked);
      for (const columns of [linked, 'seq = 2', 'seq = null, previous = null, hash = null'])
        await assert.rejects(set(columns), /append-only/);
    });
  });

  it('links rows that are committed late, and reports rows that stay unlinked', async () => {
    await withDatabase(async (records, sql, url) => {
      const { entry } = createScene();
      const [early, late] = [entry(), entry()];
      const other = new pg.Client({ connectionString: url });
      await other.connect();
      try {
        await other.query('begin');
        await other.query(
          `insert into authoritative.audit (key, project, subject, entry, recorded_at)
           values ($1, $2, $3, $4, now() - interval '1 minute')`,
          [late.key, late.project, late.subject, canonicalize(late)],
        );
        await records.record([early], []);
        await linkAll(records);
        assert.deepEqual(await records.verifyAudit(), whole(1));
        await other.query('commit');
        assert.deepEqual(await records.verifyAudit(), { ...whole(2), unlinked: 1, overdue: 1 });
        await linkAll(records);
        assert.deepEqual(await records.verifyAudit(), whole(2));
        const { rows } = await records.audit({});
        assert.deepEqual(
          rows.map((row) => [row.seq, row.entry.key]),
          [
            [1, early.key],
            [2, late.key],
          ],
        );
      } finally {
        await other.end();
      }
    });
  });

  it('does not block writers or readers while linking', async () => {
    await withDatabase(async (records, sql) => {
      const { entry, user } = createScene();
      const held = holdChain(sql);
      await held.taken;
      await records.record([entry()], []);
      await records.createUser(user, false, entry());
      assert.equal(await records.linkAudit(), 0);
      assert.equal((await records.audit({})).rows.length, 2);
      await held.release();
      assert.equal(await records.linkAudit(), 2);
    });
  });

  it('of an earlier version of the platform is continued', async () => {
    await withDatabase(async (records, sql) => {
      const { entry } = createScene();
      const first = entry();
      const link = { entry: first, previous: '0'.repeat(64), seq: 1 };
      const hash = createHash('sha256')
        .update(canonicalize(link) ?? '')
        .digest('hex');
      await sql.query(
        `insert into authoritative.audit (seq, previous, hash, key, project, subject, entry) values (1, $1, $2, $3, $4, $5, $6)`,
        [link.previous, hash, first.key, first.project, first.subject, canonicalize(first)],
      );
      await sql.query('update authoritative.audit_head set seq = 1, hash = $1', [hash]);
      await writeEntries(records, 1);
      assert.deepEqual(await records.verifyAudit(), whole(2));
    });
  });
});

const policy = { version: 1, quorum: 1, undoWithinSeconds: 1, operatorCommands: false, thresholds: {} };

describe('the schema on PostgreSQL', () => {
  it('is created once by concurrent processes; repeating it has no effect', async () => {
    const url = await freshDatabase();
    const opened = await Promise.all(Array.from({ length: 4 }, () => createPostgresRecords({ url, poolSize: 2 })));
    try {
      await writeEntries(opened[0] ?? assert.fail('nothing was opened'), 1);
      const again = await createPostgresRecords({ url });
      assert.deepEqual(await again.verifyAudit(), whole(1));
      await again.close();
    } finally {
      await Promise.all(opened.map((records) => records.close()));
    }
  });

  it('has every table in one of two schemas', async () => {
    await withDatabase(async (_, sql) => {
      const { rows } = await sql.query<{ schema: string; tables: number }>(
        `select schemaname as schema, count(*)::int as tables from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema') group by 1 order by 1`,
      );
      assert.deepEqual(
        rows.map(({ schema }) => schema),
        ['authoritative', 'projection'],
      );
      assert.equal(rows[1]?.tables, 7);
    });
  });

  it('of a later version of the platform is refused', async () => {
    await withDatabase(async (_records, sql, url) => {
      await sql.query('insert into authoritative.migrations (version) values (999)');
      await assert.rejects(createPostgresRecords({ url }), /version 999.*newer program/);
    });
  });
});

describe('administrators', () => {
  it('of two who are demoted or disabled concurrently, one remains', async () => {
    await withDatabase(async (records) => {
      const { user, entry } = createScene();
      const [one, two] = [`${user}-1`, `${user}-2`];
      for (const name of [one, two]) await records.createUser(name, true, entry());
      for (let race = 0; race < 10; race++) {
        const changes = await Promise.allSettled([
          records.changeUser(one, { admin: false }, entry()),
          records.changeUser(two, race % 2 ? { disabled: true } : { admin: false }, entry()),
        ]);
        assert.deepEqual(changes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
        const left = (await records.users()).filter(({ admin, disabled }) => admin && !disabled);
        assert.equal(left.length, 1);
        for (const name of [one, two]) await records.changeUser(name, { admin: true, disabled: false }, entry());
      }
    });
  });
});

describe('connections to PostgreSQL', () => {
  it('that the server closes during a call are replaced, and the call is repeated', async () => {
    await withDatabase(async (records, sql, url) => {
      const { user, entry } = createScene();
      await records.createUser(user, false, entry());
      const once = entry();
      // A transaction under way that writes the same key: the call waits for it.
      const other = new pg.Client({ connectionString: url });
      other.on('error', () => undefined);
      await other.connect();
      await other.query('begin');
      await other.query(`insert into authoritative.audit (key, subject, entry) values ($1, 's', '{}')`, [once.key]);
      const waiting = records.record([once], []);
      await untilWaiting(sql);
      await sql.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      );
      await untilWaiting(sql);
      await other.query('rollback');
      await waiting;
      await other.end();
      const { rows } = await records.audit({});
      assert.equal(rows.filter((row) => row.entry.key === once.key).length, 1);
      assert.ok((await records.users()).some((found) => found.user === user));
    });
  });

  it('that cannot be made fail with an ordinary error', async () => {
    await assert.rejects(
      createPostgresRecords({ url: 'postgres://nobody@127.0.0.1:1/none', patienceMs: 100 }),
      /ECONNREFUSED/,
    );
  });
});

/** Holds the lock for linking the audit. */
function holdChain(sql: pg.Client): { taken: Promise<unknown>; release: () => Promise<unknown> } {
  const name = `hashtextextended('ocdl:audit', 0)`;
  return {
    taken: sql.query(`select pg_advisory_lock(${name})`),
    release: () => sql.query(`select pg_advisory_unlock(${name})`),
  };
}

async function untilWaiting(sql: pg.Client): Promise<void> {
  for (const until = Date.now() + 10_000; Date.now() < until;) {
    const { rowCount } = await sql.query(`select 1 from pg_locks where not granted`);
    if (rowCount) return;
  }
  assert.fail('no call waits');
}
