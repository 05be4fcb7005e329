// Which lines of a child's output reach the terminal, and how much of it is kept on disk.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLogFile } from '../../deploy/local/log-file.ts';
import { terminalLineOf } from '../../deploy/local/readable-lines.ts';

test.each([
  ['{"level":30,"msg":"fine"}', undefined],
  ['{"level":40,"msg":"careful"}', 'WARN careful'],
  ['{"level":50,"msg":"broken","err":{"message":"no disk"}}', 'ERROR broken: no disk'],
  ['{"level":"error","msg":"broken","error":"no disk"}', 'ERROR broken: no disk'],
  ['{"level":60,"msg":"over"}', 'FATAL over'],
  ['{"level":40,"msg":"two\\nlines \\u001b[2J"}', 'WARN two lines [2J'],
  ['not json', undefined],
  ['{"level":', undefined],
])('%s shows as %s', (line, shown) => {
  expect(terminalLineOf(line, false)).toBe(shown);
});

test('verbose shows all lines, shortened', () => {
  expect(terminalLineOf('{"level":30,"msg":"fine"}', true)).toBe('fine');
  expect(terminalLineOf('not json', true)).toBe('not json');
  expect(terminalLineOf('x'.repeat(10_000), true)).toHaveLength(500);
});

test('a log keeps earlier runs, in at most two files of the size limit', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-log-'));
  try {
    const first = openLogFile(folder, 'api', 100);
    first.write('of the first run');
    first.close();
    for (const run of ['second', 'third']) {
      const next = openLogFile(folder, 'api', 100);
      expect(next.tail()).toEqual([]);
      next.write(`of the ${run} run`);
      next.close();
    }
    expect(readdirSync(folder)).toEqual(['api.log']);
    const whole = 'of the first run\nof the second run\nof the third run\n';
    expect(readFileSync(join(folder, 'api.log'), 'utf8')).toBe(whole);
    const second = openLogFile(folder, 'api', 100);
    second.write('x'.repeat(60));
    expect(readFileSync(join(folder, 'api.1.log'), 'utf8')).toBe(whole);
    for (let line = 0; line < 50; line += 1) second.write(`line ${line}`);
    second.close();
    second.write('after its end');
    expect(readdirSync(folder).sort()).toEqual(['api.1.log', 'api.log']);
    const kept = ['api.1.log', 'api.log'].map((name) => readFileSync(join(folder, name), 'utf8'));
    expect(kept.every((text) => text.length <= 100)).toBe(true);
    expect(kept.join('')).toMatch(/line 48\nline 49\n$/);
    expect(second.tail().at(-1)).toBe('line 49');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a log on a full disk drops lines without an error, and keeps the last ones for messages', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-log-'));
  try {
    symlinkSync('/dev/full', join(folder, 'api.log'));
    const log = openLogFile(folder, 'api', 100);
    log.write('first');
    log.write('second');
    expect(log.tail()).toEqual(['first', 'second']);
    log.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a log that cannot be rotated drops lines, and says so once it can', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-log-'));
  const [path, older] = [join(folder, 'api.log'), join(folder, 'api.1.log')];
  try {
    const log = openLogFile(folder, 'api', 200);
    log.write('x'.repeat(190));
    // The earlier log cannot replace a folder.
    mkdirSync(older);
    log.write('lost one, too long');
    log.write('lost two, too');
    expect(readFileSync(path, 'utf8')).toBe(`${'x'.repeat(190)}\n`);
    rmdirSync(older);
    log.write('kept after it');
    log.close();
    expect(readFileSync(older, 'utf8')).toContain('x'.repeat(190));
    expect([older, path].map((file) => readFileSync(file, 'utf8')).join('')).toMatch(
      /^x+\n\(log incomplete: 2 lines are missing here; .*EISDIR.*\)\nkept after it\n$/,
    );
    expect(log.tail().slice(1)).toEqual(['lost one, too long', 'lost two, too', 'kept after it']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a log that somebody removed is replaced at its next rotation', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-log-'));
  try {
    const log = openLogFile(folder, 'api', 100);
    log.write('x'.repeat(90));
    rmSync(log.path);
    log.write('after its removal');
    log.close();
    expect(readdirSync(folder)).toEqual(['api.log']);
    expect(readFileSync(log.path, 'utf8')).toBe('after its removal\n');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
