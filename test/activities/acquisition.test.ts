// What an import registers: the resolution of its source is read from the record, except for imports older than that record.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createAcquisitionActivities } from '../../activities/acquisition.ts';
import { isFailure } from '../../activities/failures.ts';
import type { Import, Resolution } from '../../workflows/domain/import.ts';
import { newImport } from '../../workflows/domain/import.ts';
import { inActivity } from './activity.ts';

type Deps = Parameters<typeof createAcquisitionActivities>[0];

const input = {
  ...{ project: 'p', import: 'i', dataset: 'd', unpack: false, sha256: null, actor: 'mia' },
  source: { kind: 'https', url: 'https://data.example.org/rows' } as const,
};
const address = input.source.url;
const resolution: Resolution = {
  ...{ revision: null, licence: null, notes: [] },
  files: [{ name: 'rows', address, bytes: null, expected: null, isFolder: false }],
};
const sha256 = 'a'.repeat(64);
const stored = {
  ...{ name: 'rows', uri: 'local:areas/rows', sha256, bytes: 1, unpack: false, entries: null },
  origin: { address, bytes: 1, sha256, validator: null, checked: null },
  leftOut: { count: 0, examples: [] },
};

/** Registers an import with recorded files but without a recorded resolution. */
async function register(
  broughtOver: boolean,
): Promise<{ readonly registered: readonly string[]; readonly end: unknown }> {
  const root = await mkdtemp(join(tmpdir(), 'ocdl-acquisition-'));
  const registered: string[] = [];
  const records = {
    import: async () => ({ ...newImport(input, 'fetching', ''), files: [stored] }) as unknown as Import,
    // The activity's header proves the input; this is what remains of it.
    start: async () => ({ earlier: false, broughtOver }),
    registerDataSet: async ({ dataset }: { dataset: string }) => void registered.push(dataset),
    recordImport: async () => undefined,
  };
  const areas = await createLocalDisk({ root, name: 'areas' });
  const importing = createAcquisitionActivities({
    ...({ records, areas } as unknown as Deps),
    scratch: join(root, 'imports'),
  });
  const work = () => importing.registerImport({ ...input, resolution, importedAt: '2026-11-28T00:00:00.000Z' });
  const end: unknown = await inActivity(work, { workflowId: 'import/p/i' }).catch((error: unknown) => error);
  await rm(root, { recursive: true });
  return { registered, end };
}

it('registers an import that was fetched before resolutions were recorded with the resolution in its input', async () => {
  const { registered, end } = await register(true);
  expect(end).toMatchObject({ state: 'done', files: [{ name: 'rows' }] });
  expect(registered).toEqual(['d']);
});

it('does not trust the resolution in the input of any other import', async () => {
  const { registered, end } = await register(false);
  expect(isFailure(end, 'NotAuthorized')).toBe(true);
  expect(registered).toEqual([]);
});
