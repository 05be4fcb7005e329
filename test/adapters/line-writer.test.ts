// Log files on a disk that is full for a while: whole lines, and a notice where lines are missing.
import { test } from '@jest/globals';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createLineWriter, type LineWriter } from '../../activities/adapters/local-process/line-writer.ts';
import { scratchFolder } from './scratch-folder.ts';

const scratch = await scratchFolder();
afterAll(scratch.remove);

type Disk = { space: number; code: string };

/** A log on a disk with `space` bytes left: it takes what fits, and then fails with `code`. */
function openScene(name: string): {
  path: string;
  file: number;
  disk: Disk;
  writer: LineWriter;
  say: (text: string) => number;
} {
  const path = join(scratch.path, name);
  const file = openSync(path, 'w');
  const disk: Disk = { space: Infinity, code: 'ENOSPC' };
  const writer = createLineWriter((to, bytes, offset) => {
    if (disk.space === 0) throw Object.assign(new Error(`${disk.code}: disk trouble, write`), { code: disk.code });
    const done = writeSync(to, bytes, offset, Math.min(bytes.length - offset, disk.space));
    disk.space -= done;
    return done;
  });
  return { path, file, disk, writer, say: (text) => writer.append(file, Buffer.from(text)) };
}

test.each(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS'])('after %s, the log says where how many lines are missing', (code) => {
  const { path, file, disk, writer, say } = openScene(code);
  expect(say('one\n')).toBe(4);
  Object.assign(disk, { space: 0, code });
  expect(say('two\nthree\n')).toBe(0);
  expect(say('four\n')).toBe(0);
  disk.space = Infinity;
  say('five\n');
  say('six\n');
  writer.close(file);
  const notice = `(log incomplete: 3 lines are missing here; writing failed: ${code}: disk trouble, write)`;
  expect(readFileSync(path, 'utf8')).toBe(`one\n${notice}\nfive\nsix\n`);
});

test('a line of which the disk takes only a part is missing, and the notice starts a line of its own', () => {
  const { path, file, disk, writer, say } = openScene('torn');
  disk.space = 6;
  expect(say('one\ntwo\nthree\n')).toBe(6);
  // Takes a part of the notice itself.
  disk.space = 5;
  expect(say('four\n')).toBe(5);
  disk.space = Infinity;
  say('five\n');
  writer.close(file);
  expect(readFileSync(path, 'utf8')).toMatch(
    /^one\ntw\n\(log\n\(log incomplete: 3 lines are missing here; .*ENOSPC.*\)\nfive\n$/,
  );
});

test('the close of a log says that its last line is missing, if it can', () => {
  const { path, file, disk, writer, say } = openScene('closed');
  disk.space = 0;
  say('one\n');
  disk.space = Infinity;
  writer.close(file);
  expect(readFileSync(path, 'utf8')).toMatch(/^\(log incomplete: 1 line is missing here; .*\)\n$/);
  const other = openScene('closed-full');
  other.disk.space = 0;
  other.say('one\n');
  other.writer.close(other.file);
  expect(readFileSync(other.path, 'utf8')).toBe('');
});

test('an error that is not of the disk is thrown', () => {
  const { file, disk, say } = openScene('thrown');
  Object.assign(disk, { space: 0, code: 'EBADF' });
  expect(() => say('one\n')).toThrow('EBADF');
  closeSync(file);
});
