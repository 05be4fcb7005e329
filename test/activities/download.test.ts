// The part of a download: bytes of two versions of a file never come together.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { download } from '../../activities/acquisition/download.ts';
import type { SourceSession } from '../../activities/ports.ts';
import type { RemoteFile } from '../../workflows/domain/import.ts';

const file: RemoteFile = { name: 'rows.csv', address: 'a', bytes: null, expected: null, isFolder: false };

/** A source that has this version of the file; after `breaksAt` bytes its connection is lost. */
const source = (text: string, validator: string, breaksAt?: number): SourceSession =>
  ({
    async open(_: RemoteFile, from: { start: number; validator: string | null }) {
      const start = from.validator === validator ? from.start : 0;
      const bytes = async function* () {
        yield Buffer.from(text.slice(start, breaksAt));
        if (breaksAt !== undefined) throw new Error('the connection was lost');
      };
      return { start, total: text.length, validator, bytes: bytes() };
    },
  }) as unknown as SourceSession;

it('the part of an older version is gone before the note of a newer one is written', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ocdl-download-'));
  const options = {
    ...{ expected: [], limit: 1_000, signal: new AbortController().signal },
    onBytes: () => undefined,
  };
  try {
    const older = source('A'.repeat(100), 'a', 60);
    await expect(download(older, file, folder, options)).rejects.toThrow('the connection was lost');
    const [part] = (await readdir(folder)).filter((name) => name.endsWith('.part'));
    const newer = source('B'.repeat(200), 'b');
    // The process ends between the two, as far as the folder shows: the note cannot be written.
    await mkdir(join(folder, `${part}.json.new`));
    await expect(download(newer, file, folder, options)).rejects.toThrow('EISDIR');
    expect(await readdir(folder)).not.toContain(part);
    await rm(join(folder, `${part}.json.new`), { recursive: true });
    const sha256 = createHash('sha256').update('B'.repeat(200)).digest('hex');
    expect(await download(newer, file, folder, options)).toMatchObject({ bytes: 200, validator: 'b', sha256 });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
