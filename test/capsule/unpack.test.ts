// Archives as inputs: valid ones are unpacked, hostile ones leave nothing behind.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { runProgram } from './programs.ts';

/** Makes an archive of the entries given as [kind, name, content or target]. */
const MAKE = `
import io, json, sys, tarfile
kinds = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
         "fifo": tarfile.FIFOTYPE, "sparse": tarfile.GNUTYPE_SPARSE, "device": tarfile.CHRTYPE}
with tarfile.open(sys.argv[1], "w", format=tarfile.GNU_FORMAT) as tar:
    for kind, name, more in json.load(sys.stdin):
        member = tarfile.TarInfo(name)
        member.type = kinds[kind]
        content = more.encode() if kind == "file" else b""
        member.size, member.linkname = len(content), "" if kind == "file" else more
        tar.addfile(member, io.BytesIO(content))
`;
const BOUNDED = `
import sys; from pathlib import Path; from ocdl.unpack import unpack
unpack(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
`;

type Entry = readonly [kind: string, name: string, more: string];

let python: string;
let folder: string;

beforeAll(async () => {
  python = (await findPython(process.env['OCDL_PYTHON'])).executable;
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ocdl-tar-'));
  await mkdir(join(folder, 'in'));
});

afterEach(async () => rm(folder, { recursive: true, force: true }));

async function archive(entries: readonly Entry[]): Promise<string> {
  const path = join(folder, 'in', 'code.tar');
  const made = await runProgram(python, ['-c', MAKE, path], { stdin: JSON.stringify(entries) });
  expect(made).toMatchObject({ status: 0, stderr: '' });
  return path;
}

/** Fetches with the archive already in its place, so that no server is needed. */
async function unpackAsInput(path: string) {
  const bytes = await readFile(path);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const inputs = [{ name: 'code.tar', sha256, bytes: bytes.length, unpack: true }];
  const manifest = { job: 'j-1', api: 'http://127.0.0.1:1', inputs, outputs: [] };
  await writeFile(join(folder, 'job.json'), JSON.stringify(manifest));
  return runProgram(python, ['-m', 'ocdl.job', 'fetch', folder], { env: { OCDL_JOB_TOKEN: 'token' } });
}

test('a valid archive is unpacked into its own folder, reproducibly', async () => {
  const path = await archive([
    ['dir', 'model/', ''],
    ['file', './model/train.py', 'print(1)'],
    ['file', 'deep/er/notes.md', 'hello'],
  ]);
  for (let again = 0; again < 2; again += 1) {
    expect(await unpackAsInput(path)).toMatchObject({ status: 0, stderr: '' });
    expect(await readFile(join(folder, 'in', 'code', 'model', 'train.py'), 'utf8')).toBe('print(1)');
    expect(await readFile(join(folder, 'in', 'code', 'deep', 'er', 'notes.md'), 'utf8')).toBe('hello');
    expect((await readdir(join(folder, 'in'))).sort()).toEqual(['code', 'code.tar']);
  }
});

test.each<[string, readonly Entry[], RegExp]>([
  ['a name that leaves the folder', [['file', '../evil', 'x']], /is outside its folder/],
  ['a name that leaves the folder from a subfolder', [['file', 'a/../../evil', 'x']], /is outside its folder/],
  ['an absolute name', [['file', '/tmp/evil', 'x']], /is outside its folder/],
  ['a symbolic link', [['symlink', 'link', '/etc/passwd']], /links are refused/],
  [
    'a file behind a symbolic link',
    [
      ['symlink', 'link', '..'],
      ['file', 'link/evil', 'x'],
    ],
    /links are refused/,
  ],
  [
    'a hard link',
    [
      ['file', 'a', 'x'],
      ['hardlink', 'b', 'a'],
    ],
    /links are refused/,
  ],
  ['a named pipe', [['fifo', 'pipe', '']], /neither a regular file nor a folder/],
  ['a device', [['device', 'null', '']], /neither a regular file nor a folder/],
  ['a sparse file', [['sparse', 'huge', '']], /neither a regular file nor a folder/],
  [
    'the same name twice',
    [
      ['file', 'a', 'x'],
      ['file', 'a', 'y'],
    ],
    /File exists/,
  ],
])('%s is refused with status 6 and leaves nothing', async (_name, entries, message) => {
  const ended = await unpackAsInput(await archive([['file', 'first', 'fine'], ...entries]));
  expect(ended.status).toBe(6);
  expect(ended.stderr).toMatch(message);
  expect(await readdir(join(folder, 'in'))).toEqual(['code.tar']);
  expect((await readdir(folder)).sort()).toEqual(['in', 'job.json']);
});

test('a damaged archive is refused with status 6', async () => {
  const path = await archive([['file', 'a', 'x'.repeat(5000)]]);
  await writeFile(path, (await readFile(path)).subarray(0, 2000));
  expect(await unpackAsInput(path)).toMatchObject({ status: 6 });
  await writeFile(path, 'no archive at all');
  expect(await unpackAsInput(path)).toMatchObject({ status: 6 });
  expect(await readdir(join(folder, 'in'))).toEqual(['code.tar']);
});

test.each([
  ['bytes', '9', '10', 1],
  ['entries', '100', '1', 1],
  ['neither', '10', '2', 0],
])('the limits of an archive: %s', async (_name, mostBytes, mostEntries, status) => {
  const path = await archive([
    ['file', 'a', '01234'],
    ['file', 'b', '56789'],
  ]);
  const ended = await runProgram(python, ['-c', BOUNDED, path, join(folder, 'out'), mostBytes, mostEntries]);
  expect(ended.status).toBe(status);
  if (status !== 0) expect(ended.stderr).toContain('exceeds the limit');
});
