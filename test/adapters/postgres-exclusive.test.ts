// Exclusive work: the lock belongs to one connection, is held without a transaction, and is released when the connection is lost.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { freshDatabase } from '../servers.ts';

/** Two processes' Records over one database, and a plain connection beside them. */
async function withTwo(work: (one: Records, two: Records, sql: pg.Client) => Promise<void>): Promise<void> {
  const url = await freshDatabase();
  const options = { url, poolSize: 1, statementMs: 1_000 };
  const [one, two] = [await createPostgresRecords(options), await createPostgresRecords(options)];
  const sql = new pg.Client({ connectionString: url });
  try {
    await sql.connect();
    await work(one, two, sql);
  } finally {
    await sql.end();
    await one.close();
    await two.close();
  }
}

const others = `from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`;
const cutHolder = `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'
  and database = (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()`;

describe('exclusive work', () => {
  it('of another process does not run at the same time, but afterwards', async () => {
    await withTwo(async (one, two) => {
      const answers = await one.exclusively('thing', async (held) => {
        assert.equal(await two.exclusively('thing', async () => 'two'), undefined);
        assert.equal(await two.exclusively('another thing', async () => 'two'), 'two');
        assert.equal(held.aborted, false);
        return 'one';
      });
      assert.equal(answers, 'one');
      assert.equal(await two.exclusively('thing', async () => 'two'), 'two');
    });
  });

  it('uses no connection of the pool, and opens no transaction', async () => {
    await withTwo(async (one, _two, sql) => {
      await one.exclusively('thing', async () => {
        assert.deepEqual(await one.users(), []);
        const { rows } = await sql.query<object>(`select state, query ${others} and xact_start is not null`);
        assert.deepEqual(rows, []);
      });
    });
  });

  it('keeps its lock during a call longer than the idle timeout of a connection', async () => {
    await withTwo(async (one, two) => {
      await one.exclusively('thing', async (held) => {
        await sleep(7_500);
        assert.equal(held.aborted, false);
        assert.equal(await two.exclusively('thing', async () => 'two'), undefined);
      });
    });
  }, 30_000);

  it('is aborted if its connection is lost, is not repeated, and leaves the lock to others', async () => {
    await withTwo(async (one, two, sql) => {
      let begun = 0;
      const work = one.exclusively('thing', async (held) => {
        begun += 1;
        await sql.query(cutHolder);
        for (const until = Date.now() + 10_000; !held.aborted && Date.now() < until;) await sleep(10);
        assert.equal(await two.exclusively('thing', async () => 'two'), 'two');
        held.throwIfAborted();
      });
      await assert.rejects(work, /the connection that held the lock "thing" was lost/);
      assert.equal(begun, 1);
      assert.equal(await one.exclusively('thing', async () => 'one'), 'one');
    });
  });

  it('that fails releases its lock and connection', async () => {
    await withTwo(async (one, two, sql) => {
      await assert.rejects(
        one.exclusively('thing', () => Promise.reject(new Error('it broke'))),
        /it broke/,
      );
      assert.equal(await two.exclusively('thing', async () => 'two'), 'two');
      const count = async () => Number((await sql.query<{ n: string }>(`select count(*) as n ${others}`)).rows[0]?.n);
      // Those of the two pools at most.
      for (const until = Date.now() + 5_000; (await count()) > 2 && Date.now() < until;) await sleep(50);
      assert.ok((await count()) <= 2);
    });
  });
});
