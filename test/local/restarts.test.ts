// The doctor's line about workflows: those that had to be restarted, with a warning for those that end again each time.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { auditEntry } from '../../api/audit-entry.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { platformConfig, readVariables } from '../../workers/config.ts';
import { checkSystems } from '../../workers/doctor.ts';
import { freshDatabase, freePort } from '../servers.ts';

let url: string;
let records: Records | undefined;
beforeAll(async () => {
  url = await freshDatabase();
});
afterAll(async () => records?.close());

const lineFor = async (databaseUrl: string) => {
  const { values } = readVariables({ OCDL_HOME: '/nowhere', DATABASE_URL: databaseUrl });
  return (await checkSystems(platformConfig(values), false)).find(({ name }) => name === 'Workflows');
};

test('finds none in a new database, and is skipped if the database does not answer', async () => {
  expect(await lineFor(url)).toEqual({ name: 'Workflows', found: 'no workflow had to be restarted' });
  const nobody = `postgresql://ocdl:secret@127.0.0.1:${await freePort()}/ocdl`;
  expect(await lineFor(nobody)).toEqual({
    name: 'Workflows',
    without: 'not checked: PostgreSQL, which records restarts, does not answer',
  });
});

test('lists workflows while they wait for a restart or have only just been restarted, and warns of those that end again', async () => {
  records = await createPostgresRecords({ url });
  const open = async (scan: string) => {
    const workflowId = `feedback/p/${scan}`;
    const start = { workflowId, type: 'feedback', input: { project: 'p', scan }, askedBy: 'shop' } as const;
    const entry = auditEntry({ key: workflowId, kind: 'test', actor: 'test', subject: scan });
    await records?.recordStart({ ...start, roles: [], project: 'p' }, entry, []);
    return workflowId;
  };
  const [once, often, closed, never] = await Promise.all(['s-1', 's-2', 's-3', 's-4'].map(open));
  const at = (minute: number) => `2026-01-02T03:0${minute}:00.000Z`;
  await records.restarted(once ?? '', at(1));
  expect(await lineFor(url)).toEqual({ name: 'Workflows', found: `1 had to be restarted: ${once}` });
  for (const id of [often ?? '', closed ?? '']) for (const minute of [1, 3, 7]) await records.restarted(id, at(minute));
  await records.closeStart(closed ?? '', 'done');
  const line = await lineFor(url);
  expect(line?.found).toBe('2 had to be restarted');
  expect(line?.warning).toContain(`: ${often} (restarted 3 times, next not before ${at(7)}); the Temporal Web UI`);
  for (const id of [once, closed, never]) expect(line?.warning).not.toContain(id);
  // It has stayed up.
  for (const id of [once ?? '', often ?? '']) await records.restarted(id, null);
  expect((await lineFor(url))?.found).toBe('no workflow had to be restarted');
});
