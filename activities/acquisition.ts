// Data acquisition (paper 4.2, Rover's middleware): imports data from public repositories and private nodes as a data set with a data sheet.
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ApplicationFailure } from '@temporalio/common';
import type { DataSheet, Import, ImportedFile, ImportState, Resolution } from '../workflows/domain/import.ts';
import { importFolder, newImport } from '../workflows/domain/import.ts';
import type { DataImportInput } from '../workflows/messages.ts';
import { sheetText } from './acquisition/data-sheet.ts';
import { createFetcher } from './acquisition/fetch.ts';
import { openStoredFiles, sweep } from './acquisition/stored-files.ts';
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
  /** Folder for partial downloads. They outlive the process, so that a restarted worker can resume them. */
  readonly scratch: string;
  /** Size limit of one import, in bytes. */
  readonly importBytes: number;
}

/** How often the import's progress is written to the record. */
const REPORT_EVERY_MS = 2_000;
export function createAcquisitionActivities(deps: AcquisitionDeps) {
  const { records, areas, sources, archives, scratch, importBytes } = deps;
  const fetchFile = createFetcher({ areas, archives });
  const { partsOf, clear, unlessOver, stillThere } = openStoredFiles(deps);

  /** Runs `work` with a session to the source. Retryable failures are noted in the record; `TryLater` sets the delay of the next attempt. */
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

  /**
   * Records the progress. Its time is never before the preceding row's, which a worker with a different clock may have
   * written.
   */
  const tell = (row: Import): Promise<void> => {
    const now = new Date().toISOString();
    return records.recordImport({ ...row, updatedAt: row.updatedAt > now ? row.updatedAt : now }, null);
  };

  return {
    /** Resolves the source once, to a fixed commit, list of assets or file. All later steps use this resolution. */
    async resolveSource(input: DataImportInput): Promise<Resolution> {
      await mustBeAsRecorded(input);
      if (await records.dataSet(input.project, input.dataset))
        throw failure(
          'Conflict',
          `data set ${input.dataset} already exists and data sets are immutable: choose another name`,
        );
      return withSource(rowOf(input, 'resolving'), async (session) => {
        const resolution = await session.resolve();
        if (input.sha256 !== null && (resolution.files.length !== 1 || resolution.files[0]?.isFolder))
          throw failure(
            'InvalidInput',
            `a SHA-256 digest was given, but it applies to one file only and the source has ${resolution.files.length} files or a folder: import without the digest`,
          );
        const known = (await records.import(input.project, input.import)) ?? rowOf(input, 'resolving');
        await tell({ ...known, resolution });
        return resolution;
      });
    },

    /** Fetches, checks and stores every file that is not stored yet; resumes an interrupted attempt. */
    async acquireData(input: DataImportInput & { resolution: Resolution }): Promise<readonly ImportedFile[]> {
      await sweep(scratch);
      const resolution = await resolutionOf(input);
      const before = (await records.import(input.project, input.import)) ?? rowOf(input, 'fetching');
      const row = { ...before, state: 'fetching' as const };
      return unlessOver(
        input,
        withSource(row, async (session, signal, report) => {
          const state = { files: [] as ImportedFile[], bytes: 0, reportedAt: 0 };
          const progress = async (isDue: boolean, detail: string): Promise<void> => {
            if (!isDue && Date.now() - state.reportedAt < REPORT_EVERY_MS) return;
            state.reportedAt = Date.now();
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
              // A failed progress update is not reported: the next update includes it.
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

    /** Writes the data sheet next to the files and registers them as a data set, which makes them visible. */
    async registerImport(input: DataImportInput & { resolution: Resolution; importedAt: string }): Promise<Import> {
      const { project, dataset, importedAt, actor } = input;
      await mustBeAsRecorded(input);
      const resolution = await resolutionOf(input);
      // Uses the files that acquireData recorded, not files that the caller names.
      const recorded = (await records.import(project, input.import))?.files ?? [];
      const files = resolution.files.map(({ address, name }) => {
        const found = recorded.find(({ origin }) => origin.address === address);
        if (!found)
          throw failure(
            'Corrupt',
            `import ${input.import} has no record of the fetched file ${name}: start the import again`,
          );
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

    /** Removes the stored files of a failed or cancelled import and records its end. */
    async abandonImport(input: DataImportInput & { state: 'failed' | 'cancelled'; detail: string }): Promise<Import> {
      const { state, detail } = input;
      return beating(async () => {
        const found = await records.import(input.project, input.import);
        // The registration succeeded and only its response was lost: a registered data set is kept.
        if (found?.state === 'done') return found;
        const isRegistered = await clear(input);
        const row: Import = {
          ...rowOf(input, state),
          detail: isRegistered ? `data set ${input.dataset} was registered and is kept; afterwards: ${detail}` : detail,
          bytes: found?.bytes ?? 0,
        };
        await records.recordImport(row, entry(input, `import.${state}`, {}, { reason: detail }));
        // A worker that did not know yet may have stored files meanwhile.
        await clear(input);
        return row;
      });
    },
  };

  /** A data set is made for the recorded request: a workflow whose input differs from it imports nothing. */
  async function mustBeAsRecorded(input: DataImportInput): Promise<void> {
    const row = await records.import(input.project, input.import);
    if (
      row &&
      !(row.dataset === input.dataset && row.actor === input.actor && isDeepStrictEqual(row.source, input.source))
    )
      throw failure('NotAuthorized', `import ${input.import} was requested for another source, data set or person`);
  }

  /** The recorded resolution. Imports that started before resolutions were recorded carry it in their input. */
  async function resolutionOf(input: DataImportInput & { resolution: Resolution }): Promise<Resolution> {
    const known = (await records.import(input.project, input.import))?.resolution;
    if (known) return known;
    if ((await records.start(currentWorkflow()))?.broughtOver) return input.resolution;
    throw failure(
      'NotAuthorized',
      `import ${input.import} has no recorded resolution, so there is nothing to fetch: start the import again`,
    );
  }
}

const rowOf = (input: DataImportInput, state: ImportState): Import => newImport(input, state, new Date().toISOString());

/** The file as the data set records it; the tar of a folder is unpacked for jobs. */
const datasetFile = ({ name, uri, sha256, bytes, unpack }: ImportedFile) => ({
  ...{ name, uri, sha256, bytes },
  ...(unpack && { unpack }),
});

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
