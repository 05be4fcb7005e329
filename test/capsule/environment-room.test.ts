// Python environments are limited in total size: the least recently used ones go, those in use and half removed ones never count.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEnvironmentRoom } from '../../activities/adapters/local-process/environment-room.ts';

const MIB = 1024 ** 2;
const HOUR_MS = 3_600_000;
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ocdl-room-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** A folder of one mebibyte that was last used so many hours ago. */
function made(name: string, hours: number): string {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'content'), Buffer.alloc(MIB, 1));
  aged(folder, hours);
  return folder;
}
function aged(folder: string, hours: number): void {
  const then = new Date(Date.now() - hours * HOUR_MS);
  utimesSync(folder, then, then);
}
const room = (totalBytes = 2.5 * MIB) => createEnvironmentRoom({ folders: [root, join(root, 'missing')], totalBytes });
const left = (): string[] => readdirSync(root).sort();

test('the least recently used ones are removed until the total is below the limit', async () => {
  for (const [name, hours] of [
    ['a', 20],
    ['b', 40],
    ['c', 30],
    ['d', 10],
  ] as const)
    made(name, hours);
  expect(await room().makeRoom()).toBe(2);
  expect(left()).toEqual(['a', 'd']);
});

test('one that was used lately, by this or another process, stays', async () => {
  const [a, b] = [made('a', 40), made('b', 30)];
  made('c', 5);
  const [mine, other] = [room(0), room(0)];
  const done = await mine.use(a);
  // Marked by its use: another process sees only that.
  expect(await other.makeRoom()).toBe(1);
  expect([existsSync(a), existsSync(b)]).toEqual([true, false]);
  // Counted in this process, whatever the mark.
  aged(a, 40);
  expect(await mine.makeRoom()).toBe(0);
  done();
  aged(a, 40);
  expect(await mine.makeRoom()).toBe(1);
  expect(left()).toEqual(['c']);
});

test('what a killed process left is removed and never counts as an environment', async () => {
  for (const name of ['.removed-1', 'a.making-1', 'a.making-2']) made(name, name.endsWith('2') ? 1 : 30);
  mkdirSync(join(root, '.removing-a'));
  aged(join(root, '.removing-a'), 1);
  made('a', 30);
  expect(await room().makeRoom()).toBe(0);
  expect(left()).toEqual(['a', 'a.making-2']);
});

test('a use waits for a removal that has begun', async () => {
  const folder = made('a', 30);
  const marker = join(root, '.removing-a');
  mkdirSync(marker);
  const using = room().use(folder);
  const first = await Promise.race([
    using.then(() => 'used'),
    new Promise((resolve) => setTimeout(resolve, 200, 'waits')),
  ]);
  expect(first).toBe('waits');
  rmSync(marker, { recursive: true });
  (await using)();
});
