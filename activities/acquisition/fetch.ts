// Turns one file, archive or folder of a source into one stored file of the import: download, verify, unpack, write.
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Expected, ImportedFile, LeftOut, RemoteFile } from '../../workflows/domain/import.ts';
import { importFolder } from '../../workflows/domain/import.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import type { DataImportInput } from '../../workflows/messages.ts';
import { failure, isFailure } from '../failures.ts';
import { storePath } from '../place.ts';
import type { Archives, ArtifactStore, FolderEntry, SourceSession } from '../ports.ts';
import { download } from './download.ts';

/** One file to fetch, with its import and limits. */
export interface Fetch {
  readonly input: DataImportInput;
  readonly session: SourceSession;
  readonly file: RemoteFile;
  /** The import's only file: a tar made of it is named after the data set. */
  readonly isOnly: boolean;
  /** Local folder for its partial downloads. */
  readonly parts: string;
  /** Remaining size limit of the import, in bytes. */
  readonly limit: number;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/** Creates the function that fetches one file; a repeated call resumes an interrupted one. */
export function createFetcher({ areas, archives }: { areas: ArtifactStore; archives: Archives }) {
  return (fetch: Fetch): Promise<ImportedFile> => (fetch.file.isFolder ? fetchFolder(fetch) : fetchFile(fetch));

  async function fetchFile(fetch: Fetch): Promise<ImportedFile> {
    const { input, session, file, isOnly, parts, signal } = fetch;
    const given: Expected | null = input.sha256 && { algorithm: 'sha256', digest: input.sha256 };
    const expected = [file.expected, given].filter((one) => one !== null);
    const got = await download(session, file, parts, { ...fetch, expected });
    const { bytes, sha256, validator } = got;
    const origin = { address: file.address, bytes, sha256, validator, checked: given ?? file.expected };
    if (input.unpack) {
      const options = { stripTop: input.source.kind === 'github', signal };
      const unpacked = await archives.unpack(got.path, join(parts, 'spool'), options);
      if (unpacked) return storeFolder(fetch, unpacked, origin);
      if (isOnly)
        throw failure('InvalidInput', `${file.name} is not a tar, tar.gz or zip archive: import it without unpacking`);
    }
    try {
      const stored = await areas.write(targetOf(input, file.name), bytesOf(got.path), {
        expect: { sha256, bytes },
        signal,
      });
      return { ...stored, name: file.name, unpack: false, origin, entries: null, leftOut: nothing };
    } catch (error) {
      if (!isFailure(error, 'DigestMismatch')) throw error;
      // The local part changed after it was completed.
      await rm(parts, { recursive: true, force: true });
      throw new Error(`the local copy of ${file.name} was damaged; will be fetched again`, { cause: error });
    }
  }

  async function fetchFolder(fetch: Fetch): Promise<ImportedFile> {
    const { session, file, parts, limit } = fetch;
    const { files, leftOut } = await session.list(file);
    const entries: FolderEntry[] = [];
    let bytes = 0;
    for (const one of files) {
      const got = await download(session, one, parts, { ...fetch, expected: [], limit: limit - bytes });
      bytes += got.bytes;
      entries.push({ path: one.name, file: got.path, offset: 0, bytes: got.bytes });
    }
    const origin = { address: file.address, bytes, sha256: null, validator: null, checked: null };
    return storeFolder(fetch, { entries, leftOut }, origin);
  }

  async function storeFolder(
    { input, file, isOnly, signal }: Fetch,
    { entries, leftOut }: { entries: readonly FolderEntry[]; leftOut: LeftOut },
    origin: ImportedFile['origin'],
  ): Promise<ImportedFile> {
    if (entries.length === 0)
      throw failure('InvalidInput', `${file.name} contains no importable file (${leftOut.count} skipped)`);
    // The full file name, because one release may have both x.zip and x.tar.gz.
    const name = `${isOnly ? input.dataset : file.name}.tar`;
    const stored = await areas.write(targetOf(input, name), archives.pack(entries, signal), { signal });
    return { ...stored, name, unpack: true, origin, entries: entries.length, leftOut };
  }
}

/** Opens the file only when it is read: a store that refuses before it reads would leave a stream open. */
async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path) as AsyncIterable<Buffer>;
}

const nothing: LeftOut = { count: 0, examples: [] };

const targetOf = (input: DataImportInput, name: string): StorePath =>
  storePath({ area: 'common', project: input.project, path: `${importFolder(input)}/files/${name}` });
