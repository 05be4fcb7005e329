// Archives from outside: valid ones are repacked as a tar; unsafe paths and decompression bombs are refused.
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import { createArchives } from '../../activities/adapters/sources/archives.ts';
import { isFailure } from '../../activities/failures.ts';
import { collect } from '../contracts/cases.ts';
import { tarOf, zipOf } from './made-archives.ts';

const state = { folder: '' };
beforeAll(async () => {
  state.folder = await mkdtemp(join(tmpdir(), 'ocdl-archives-'));
});
afterAll(() => rm(state.folder, { recursive: true, force: true }));

const limits = { entries: 1_000, bytes: 64 * 2 ** 20, ratio: 200 };
const archives = createArchives(limits);
const { signal } = new AbortController();
const next = { number: 0 };
const path = (name: string): string => join(state.folder, `${(next.number += 1)}-${name}`);

async function write(name: string, bytes: Uint8Array): Promise<string> {
  const file = path(name);
  await writeFile(file, bytes);
  return file;
}

/** Unpacks and packs again; the files of the resulting tar by path. */
async function relaid(archive: string, stripTop = false, with_ = archives) {
  const found = await with_.unpack(archive, path('spool'), { stripTop, signal });
  if (!found) return undefined;
  const bytes = await collect(archives.pack(found.entries, signal));
  const files: Record<string, string> = {};
  const extract = tar.extract();
  extract.end(bytes);
  for await (const entry of extract) {
    expect(entry.header.type).toBe('file');
    files[entry.header.name] = (await collect(entry as AsyncIterable<Uint8Array>)).toString();
  }
  return { bytes, files, leftOut: found.leftOut };
}
const refuses = async (archive: string, text: RegExp, with_ = archives) => {
  const error: unknown = await relaid(archive, false, with_).catch((reason: unknown) => reason);
  expect([isFailure(error, 'InvalidInput'), String(error)]).toEqual([true, expect.stringMatching(text)]);
};

const honest = { 'top/b/rows.csv': 'b', 'top/a.txt': 'a', 'top/empty': '' };
const listed = { 'b/rows.csv': 'b', 'a.txt': 'a', empty: '' };

/** The same tree by the programs that people use. */
async function madeByPrograms(kind: 'tar' | 'tar.gz' | 'zip'): Promise<string> {
  const folder = await mkdtemp(join(state.folder, 'tree-'));
  await mkdir(join(folder, 'top/b'), { recursive: true });
  for (const [name, text] of Object.entries(honest)) await writeFile(join(folder, name), text);
  await symlink('/etc/passwd', join(folder, 'top/link'));
  await writeFile(join(folder, 'top/.hidden'), 'h');
  await writeFile(join(folder, 'top/with space'), 's');
  const archive = path(`honest.${kind}`);
  const python =
    "import os, stat, sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)\nfor base, folders, files in os.walk('top'):\n  for f in files:\n    p = os.path.join(base, f)\n    if os.path.islink(p):\n      i = zipfile.ZipInfo(p); i.create_system = 3; i.external_attr = (stat.S_IFLNK | 0o777) << 16; z.writestr(i, os.readlink(p))\n    else: z.write(p)\nz.close()";
  if (kind === 'zip') execFileSync('python3', ['-c', python, archive], { cwd: folder });
  else execFileSync('tar', [kind === 'tar' ? '-cf' : '-czf', archive, 'top'], { cwd: folder });
  return archive;
}

it.each(['tar', 'tar.gz', 'zip'] as const)(
  'a valid %s becomes the same tar; links and invalid names are left out',
  async (kind) => {
    const made = await relaid(await madeByPrograms(kind), true);
    expect(made?.files).toEqual(listed);
    const reasons: Record<string, string> = Object.fromEntries(
      (made?.leftOut.examples ?? []).map(({ path: name, why }): [string, string] => [
        name.split('/').at(-1) ?? '',
        why,
      ]),
    );
    expect(made?.leftOut.count).toBe(3);
    expect(reasons).toEqual({
      link: 'a link',
      '.hidden': expect.stringContaining('not a valid path segment') as string,
      'with space': expect.stringContaining('not a valid path segment') as string,
    });
    // Whatever the order, the times and the packer: the same files are the same bytes.
    const other = await relaid(
      await write(
        'other.tar',
        await tarOf(Object.entries(listed).map(([name, text]) => ({ name, text, mtime: new Date(), uid: 7 }))),
      ),
    );
    expect(other?.bytes.equals(made?.bytes ?? Buffer.alloc(0))).toBe(true);
  },
);

