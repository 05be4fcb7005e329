// The doctor's check of files with a recorded checksum mismatch: it lists those that are still wrong, by address.
import { mkdtempSync, rmSync } from 'node:fs';
import { rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import type { Artifact } from '../../workflows/domain/model.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { platformConfig, readVariables } from '../../workers/config.ts';
import { checkSystems } from '../../workers/doctor.ts';
import { freshDatabase, freePort } from '../servers.ts';

let home: string;
let url: string;
let records: Records;
const AT = '2026-01-02T03:04:05.000Z';

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'ocdl-faults-'));
  url = await freshDatabase();
});
afterAll(async () => {
  await records?.close();
  rmSync(home, { recursive: true, force: true });
});

const state = async (databaseUrl = url) => {
  const { values } = readVariables({ OCDL_HOME: home, DATABASE_URL: databaseUrl });
  return (await checkSystems(platformConfig(values), false)).find(({ name }) => name === 'Stored bytes');
};

async function stored(name: 'areas' | 'releases', path: string): Promise<Artifact & { readonly file: string }> {
  const store = await createLocalDisk({ root: join(home, name), name });
  const bytes = (async function* () {
    yield Buffer.from(path);
  })();
  return { ...(await store.write(path as StorePath, bytes)), file: join(home, name, path) };
}

test('finds nothing in a new database, and is skipped if the database does not answer', async () => {
  expect(await state()).toEqual({ name: 'Stored bytes', found: 'no checksum mismatch was found' });
  const nobody = `postgresql://ocdl:secret@127.0.0.1:${await freePort()}/ocdl`;
  expect(await state(nobody)).toEqual({
    name: 'Stored bytes',
    without: expect.stringContaining('not checked: PostgreSQL') as unknown,
  });
});

test('lists files that are still wrong or missing until they are restored', async () => {
  records = await createPostgresRecords({ url });
  const [changed, missing, fine] = [
    await stored('releases', 'releases/kind/a/model.onnx'),
    await stored('areas', 'staging/p/models/m/s-1/model.onnx'),
    await stored('areas', 'staging/p/models/m/s-2/model.onnx'),
  ];
  const faults = [changed, missing, fine].map(({ uri, sha256 }, i) => ({
    ...{ uri, expected: sha256, at: AT },
    found: i === 1 ? 'nothing' : `sha256:${'0'.repeat(64)} instead of sha256:${sha256}`,
  }));
  for (const fault of faults) await records.recordByteFault(fault);
  await truncate(changed.file, 3);
  await rm(missing.file);
  const wrong = (await state())?.wrong ?? '';
  expect(wrong).toMatch(/^2 files do not match the recorded checksum; restore from a backup: /);
  expect(wrong).toContain(
    `${changed.uri} has sha256:${'0'.repeat(64)} instead of sha256:${changed.sha256} (seen ${AT})`,
  );
  expect(wrong).toContain(`${missing.uri} is missing`);
  expect(wrong).not.toContain(fine.uri);
  await writeFile(missing.file, 'staging/p/models/m/s-1/model.onnx');
  expect((await state())?.wrong).toMatch(/^1 file does not match the recorded checksum/);
  await writeFile(changed.file, 'releases/kind/a/model.onnx');
  expect(await state()).toEqual({
    name: 'Stored bytes',
    found: 'all of the 3 files with an earlier checksum mismatch are intact again',
  });
});
