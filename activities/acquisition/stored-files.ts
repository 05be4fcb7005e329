// The files that an import stores before it is registered, and its partial downloads: kept while it runs, deleted when it has failed.
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ImportedFile } from '../../workflows/domain/import.ts';
import { importFolder } from '../../workflows/domain/import.ts';
import type { DataImportInput } from '../../workflows/messages.ts';
import { storePath } from '../place.ts';
import type { ArtifactStore } from '../ports.ts';
import type { Records } from '../records.ts';

/** Longer than an import can take (workflows/activities.ts), so an older folder belongs to no running import. */
const STALE_MS = 2 * 86_400_000;

/** The stored files and partial downloads of imports; `scratch` is the folder of the downloads. */
export function openStoredFiles(deps: { records: Records; areas: ArtifactStore; scratch: string }) {
  const { records, areas, scratch } = deps;
  const partsOf = (input: DataImportInput): string => join(scratch, `${input.project}.${input.import}`);
  return { partsOf, clear, unlessOver, stillThere };

  /** Deletes the stored files of an import, unless they are a registered data set; returns whether they are. */
  async function clear(input: DataImportInput): Promise<boolean> {
    await rm(partsOf(input), { recursive: true, force: true });
    if (await ownsDataSet(input)) return true;
    for (let files = await stored(input); files.length > 0; files = await stored(input))
      for (const { uri } of files) await areas.remove(uri);
    return false;
  }

  /** If fetching fails after the import was ended (its run was terminated), deletes the files that it stored since then. */
  async function unlessOver<R>(input: DataImportInput, fetching: Promise<R>): Promise<R> {
    try {
      return await fetching;
    } catch (error) {
      const state = (await records.import(input.project, input.import))?.state;
      if (state === 'failed' || state === 'cancelled') await clear(input);
      throw error;
    }
  }

  /** Whether the data set consists of this import's files. */
  async function ownsDataSet(input: DataImportInput): Promise<boolean> {
    const files = (await records.dataSet(input.project, input.dataset))?.files ?? [];
    return (await stored(input)).some(({ uri }) => files.some((file) => file.uri === uri));
  }

  async function stored(input: DataImportInput) {
    const { files } = await areas.list(
      storePath({ area: 'common', project: input.project, path: importFolder(input) }),
    );
    return files;
  }

  /** The stored file, if its bytes are unchanged. */
  async function stillThere(file: ImportedFile | undefined): Promise<ImportedFile | undefined> {
    if (!file) return undefined;
    const found = await areas.stat(file.uri);
    return found?.bytes === file.bytes && (await areas.digest(file.uri)) === file.sha256 ? file : undefined;
  }
}

/** Removes partial downloads of imports that ended while no worker ran on this machine. */
export async function sweep(scratch: string): Promise<void> {
  await mkdir(scratch, { recursive: true, mode: 0o700 });
  for (const name of await readdir(scratch)) {
    const path = join(scratch, name);
    const found = await stat(path).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > STALE_MS) await rm(path, { recursive: true, force: true });
  }
}
