// Fetching a file of an import: a store that refuses it leaves no open file.
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { createFetcher } from '../../activities/acquisition/fetch.ts';
import { SystemUnavailable } from '../../activities/failures.ts';
import type { Archives, ArtifactStore, SourceSession } from '../../activities/ports.ts';
import type { RemoteFile } from '../../workflows/domain/import.ts';
import type { DataImportInput } from '../../workflows/messages.ts';
import { until } from '../workflows/until.ts';

/** The files below a folder that this process has open. */
async function openBelow(folder: string): Promise<readonly string[]> {
  const open = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
  return (await Promise.all(open)).filter((path) => path.startsWith(folder));
}

it('closes the downloaded file each time a store is unavailable', async () => {
  const parts = await mkdtemp(join(tmpdir(), 'ocdl-fetch-'));
  try {
    const bytes = async function* () {
      yield Buffer.from('rows');
    };
    const file: RemoteFile = { name: 'rows.csv', address: 'a', bytes: 4, expected: null, isFolder: false };
    const open = async () => ({ start: 0, total: 4, validator: null, bytes: bytes() });
    const refused = new SystemUnavailable({ system: 'areas', reason: 'down', message: 'down' });
    const areas = { write: () => Promise.reject(refused) };
    const fetch = createFetcher({ areas: areas as unknown as ArtifactStore, archives: {} as Archives });
    const source = { kind: 'https', url: 'https://example.org/rows.csv' } as const;
    const input: DataImportInput = {
      ...{ project: 'p', import: 'i', dataset: 'd', source, unpack: false, actor: 'sam', sha256: null },
    };
    for (let attempt = 1; attempt <= 3; attempt += 1)
      await expect(
        fetch({
          ...{ input, file, isOnly: true, parts, limit: 10, session: { open } as unknown as SourceSession },
          ...{ signal: new AbortController().signal, onBytes: () => undefined },
        }),
      ).rejects.toBe(refused);
    // A stream opens its file a moment later.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await until('the files to be closed', async () => (await openBelow(parts)).length === 0);
  } finally {
    await rm(parts, { recursive: true, force: true });
  }
});
