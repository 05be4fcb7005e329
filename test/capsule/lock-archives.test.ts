// The archives of locks: installed once in the sandbox, the same bytes each time, found by later jobs, removed when unused.
import { existsSync, mkdtempSync, readdirSync } from 'node:fs';
import { readFile, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tar from 'tar-stream';
import { createLockArchives, type LockArchivesOptions } from '../../activities/adapters/kubernetes/lock-archives.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { createArchives } from '../../activities/adapters/sources/archives.ts';
import type { LockArchives } from '../../activities/ports.ts';
import { sandboxForTests } from '../adapters/local-cluster.ts';
import { until } from '../workflows/until.ts';
import { lockOf, makeWheel, startIndex, type PackageIndex } from './wheels.ts';

const thing = makeWheel({
  files: [
    ['thing.py', 'value = 42\n\ndef main():\n    print(value, {"a", "b"})\n'],
    ['thing_more/__init__.py', 'from thing import value\n'],
  ],
  entryPoints: '[console_scripts]\nthing = thing:main\n',
});
const canRun = await sandboxForTests('archives of locks');
const imagePython = (await findPython(process.env['OCDL_PYTHON'])).version;
const platformLock = 'numpy==2.2.6 --hash=sha256:0\n';

const folder = mkdtempSync(join(tmpdir(), 'ocdl-lock-archives-'));
const ground: { index?: PackageIndex } = {};
const index = (): PackageIndex => {
  if (!ground.index) throw new Error('no index');
  return ground.index;
};
beforeAll(async () => {
  ground.index = await startIndex([thing]);
});
afterAll(async () => {
  await ground.index?.close();
  await rm(folder, { recursive: true, force: true });
});

const open = async (root: string, given: Partial<LockArchivesOptions> = {}): Promise<LockArchives> =>
  createLockArchives({
    ...{ home: join(folder, 'home'), cache: join(folder, 'cache'), python: process.env['OCDL_PYTHON'] },
    ...{ index: index().url, platformLock, imagePython, onWarn: () => undefined, againAfterMs: 100 },
    store: await createLocalDisk({ root: join(folder, root), name: 'areas' }),
    archives: createArchives({ entries: 1, bytes: 1, ratio: 1 }),
    ...given,
  });

/** Asks until there is an archive; returns it and what the job waited for. */
async function found(archives: LockArchives, lock = lockOf(thing)) {
  const waits: string[] = [];
  for (;;) {
    const answer = await archives.find(lock);
    if ('archive' in answer) {
      if (answer.archive === null) throw new Error('it needs none');
      return { archive: answer.archive, waits };
    }
    if (waits.at(-1) !== answer.waits) waits.push(answer.waits);
    await sleep(20);
  }
}

const filesOf = (root: string): readonly string[] =>
  existsSync(join(folder, root, 'environments'))
    ? readdirSync(join(folder, root, 'environments'), { recursive: true, encoding: 'utf8' }).sort()
    : [];

(canRun ? describe : describe.skip)('the archive of a lock', () => {
  test('is made once for all who ask, holds the packages for the pod, and is found by another worker', async () => {
    const [one, two] = [await open('areas'), await open('areas')];
    expect(await one.find(platformLock)).toEqual({ archive: null });
    expect(await one.find('  \n')).toEqual({ archive: null });
    const [first, second] = await Promise.all([found(one), found(one)]);
    expect(second.archive).toEqual(first.archive);
    expect(first.waits.every((text) => text.startsWith('for the packages of its lock: '))).toBe(true);
    expect(first.waits.join()).toMatch(/Downloading .*thing-1\.0/);
    expect(index().asked.filter((path) => path.startsWith('/files/'))).toHaveLength(1);
    // A comment makes no other one.
    expect(await two.find(`${lockOf(thing)}# a comment\n`)).toEqual({ archive: first.archive });
    const { sha256, name } = first.archive;
    expect(name).toBe(`lock-${sha256.slice(0, 16)}.tar`);
    const key = filesOf('areas')[0] ?? '';
    expect(filesOf('areas')).toEqual([key, `${key}/${sha256}.tar`, `${key}/used`]);

    const entries = await read(join(folder, 'areas', 'environments', key, `${sha256}.tar`));
    const site = `environment/lib/python${imagePython}/site-packages`;
    expect(entries.get(`${site}/thing.py`)).toMatchObject({ mode: 0o644 });
    expect(entries.get('environment/bin/thing')?.mode).toBe(0o755);
    expect(entries.get('environment/bin/thing')?.text).toMatch(/^#!\/ocdl\/environment\/bin\/python\n/);
    expect(JSON.parse(entries.get('made-for.json')?.text ?? '')).toMatchObject({ python: imagePython });
    expect([...entries.keys()].filter((path) => /pyvenv|bin\/python|activate/i.test(path))).toEqual([]);
    // Valid whatever the times of the unpacked files: the flag of a compiled module that is not checked.
    const compiled = [...entries].find(([path]) => /\/thing\.cpython-\d+\.pyc$/.test(path))?.[1];
    expect(Buffer.from(compiled?.text ?? '', 'latin1').readUInt32LE(4)).toBe(1);
    for (const each of [one, two]) await each.close();

    // Made again elsewhere, it has the same bytes.
    const other = await open('elsewhere');
    expect((await found(other)).archive.sha256).toBe(sha256);
    await other.close();
  }, 300_000);

  test('an index that fails for a while is waited for; a lock that cannot be installed is not', async () => {
    const archives = await open('trouble');
    index().trouble.status = 503;
    await until('the failure', async () => {
      const answer = await archives.find(lockOf(thing));
      return 'waits' in answer && /tried again: .*index/s.test(answer.waits);
    });
    delete index().trouble.status;
    await found(archives);
    const unknown = lockOf(thing).replace('thing==1.0', 'nothing==1.0');
    await expect(found(archives, unknown)).rejects.toMatchObject({ type: 'InvalidInput' });
    await archives.close();
  }, 300_000);

  test('is removed when no job has used it for long', async () => {
    const archives = await open('old', { unusedMs: 60_000 });
    await found(archives);
    const before = filesOf('old');
    expect(before).toHaveLength(3);
    await archives.sweep([]);
    expect(filesOf('old')).toEqual(before);
    await archives.close();
    const long = new Date(Date.now() - 120_000);
    for (const path of before) await utimes(join(folder, 'old', 'environments', path), long, long);
    const later = await open('old', { unusedMs: 60_000 });
    await later.sweep([lockOf(thing)]);
    expect(filesOf('old')).toEqual(before);
    for (const path of before) await utimes(join(folder, 'old', 'environments', path), long, long);
    const last = await open('old', { unusedMs: 60_000 });
    await last.sweep(['']);
    expect(filesOf('old').filter((path) => path.includes('/'))).toEqual([]);
    for (const each of [later, last]) await each.close();
  }, 300_000);
});

test('a worker with another Python than the image says so, and what to do', async () => {
  const archives = await open('none', { imagePython: '3.99' });
  await expect(archives.find(lockOf(thing))).rejects.toThrow(
    /its image has Python 3\.99 \(OCDL_KUBERNETES_IMAGE_PYTHON\), and the worker installs with Python 3\.\d+: install Python 3\.99 .* OCDL_PYTHON/,
  );
  expect(await archives.find(platformLock)).toEqual({ archive: null });
  await archives.close();
});

async function read(path: string): Promise<ReadonlyMap<string, { readonly mode: number; readonly text: string }>> {
  const entries = new Map<string, { mode: number; text: string }>();
  const extract = tar.extract();
  extract.end(await readFile(path));
  for await (const entry of extract) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    entries.set(entry.header.name, { mode: entry.header.mode ?? 0, text: Buffer.concat(chunks).toString('latin1') });
  }
  return entries;
}
