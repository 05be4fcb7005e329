// The servers that other tests use: they answer, are shared, and databases are separate.
import { Connection } from '@temporalio/client';
import pg from 'pg';
import { searchAttributes } from '../../workers/search-attributes.ts';
import { freshDatabase, postgresServer, temporalServer } from '../servers.ts';

test('two concurrent callers get the same Temporal server, with registered search attributes', async () => {
  const [first, second] = await Promise.all([temporalServer(), temporalServer()]);
  expect(second.address).toBe(first.address);
  const connection = await Connection.connect({ address: first.address });
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace: 'default' });
    expect(Object.keys(customAttributes)).toEqual(expect.arrayContaining(Object.keys(searchAttributes)));
  } finally {
    await connection.close();
  }
});

test('each fresh database is new and empty, on one PostgreSQL server', async () => {
  const [first, second] = await Promise.all([freshDatabase(), freshDatabase()]);
  expect(new URL(first).port).toBe(new URL((await postgresServer()).url).port);
  await query(first, 'create table only_here (id int)');
  await expect(query(second, 'select * from only_here')).rejects.toThrow(/only_here/);
});

async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