it('long names and many files are supported', async () => {
  const long = `${'a'.repeat(100)}/${'b'.repeat(120)}/${'c'.repeat(100)}.csv`;
  const entries = [
    { name: long, text: 'long' },
    ...Array.from({ length: 500 }, (_, i) => ({ name: `rows/${i}.csv`, text: String(i) })),
  ];
  const made = await relaid(await write('many.tar.gz', gzipSync(await tarOf(entries))));
  expect(Object.keys(made?.files ?? {}).length).toBe(501);
  expect(made?.files[long]).toBe('long');
});

describe('an archive with an entry outside its folder is refused as a whole', () => {
  const names = ['../x', 'a/../../x', 'a/..', '/etc/passwd', '//x', 'C:/x', 'C:\\x', '..\\x', 'a\\..\\..\\x'];
  it.each(names)('tar: %s', async (name) => {
    await refuses(
      await write(
        'evil.tar',
        await tarOf([
          { name: 'fine', text: 'f' },
          { name, text: 'evil' },
        ]),
      ),
      /outside its folder/,
    );
  });
  it.each(names)('zip: %s', async (name) => {
    await refuses(
      await write(
        'evil.zip',
        zipOf([
          { name: 'fine', text: 'f' },
          { name, text: 'evil' },
        ]),
      ),
      /outside its folder/,
    );
  });
  it('even if it is a folder, or below the top folder that is stripped', async () => {
    await refuses(await write('evil.tar', await tarOf([{ name: '../x/', type: 'directory' }])), /outside its folder/);
    const error: unknown = await relaid(
      await write('evil.tar', await tarOf([{ name: '../x', text: 'evil' }])),
      true,
    ).catch((reason: unknown) => reason);
    expect(isFailure(error, 'InvalidInput')).toBe(true);
  });
});

describe('entries that are not regular files are skipped', () => {
  it('links, devices and pipes in a tar', async () => {
    const made = await relaid(
      await write(
        'links.tar',
        await tarOf([
          { name: 'out', type: 'symlink', linkname: '../../etc' },
          { name: 'out/passwd', text: 'written through the link' },
          { name: 'hard', type: 'link', linkname: '/etc/passwd' },
          { name: 'disk', type: 'block-device', devmajor: 8, devminor: 0 },
          { name: 'null', type: 'character-device', devmajor: 1, devminor: 3 },
          { name: 'pipe', type: 'fifo' },
          { name: 'fine', text: 'f' },
        ]),
      ),
    );
    // The entry that was meant to go through the link becomes an ordinary file of the tree.
    expect(made?.files).toEqual({ fine: 'f', 'out/passwd': 'written through the link' });
    expect(made?.leftOut.count).toBe(5);
  });
  it('links and devices in a zip', async () => {
    const made = await relaid(
      await write(
        'links.zip',
        zipOf([
          { name: 'out', text: '/etc/passwd', mode: 0o120777 },
          { name: 'dev', mode: 0o060644 },
          { name: 'fine', text: 'f' },
        ]),
      ),
    );
    expect([made?.files, made?.leftOut.count]).toEqual([{ fine: 'f' }, 2]);
  });
});

