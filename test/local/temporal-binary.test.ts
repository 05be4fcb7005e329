// The source of the Temporal server: the cache, a build with Go, or an error with the remedy. All programs are fakes.
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findTemporal, temporalCachePath, temporalSource } from '../../deploy/local/temporal-binary.ts';

let folder: string;
let cache: string;
let path: string;
let lines: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ocdl-temporal-'));
  cache = join(folder, 'cache');
  path = join(folder, 'bin');
  mkdirSync(path);
  lines = [];
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function fake(file: string, body: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `#!${process.execPath}\n${body}\n`);
  chmodSync(file, 0o755);
}

/** A fake Go that records its arguments and creates the requested program, or fails. */
function fakeGo(version: string, { fails = false } = {}): void {
  const log = JSON.stringify(join(folder, 'go.log'));
  fake(
    join(path, 'go'),
    `const fs = require('node:fs');
     const args = process.argv.slice(2);
     if (args[0] === 'version') { console.log('go version go${version} linux/amd64'); process.exit(0); }
     fs.appendFileSync(${log}, JSON.stringify({ args, cwd: process.cwd(), cgo: process.env.CGO_ENABLED }) + '\\n');
     console.error('go: downloading go.temporal.io/server v1.29.2');
     ${fails ? "console.error('dial tcp: no route'); process.exit(1);" : ''}
     setTimeout(() => { fs.writeFileSync(args[args.indexOf('-o') + 1], 'built', { mode: 0o755 }); }, 200);`,
  );
}

const find = (build = true): Promise<string> =>
  findTemporal({ cache, env: { PATH: path }, onProgress: (line) => lines.push(line), build });

test('a server on the PATH is never used: it opens HTTP ports that any page in a browser can reach', async () => {
  fake(join(path, 'temporal'), "console.log('temporal version 1.9.0 (Server 1.39.0, UI 2.50.0)')");
  fake(temporalCachePath(cache), '');
  expect(await find()).toBe(temporalCachePath(cache));
});

test('the cache key covers all sources of the server', () => {
  const copy = pathToFileURL(`${join(folder, 'sources')}/`);
  cpSync(new URL('../../deploy/temporal/', import.meta.url), copy, { recursive: true });
  const before = temporalSource(copy);
  expect(before).toEqual(temporalSource());
  expect(temporalCachePath(cache)).toBe(join(cache, `temporal-${before.version}-${before.digest}`, 'temporal'));
  const digests = readdirSync(copy).map((name) => {
    appendFileSync(new URL(name, copy), '\n');
    return temporalSource(copy).digest;
  });
  expect(new Set([before.digest, ...digests]).size).toBe(digests.length + 1);
});

test('with Go it is built from the pinned modules, with progress, and cached', async () => {
  fakeGo('1.24.1');
  expect(await find()).toBe(temporalCachePath(cache));
  const call = JSON.parse(readFileSync(join(folder, 'go.log'), 'utf8')) as { args: string[]; cwd: string; cgo: string };
  expect(call.args.slice(0, 6)).toEqual([
    'build',
    '-mod=readonly',
    '-trimpath',
    '-buildvcs=false',
    '-ldflags',
    '-s -w',
  ]);
  expect(call.args.at(-1)).toBe('.');
  expect(call.cgo).toBe('0');
  expect(existsSync(join(call.cwd, 'go.mod'))).toBe(true);
  const { version } = temporalSource();
  expect(lines[0]).toBe(
    `Fetching the Temporal server ${version} with ${join(path, 'go')}: only once, up to several minutes.`,
  );
  expect(lines.at(-1)).toMatch(/^Fetched the Temporal server \d+\.\d+\.\d+ in \d+ s\.$/);
  expect(readdirSync(dirname(temporalCachePath(cache)))).toEqual(['temporal']);
  await find();
  expect(readFileSync(join(folder, 'go.log'), 'utf8').trim().split('\n')).toHaveLength(1);
});

test('two concurrent builds both succeed and leave one complete program', async () => {
  fakeGo('1.25.0');
  expect(await Promise.all([find(), find()])).toEqual([temporalCachePath(cache), temporalCachePath(cache)]);
  expect(readFileSync(temporalCachePath(cache), 'utf8')).toBe('built');
  expect(readdirSync(dirname(temporalCachePath(cache)))).toEqual(['temporal']);
});

test('a build removes the draft of a killed build after a day', async () => {
  fakeGo('1.24.1');
  const target = temporalCachePath(cache);
  mkdirSync(dirname(target), { recursive: true });
  const [old, young] = [`${target}.making-old`, `${target}.making-young`];
  for (const path of [old, young]) writeFileSync(path, 'half');
  utimesSync(old, new Date(), new Date(Date.now() - 25 * 60 * 60 * 1000));
  await find();
  expect(readdirSync(dirname(target)).sort()).toEqual(['temporal', 'temporal.making-young']);
});

test('a failed build reports Go’s output and leaves nothing in the cache', async () => {
  fakeGo('1.24.0', { fails: true });
  await expect(find()).rejects.toThrow(/go exit 1[^]*dial tcp: no route\nOr set TEMPORAL_ADDRESS/);
  expect(readdirSync(dirname(temporalCachePath(cache)))).toEqual([]);
});

test('with builds disabled it reports that a build is possible', async () => {
  fakeGo('1.24.0');
  expect(await find(false)).toMatch(/^to be built with .*bin\/go/);
  expect(existsSync(join(folder, 'go.log'))).toBe(false);
});

test.each([
  ['no Go', undefined],
  ['only Go 1.22', '1.22.5'],
])('with %s the error names every way to get a server', async (what, version) => {
  if (version !== undefined) fakeGo(version);
  await expect(find()).rejects.toThrow(new RegExp(`${what}.*Install Go 1.24.*TEMPORAL_ADDRESS`));
});
