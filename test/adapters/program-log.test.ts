// The log of a program: cost of hostile output, redrawn lines, the tail, and a disk that is full.
import { test } from '@jest/globals';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { openProgramLog } from '../../activities/adapters/local-process/program-log.ts';
import { scratchFolder } from './scratch-folder.ts';

const KIB = 1024;
const TAIL_BYTES = 64 * KIB;
const scratch = await scratchFolder();
const files = { made: 0 };
const newPath = (): string => join(scratch.path, `${files.made++}.log`);

afterAll(scratch.remove);

/** CPU time of `work`, in milliseconds: other processes of a busy machine do not count. */
function cpuOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** How many write calls this process has made (Linux). */
const writeCalls = (): number => Number(/^syscw: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);

test('output of empty lines costs time in proportion to its bytes, and one write per chunk', () => {
  const heard = { lines: 0 };
  const path = newPath();
  const log = openProgramLog({ path, onLine: () => void heard.lines++ });
  const source = log.source();
  const chunk = Buffer.alloc(64 * KIB, '\n');
  const before = writeCalls();
  // Alone on a machine, a chunk takes 0.1 s; a list of lines that is shifted takes 5 s.
  expect(cpuOf(() => Array.from({ length: 4 }, () => source.write(chunk)))).toBeLessThan(4_000);
  expect(writeCalls() - before).toBeLessThan(1_000);
  expect(heard.lines).toBe(4 * chunk.length);
  expect(readFileSync(path)).toHaveLength(4 * chunk.length);
  expect(log.tail()).toBe('\n'.repeat(TAIL_BYTES));
  log.close();
});

test('carriage returns cost time in proportion to their number', () => {
  const log = openProgramLog({ path: newPath() });
  const source = log.source();
  const line = Buffer.from(`${'\r'.repeat(15 * KIB)}x${'\r'.repeat(100)}\n`);
  expect(cpuOf(() => Array.from({ length: 100 }, () => source.write(line)))).toBeLessThan(2_000);
  expect(log.tail()).toBe('x\n'.repeat(100));
  log.close();
});

test.each([
  ['10%\r50%\r100%\r\n', '100%\n'],
  ['10%\r50%\r100%\n', '100%\n'],
  ['a separator\u2028 in it\rdone\n', 'done\n'],
  ['\u001b[2K10%\r\u001b[2K\u001b[1m20%\u001b[0m\r\r\n', '20%\n'],
  ['Windows\r\nlines\r\n', 'Windows\nlines\n'],
])('of the redrawn line %j, the last state is kept', (output, kept) => {
  const path = newPath();
  const log = openProgramLog({ path });
  log.source().write(Buffer.from(output));
  expect(log.tail()).toBe(kept);
  log.close();
  expect(readFileSync(path, 'utf8')).toBe(kept);
});

test.each([1, 7, 1_000, 70_000])('the tail is the last 64 KiB of whole characters, at %d lines per chunk', (lines) => {
  const log = openProgramLog({ path: newPath() });
  const source = log.source();
  const written: string[] = [];
  for (let chunk = 0; written.length < 8_000 || chunk < 2; chunk += 1) {
    const text = Array.from({ length: lines }, (_, line) => `${chunk} ${line} größer €\n`);
    written.push(...text);
    source.write(Buffer.from(text.join('')));
  }
  const end = Buffer.from(written.join(''))
    .subarray(-TAIL_BYTES)
    .toString('utf8')
    .replace(/^\uFFFD+/, '');
  expect(log.tail()).toBe(end);
  log.close();
});

test('beyond 8 MiB, the tail is still the end of the output', () => {
  const path = newPath();
  const log = openProgramLog({ path });
  const source = log.source();
  for (let chunk = 0; chunk < 10; chunk += 1) source.write(Buffer.from(`${'x'.repeat(1023)}\n`.repeat(KIB)));
  source.write(Buffer.from('\u0000the\r\nend'));
  expect(log.tail()).toMatch(/^x+\n[x\n]*\n\uFFFDthe\nend$/);
  log.close();
  expect(readFileSync(path, 'utf8')).toMatch(/\n\(log truncated: it exceeds the limit of 8388608 bytes\)\n$/);
});

test('a full disk loses lines of the file, not of the tail, and does not throw', () => {
  const path = newPath();
  symlinkSync('/dev/full', path);
  const heard: string[] = [];
  const log = openProgramLog({ path, onLine: (line) => heard.push(line) });
  const source = log.source();
  source.write(Buffer.from('hello\nwor'));
  log.note('a note');
  source.write(Buffer.from('ld\nrest'));
  source.end();
  expect(heard).toEqual(['hello', 'a note', 'world', 'rest']);
  expect(log.tail()).toBe('hello\na note\nworld\nrest\n');
  log.close();
});
