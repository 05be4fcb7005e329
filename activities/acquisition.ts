// Data acquisition (paper 4.2, Rover's middleware): data from public repositories and private nodes becomes a data set with its data sheet.
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ApplicationFailure } from '@temporalio/common';
import type { DataSheet, Import, ImportedFile, ImportState, Resolution } from '../workflows/domain/import.ts';
import { importFolder, newImport } from '../workflows/domain/import.ts';
import type { DataImportInput } from '../workflows/messages.ts';
import { sheetText } from './acquisition/data-sheet.ts';
import { createFetcher } from './acquisition/fetch.ts';
import { failure, messageOf } from './failures.ts';
import { beating, currentWorkflow } from './heartbeat.ts';
import { once } from './model-center.ts';
import { storePath } from './place.ts';
import type { Archives, ArtifactStore, DataSources, SourceSession } from './ports.ts';
import { TryLater } from './ports.ts';
import type { AuditEntry, Records } from './records.ts';

export type AcquisitionActivities = ReturnType<typeof createAcquisitionActivities>;

export interface AcquisitionDeps {
  readonly records: Records;
  readonly areas: ArtifactStore;
  readonly sources: DataSources;
  readonly archives: Archives;
  /** Folder for parts of downloads. They outlive the process, so that its successor goes on with them. */
  readonly scratch: string;
  /** Largest number of bytes that one import may fetch. */
  readonly importBytes: number;
}

/** How often the record learns how far an import is. */
const TELL_EVERY_MS = 2_000;
/** Longer than an import may take (workflows/activities.ts): what is older belongs to none. */
const STALE_MS = 2 * 86_400_000;

