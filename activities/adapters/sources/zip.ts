// Iterates over the entries of a zip archive, in the order of its central directory.
import type { Readable } from 'node:stream';
import type { Entry, ZipFile } from 'yauzl';
import yauzl from 'yauzl';
import { failure } from '../../failures.ts';
import type { ArchiveEntry } from './archives.ts';

/** The Unix mode in `externalFileAttributes`, and its file types. */
const UNIX = 3;
const KIND = 0o170000;
const [LINK, FILE, FOLDER] = [0o120000, 0o100000, 0o040000];

/** The entries in the order of the central directory. The library itself also refuses names that leave the folder. */
export async function* zipEntries(path: string, signal: AbortSignal): AsyncGenerator<ArchiveEntry> {
  const zip = await new Promise<ZipFile>((done, fail) => {
    yauzl.open(path, { lazyEntries: true, autoClose: false, strictFileNames: false }, (error, opened) =>
      error ? fail(error) : done(opened),
    );
  });
  try {
    for (let entry = await next(zip); entry; entry = await next(zip)) {
      signal.throwIfAborted();
      const found = entry;
      if (found.isEncrypted())
        throw failure(
          'InvalidInput',
          `the archive entry "${found.fileName.slice(0, 100)}" is encrypted: import an archive without a password`,
        );
      yield { path: found.fileName, kind: kindOf(found), bytes: () => read(zip, found) };
    }
  } finally {
    zip.close();
  }
}

function next(zip: ZipFile): Promise<Entry | undefined> {
  return new Promise((done, fail) => {
    const settle = (act: () => void): void => {
      zip.removeAllListeners('entry').removeAllListeners('end').removeAllListeners('error');
      act();
    };
    zip.once('entry', (entry: Entry) => settle(() => done(entry)));
    zip.once('end', () => settle(() => done(undefined)));
    zip.once('error', (error: Error) => settle(() => fail(nameError(error))));
    zip.readEntry();
  });
}

async function* read(zip: ZipFile, entry: Entry): AsyncGenerator<Uint8Array> {
  const stream = await new Promise<Readable>((done, fail) => {
    zip.openReadStream(entry, (error, opened) => (error ? fail(error) : done(opened)));
  });
  for await (const chunk of stream as AsyncIterable<Buffer>) yield chunk;
}

function kindOf({ fileName, versionMadeBy, externalFileAttributes }: Entry): ArchiveEntry['kind'] {
  if (fileName.endsWith('/')) return 'folder';
  if (versionMadeBy >> 8 !== UNIX) return 'file';
  const kind = (externalFileAttributes >>> 16) & KIND;
  if (kind === LINK) return 'link';
  // Some writers leave the file type empty.
  return kind === FILE || kind === 0 ? 'file' : kind === FOLDER ? 'folder' : 'other';
}

function nameError(error: Error): Error {
  return /^(absolute path|invalid relative path|invalid characters in fileName)/.test(error.message)
    ? failure('InvalidInput', `the archive has an entry outside its folder: ${error.message.slice(0, 200)}`)
    : error;
}
