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
unpack(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
`;
/** Makes an archive that no program makes: `header` writes one header with any size and content. */
const MAKE_HOSTILE = `
import sys, tarfile
out = open(sys.argv[1], "wb")
def header(name, kind, size, content=b""):
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[156:157] = kind
    block[124:136] = size if isinstance(size, bytes) else b"%011o\\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\\0 " % sum(block)
    out.write(bytes(block) + content + b"\\0" * (-len(content) % 512))
def attributes(text, kind=b"x"):
    header("attributes", kind, len(text), text)
def record(key, value):
    length = len(key) + len(value) + 3
    while len(f"{length} {key}={value}\\n") != length: length += 1
    return f"{length} {key}={value}\\n".encode()
NEGATIVE = b"\\xff" * 10 + b"\\xfc\\x00"  # -1024
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

test.each([
  ['a chain of headers', 'for _ in range(3000): attributes(record("comment", "x"))', /cannot be unpacked: .*recursion/],
  ['a long header', 'attributes(record("comment", "x" * 100_000))', /its headers exceed the limit of 65536 bytes each/],
  ['a header with a negative size', 'header("a", b"x", NEGATIVE)', /its headers exceed the limit/],
  ['a folder with a negative size', 'header("a", b"5", NEGATIVE)', /entry 'a' has the size -1024/],
  [
    'many global attributes',
    'attributes(b"".join(record(f"k{i}", "v") for i in range(500)), b"g")',
    /global attributes/,
  ],
  [
    'an invalid map of a sparse file',
    'attributes(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")); header("a", b"0", 512, b"y\\n" * 256)',
    /cannot be unpacked: invalid literal/,
  ],
  ['an offset outside the file', 'header("a", b"0", b"\\x80" + b"\\xff" * 11)', /exceeds the limit/],
  [
    'deep folders',
    'header("/".join("a" * 45) + "/b" * 5, b"5", 0); attributes(record("path", "a/" * 100)); header("c", b"5", 0)',
    /nested deeper than the limit of 64/,
  ],
])('%s is refused with status 6 and leaves nothing', async (_name, code, message) => {
  const path = join(folder, 'in', 'code.tar');
  const end = 'header("last", b"0", 0); out.write(bytes(1024)); out.close()';
  const made = await runProgram(python, ['-c', `${MAKE_HOSTILE}\nheader("first", b"0", 0)\n${code}\n${end}`, path]);
  expect(made).toMatchObject({ status: 0, stderr: '' });
  const ended = await unpackAsInput(path);
  expect(ended.stderr).toMatch(message);
  expect(ended.stderr).not.toContain('Traceback');
  expect(ended.status).toBe(6);
  expect(await readdir(join(folder, 'in'))).toEqual(['code.tar']);
});

test('a full disk is not the fault of the archive: status 5', async () => {
  const path = await archive([['file', 'a', 'x']]);
  const full = `
import errno, os, sys; from pathlib import Path; from ocdl.failures import Failure; from ocdl.unpack import unpack
def refuse(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.open = refuse
try: unpack(Path(sys.argv[1]), Path(sys.argv[2]))
except Failure as failure: print(failure.status, failure)
`;
  const ended = await runProgram(python, ['-c', full, path, join(folder, 'out')]);
  expect(ended.stdout).toMatch(/^5 code\.tar cannot be unpacked: .*No space left/);
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
  ['bytes', ['9', '10', '60'], 'exceeds the limit'],
  ['entries', ['100', '1', '60'], 'exceeds the limit'],
  ['folders that no entry names', ['100', '2', '60'], 'exceeds the limit', 'a/b/c/'],
  ['seconds', ['100', '9', '0.000001'], 'was not unpacked within 1e-06 seconds'],
  ['none', ['10', '2', '60'], ''],
])('the limits of an archive: %s', async (_name, limits, message, parent = '') => {
  const path = await archive([
    ['file', `${parent}a`, '01234'],
    ['file', `${parent}b`, '56789'],
  ]);
  const ended = await runProgram(python, ['-c', BOUNDED, path, join(folder, 'out'), ...limits]);
  expect(ended.status).toBe(message === '' ? 0 : 1);
  expect(ended.stderr).toContain(message);
});