export function createAcquisitionActivities(deps: AcquisitionDeps) {
  const { records, areas, sources, archives, scratch, importBytes } = deps;
  const fetchFile = createFetcher({ areas, archives });
  const partsOf = (input: DataImportInput): string => join(scratch, `${input.project}.${input.import}`);

  /** Works with the source; what it asks to be put off is put off, and the record says until when. */
  async function withSource<R>(
    row: Import,
    work: (session: SourceSession, signal: AbortSignal, report: (progress: unknown) => void) => Promise<R>,
  ): Promise<R> {
    return beating(async (signal, report) => {
      let session: SourceSession | undefined;
      try {
        session = await sources.connect(row.source, {
          project: row.project,
          nodes: await records.nodes(row.project),
          signal,
        });
        return await work(session, signal, report);
      } catch (error) {
        signal.throwIfAborted();
        const known = (await records.import(row.project, row.import)) ?? row;
        if (!(error instanceof ApplicationFailure && error.nonRetryable))
          await tell({ ...known, state: row.state, detail: `waits: ${messageOf(error)}` });
        if (!(error instanceof TryLater)) throw error;
        const nextRetryDelay = Math.max(1_000, Date.parse(error.until) - Date.now());
        throw ApplicationFailure.create({ type: 'TryLater', message: error.message, nextRetryDelay, cause: error });
      } finally {
        await session?.close();
      }
    });
  }

  /** Records how far it is: not earlier than the row that this one follows, which a worker with another clock may have written. */
  const tell = (row: Import): Promise<void> => {
    const now = new Date().toISOString();
    return records.recordImport({ ...row, updatedAt: row.updatedAt > now ? row.updatedAt : now }, null);
  };

  return {
    /** Finds out what the source means, once: from then on it is this commit, these assets, this file. */
    async resolveSource(input: DataImportInput): Promise<Resolution> {
      if (await records.dataSet(input.project, input.dataset))
        throw failure('Conflict', `data set ${input.dataset} exists: data sets do not change, give it a new name`);
      return withSource(rowOf(input, 'resolving'), async (session) => {
        const resolution = await session.resolve();
        if (input.sha256 !== null && (resolution.files.length !== 1 || resolution.files[0]?.isFolder))
          throw failure(
            'InvalidInput',
            `a digest was given, but the source is ${resolution.files.length} files, or a folder`,
          );
        const known = (await records.import(input.project, input.import)) ?? rowOf(input, 'resolving');
        await tell({ ...known, resolution });
        return resolution;
      });
    },

    /** Fetches, checks and stores every file that is not there yet; goes on where an earlier attempt was interrupted. */
    async acquireData(input: DataImportInput & { resolution: Resolution }): Promise<readonly ImportedFile[]> {
      await sweep(scratch);
      const resolution = await resolutionOf(input);
      const before = (await records.import(input.project, input.import)) ?? rowOf(input, 'fetching');
      const row = { ...before, state: 'fetching' as const };
      return unlessOver(
        input,
        withSource(row, async (session, signal, report) => {
          const state = { files: [] as ImportedFile[], bytes: 0, told: 0 };
          const progress = async (isDue: boolean, detail: string): Promise<void> => {
            if (!isDue && Date.now() - state.told < TELL_EVERY_MS) return;
            state.told = Date.now();
            report({ bytes: state.bytes, files: state.files.length, detail });
            const known = row.files.filter(
              ({ origin }) => !state.files.some((one) => one.origin.address === origin.address),
            );
            await tell({ ...row, files: [...state.files, ...known], bytes: state.bytes, detail });
          };
          const { files } = resolution;
          for (const file of files) {
            signal.throwIfAborted();
            const onBytes = (bytes: number): void => {
              state.bytes += bytes;
              // News that cannot be written now comes with the next.
              progress(false, `fetching ${file.name}`).catch(() => undefined);
            };
            const parts = join(partsOf(input), createHash('sha256').update(file.address).digest('hex').slice(0, 32));
            const stored = await stillThere(row.files.find(({ origin }) => origin.address === file.address));
            if (stored) onBytes(stored.origin.bytes);
            const limit = importBytes - state.bytes;
            const fetch = { input, session, file, isOnly: files.length === 1, parts, limit, signal, onBytes };
            state.files.push(stored ?? (await fetchFile(fetch)));
            await progress(true, `stored ${state.files.length} of ${files.length}`);
            await rm(parts, { recursive: true, force: true });
          }
          return state.files;
        }),
      );
    },

    /** Lays the data sheet beside the files and registers them as a data set: from here on they are there. */
    async registerImport(input: DataImportInput & { resolution: Resolution; importedAt: string }): Promise<Import> {
      const { project, dataset, importedAt, actor } = input;
      const resolution = await resolutionOf(input);
      // What was fetched is what the activity that fetched it has recorded.
      const recorded = (await records.import(project, input.import))?.files ?? [];
      const files = resolution.files.map(({ address, name }) => {
        const found = recorded.find(({ origin }) => origin.address === address);
        if (!found) throw failure('Corrupt', `${name} of import ${input.import} was not recorded when it was fetched`);
        return found;
      });
      const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
      const described = files.map(({ uri: _, ...file }) => file);
      const { revision, licence, notes } = resolution;
      const sheet: DataSheet = {
        ...{ v: 1, project, dataset, import: input.import, source: input.source, revision, licence },
        ...{ importedBy: actor, importedAt, bytes, files: described, notes },
      };
      const put = (name: string, text: string) =>
        areas.write(
          storePath({ area: 'common', project, path: `${importFolder(input)}/datasheet.${name}` }),
          once(Buffer.from(text, 'utf8')),
        );
      const stored = { ...(await put('json', JSON.stringify(sheet, null, 1))), name: 'datasheet.json' };
      const text = { ...(await put('md', sheetText(sheet))), name: 'datasheet.md' };
      await records.registerDataSet(
        {
          ...{ project, dataset, kind: 'training', registeredBy: actor, registeredAt: importedAt },
          files: files.map(datasetFile),
        },
        entry(
          input,
          'dataset.registered',
          { kind: 'training', files: files.map(({ name, sha256, bytes: size }) => ({ name, sha256, bytes: size })) },
          { subject: `${project}/datasets/${dataset}` },
        ),
      );
      const before = await records.import(project, input.import);
      const row: Import = {
        ...rowOf(input, 'done'),
        ...{
          files,
          sheet: stored,
          sheetText: text,
          bytes: before?.bytes ?? bytes,
          detail: `data set ${dataset}`,
          updatedAt: importedAt,
        },
      };
      await records.recordImport(row, entry(input, 'import.done', { dataset, sheet: stored.sha256 }));
      await rm(partsOf(input), { recursive: true, force: true });
      return row;
    },

    /** Takes away what was stored of an import that failed or was cancelled, and says so in the record. */
    async abandonImport(input: DataImportInput & { state: 'failed' | 'cancelled'; detail: string }): Promise<Import> {
      const { state, detail } = input;
      return beating(async () => {
        const found = await records.import(input.project, input.import);
        // Registered after all, and only its answer was lost: what is a data set stays.
        if (found?.state === 'done') return found;
        const isRegistered = await clear(input);
        const row: Import = {
          ...rowOf(input, state),
          detail: isRegistered ? `data set ${input.dataset} is there and stays; then: ${detail}` : detail,
          bytes: found?.bytes ?? 0,
        };
        await records.recordImport(row, entry(input, `import.${state}`, {}, { reason: detail }));
        // A worker that had not heard of it yet may have stored something meanwhile.
        await clear(input);
        return row;
      });
    },
  };

  /** What the source meant when it was resolved. An import of before it was recorded brings it along. */
  async function resolutionOf(input: DataImportInput & { resolution: Resolution }): Promise<Resolution> {
    const known = (await records.import(input.project, input.import))?.resolution;
    if (known) return known;
    if ((await records.start(currentWorkflow()))?.broughtOver) return input.resolution;
    throw failure('NotAuthorized', `import ${input.import} was not resolved: there is nothing to fetch`);
  }

  /** Deletes what is stored of an import, unless it is a data set by now: returns whether it is. */
  async function clear(input: DataImportInput): Promise<boolean> {
    await rm(partsOf(input), { recursive: true, force: true });
    if (await ownsDataSet(input)) return true;
    for (let files = await stored(input); files.length > 0; files = await stored(input))
      for (const { uri } of files) await areas.remove(uri);
    return false;
  }

  /** Fetching that fails after the import has ended elsewhere (its run was terminated) deletes what it has stored since. */
  async function unlessOver<R>(input: DataImportInput, fetching: Promise<R>): Promise<R> {
    try {
      return await fetching;
    } catch (error) {
      const state = (await records.import(input.project, input.import))?.state;
      if (state === 'failed' || state === 'cancelled') await clear(input);
      throw error;
    }
  }

  /** Is the data set made of this import's files? */
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

  /** The stored file, if it still holds the very bytes. */
  async function stillThere(file: ImportedFile | undefined): Promise<ImportedFile | undefined> {
    if (!file) return undefined;
    const found = await areas.stat(file.uri);
    return found?.bytes === file.bytes && (await areas.digest(file.uri)) === file.sha256 ? file : undefined;
  }
}

const rowOf = (input: DataImportInput, state: ImportState): Import => newImport(input, state, new Date().toISOString());

/** A file as the data set has it; a folder's tar is laid out for jobs. */
const datasetFile = ({ name, uri, sha256, bytes, unpack }: ImportedFile) => ({
  ...{ name, uri, sha256, bytes },
  ...(unpack && { unpack }),
});

/** Frees the disk of parts whose import was given up while this machine was away. */
async function sweep(scratch: string): Promise<void> {
  await mkdir(scratch, { recursive: true, mode: 0o700 });
  for (const name of await readdir(scratch)) {
    const path = join(scratch, name);
    const found = await stat(path).catch(() => undefined);
    if (found && Date.now() - found.mtimeMs > STALE_MS) await rm(path, { recursive: true, force: true });
  }
}

function entry(
  { project, import: id, actor }: DataImportInput,
  kind: string,
  detail: AuditEntry['detail'],
  more: Partial<AuditEntry> = {},
): AuditEntry {
  return {
    ...{ key: `${currentWorkflow()}/${kind}`, project, kind, actor, subject: `${project}/imports/${id}` },
    ...{ digest: null, report: null, reason: '', detail, at: new Date().toISOString(), ...more },
  };
}