describe('an archive bomb', () => {
  const zeros = Buffer.alloc(40 * 2 ** 20);
  it('by ratio is stopped early: gzip and zip', async () => {
    const inner = await tarOf([{ name: 'zeros', text: zeros.toString('latin1') }]);
    await refuses(await write('bomb.tar.gz', gzipSync(inner)), /more than 200 times its size/);
    const folder = await mkdtemp(join(state.folder, 'bomb-'));
    await writeFile(join(folder, 'zeros'), zeros);
    execFileSync('python3', ['-m', 'zipfile', '-c', 'bomb.zip', 'zeros'], { cwd: folder });
    await refuses(join(folder, 'bomb.zip'), /more than 200 times its size/);
  });
  it('by size, by number of entries, by a false header', async () => {
    const small = createArchives({ ...limits, bytes: 1_000 });
    await refuses(
      await write(
        'big.tar',
        await tarOf([
          { name: 'a', text: 'a'.repeat(600) },
          { name: 'b', text: 'b'.repeat(600) },
        ]),
      ),
      /more than the limit of 1000 bytes/,
      small,
    );
    const few = createArchives({ ...limits, entries: 5 });
    const many = Array.from({ length: 6 }, (_, i) => ({ name: `f${i}/`, type: 'directory' as const }));
    await refuses(await write('many.tar', await tarOf(many)), /more than 5 entries/, few);
    await refuses(
      await write('many.zip', zipOf(Array.from({ length: 6 }, (_, i) => ({ name: `f${i}` })))),
      /more than 5 entries/,
      few,
    );
    const lying = await tarOf([{ name: 'a', text: 'a' }]);
    // A size of 8 GiB in the header, the checksum set right.
    lying.write('77777777777\0', 124, 'latin1');
    const sum = [...lying.subarray(0, 512)].reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    lying.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    await refuses(await write('lying.tar', lying), /cannot be unpacked/);
  });
});

describe('a damaged archive:', () => {
  it.each<[string, () => Promise<Buffer>]>([
    [
      'a truncated tar.gz',
      async () => gzipSync(await tarOf([{ name: 'a', text: 'a'.repeat(10_000) }])).subarray(0, 60),
    ],
    ['a truncated tar', async () => (await tarOf([{ name: 'a', text: 'a'.repeat(10_000) }])).subarray(0, 2_000)],
    ['a gzip that is not a tar', async () => gzipSync('rows')],
    [
      'a gzip with a wrong checksum',
      async () => {
        const bytes = gzipSync(await tarOf([{ name: 'a', text: 'a' }]));
        bytes.writeUInt32LE(1, bytes.length - 8);
        return bytes;
      },
    ],
    ['a zip without its central directory', async () => zipOf([{ name: 'a', text: 'a' }]).subarray(0, 35)],
    ['an encrypted zip', async () => zipOf([{ name: 'a', text: 'a', flags: 1 }])],
    [
      'a duplicate name',
      async () =>
        tarOf([
          { name: 'a', text: '1' },
          { name: './a', text: '2' },
        ]),
    ],
    [
      'a path that is both a file and a folder',
      async () =>
        tarOf([
          { name: 'a', text: '1' },
          { name: 'a/b', text: '2' },
        ]),
    ],
  ])('%s is refused', async (_, make) => {
    await refuses(await write('a damaged archive:', await make()), /archive|both a file/);
  });

  it('or a file that is not an archive is reported', async () => {
    expect(await relaid(await write('rows.csv', Buffer.from('a,b\n1,2\n')))).toBeUndefined();
    expect(await relaid(await write('empty', Buffer.alloc(0)))).toBeUndefined();
  });
});

it('the unpacker of jobs accepts the tars that the platform makes', async () => {
  const long = `${'a'.repeat(100)}/${'b'.repeat(120)}.csv`;
  const made = await relaid(
    await write(
      'in.tar',
      await tarOf([
        { name: long, text: 'long' },
        { name: 'b', text: '' },
      ]),
    ),
  );
  const archive = await write('set.tar', made?.bytes ?? Buffer.alloc(0));
  const program =
    'import sys; from pathlib import Path; from ocdl.unpack import unpack; unpack(Path(sys.argv[1]), Path(sys.argv[2]))';
  const target = path('laid-out');
  const env = { PATH: process.env.PATH ?? '', PYTHONPATH: join(import.meta.dirname, '../../deploy/capsule') };
  execFileSync('python3', ['-c', program, archive, target], { env });
  expect(await readFile(join(target, long), 'utf8')).toBe('long');
  expect((await readdir(target)).sort()).toEqual(['a'.repeat(100), 'b']);
});

it('names in archives never become names on disk', async () => {
  expect((await readdir(state.folder)).filter((name) => !/^\d+-|^(tree|bomb)-/.test(name))).toEqual([]);
});
