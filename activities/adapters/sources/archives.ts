// Reads regular files from untrusted archives within limits, and packs them into a deterministic tar.
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { pipeline } from 'node:stream/promises';
import tar from 'tar-stream';
import type { LeftOut } from '../../../workflows/domain/import.ts';
import { pathProblem } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import type { Archives, FolderEntry } from '../../ports.ts';
import { writeAll } from '../durable-file.ts';
import { zipEntries } from './zip.ts';

export interface ArchiveLimits {
  /** Maximum number of entries of any kind. */
  readonly entries: number;
  /** Maximum size of all unpacked files together. */
  readonly bytes: number;
  /** Maximum compression ratio: unpacked bytes per byte of the archive. */
  readonly ratio: number;
}

/** An entry as both readers return it. Read its bytes before requesting the next entry. */
export interface ArchiveEntry {
  readonly path: string;
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  readonly bytes: () => AsyncIterable<Uint8Array>;
}

/** Zeros compress a thousandfold: the ratio is not checked below this unpacked size. */
const RATIO_FROM = 16 * 2 ** 20;
const EXAMPLES = 100;

/** Reads tar, tar.gz and zip; the format is detected from the bytes, not the name. */
export function createArchives(limits: ArchiveLimits): Archives {
  return {
    async unpack(archive, spool, { stripTop, signal }) {
      const format = await formatOf(archive);
      if (!format) return undefined;
      const packed = (await stat(archive)).size;
      const handle = await open(spool, 'w', 0o600);
      const entries = new Map<string, FolderEntry>();
      const examples: LeftOut['examples'][number][] = [];
      const counts = { entries: 0, bytes: 0, leftOut: 0 };
      const leave = (path: string, why: string): void => {
        counts.leftOut += 1;
        if (examples.length < EXAMPLES) examples.push({ path: path.slice(0, 200), why });
      };
      try {
        for await (const entry of format === 'zip'
          ? zipEntries(archive, signal)
          : tarEntries(archive, format, signal)) {
          counts.entries += 1;
          if (counts.entries > limits.entries) throw bomb(`has more than ${limits.entries} entries`);
          const path = inside(entry.path, stripTop);
          if (entry.kind === 'folder' || path === '') continue;
          if (entry.kind !== 'file') {
            leave(entry.path, entry.kind === 'link' ? 'a link' : 'not a regular file');
            continue;
          }
          const problem = pathProblem(path);
          if (problem) {
            leave(path, problem);
            continue;
          }
          const offset = counts.bytes;
          for await (const chunk of entry.bytes()) {
            signal.throwIfAborted();
            await writeAll(handle, chunk, counts.bytes);
            counts.bytes += chunk.byteLength;
            if (counts.bytes > limits.bytes) throw bomb(`unpacks to more than the limit of ${limits.bytes} bytes`);
            if (counts.bytes > RATIO_FROM && counts.bytes > packed * limits.ratio)
              throw bomb(`unpacks to more than ${limits.ratio} times its size`);
          }
          if (entries.has(path)) throw failure('InvalidInput', `the archive contains ${path} twice`);
          entries.set(path, { path, file: spool, offset, bytes: counts.bytes - offset });
        }
      } catch (error) {
        throw unreadable(error, signal);
      } finally {
        await handle.close();
      }
      return { entries: inOrder([...entries.values()]), leftOut: { count: counts.leftOut, examples } };
    },

    async *pack(given, signal) {
      const pack = tar.pack();
      const fill = async (): Promise<void> => {
        for (const { path, file, offset, bytes, isExecutable } of inOrder(given)) {
          signal.throwIfAborted();
          // Fixed time, mode and no owner: the same files always give the same bytes.
          const mode = isExecutable === true ? 0o755 : 0o644;
          const header = { name: path, size: bytes, mode, mtime: new Date(0), type: 'file' } as const;
          if (bytes === 0) pack.entry(header, '');
          else await pipeline(createReadStream(file, { start: offset, end: offset + bytes - 1 }), pack.entry(header));
        }
        pack.finalize();
      };
      const filled = fill().catch((error: unknown) => pack.destroy(error as Error));
      for await (const chunk of pack) yield chunk as Uint8Array;
      await filled;
    },
  };
}

/** Sorts by code point; throws if one path is both a file and a folder. */
function inOrder(entries: readonly FolderEntry[]): readonly FolderEntry[] {
  const paths = new Set(entries.map(({ path }) => path));
  for (const { path } of entries)
    for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1))
      if (paths.has(path.slice(0, at)))
        throw failure('InvalidInput', `${path.slice(0, at)} is both a file and a folder`);
  return [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The path inside the folder. A path that leaves the folder is treated as an attack: the whole archive is refused. */
function inside(path: string, stripTop: boolean): string {
  const parts = path.replace(/\/+$/, '').split('/');
  while (parts[0] === '.') parts.shift();
  if (/^[/\\]|^[A-Za-z]:[/\\]|\u0000/.test(path) || parts.includes('..') || path.split('\\').includes('..'))
    throw failure('InvalidInput', `the archive has an entry outside its folder: "${printable(path)}"`);
  return parts.slice(stripTop ? 1 : 0).join('/');
}

async function* tarEntries(archive: string, format: 'tar' | 'gzip', signal: AbortSignal): AsyncGenerator<ArchiveEntry> {
  const extract = tar.extract();
  const source = createReadStream(archive);
  // A failure of the source also surfaces in the iteration over the entries.
  const fed = (
    format === 'gzip' ? pipeline(source, createGunzip(), extract, { signal }) : pipeline(source, extract, { signal })
  ).catch((error: unknown) => void extract.destroy(error as Error));
  try {
    for await (const entry of extract) {
      const { name, type, size = 0 } = entry.header;
      if (!Number.isSafeInteger(size) || size < 0) throw new Error('an entry has an invalid size');
      const read = { done: false };
      yield {
        path: name,
        kind: kindOf(type),
        async *bytes() {
          read.done = true;
          for await (const chunk of entry) yield chunk as Uint8Array;
        },
      };
      // An unread entry would block the next one.
      if (!read.done) entry.resume();
    }
    await fed;
  } finally {
    extract.destroy();
    source.destroy();
  }
}

function kindOf(type: string | null | undefined): ArchiveEntry['kind'] {
  if (type === 'file' || type === 'contiguous-file') return 'file';
  if (type === 'directory') return 'folder';
  return type === 'symlink' || type === 'link' ? 'link' : 'other';
}

/** Detects the format from the first bytes: gzip (RFC 1952), zip (local header or empty archive), tar (`ustar` at 257). */
async function formatOf(archive: string): Promise<'tar' | 'gzip' | 'zip' | undefined> {
  const handle = await open(archive);
  try {
    const head = Buffer.alloc(512);
    await handle.read(head, 0, 512, 0);
    if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
    if (/^PK(\x03\x04|\x05\x06)/.test(head.toString('latin1'))) return 'zip';
    return head.toString('latin1', 257, 262) === 'ustar' ? 'tar' : undefined;
  } finally {
    await handle.close();
  }
}

const bomb = (what: string) =>
  failure('InvalidInput', `the archive ${what} and is rejected as a possible archive bomb`);

/** Errors of a reader on a damaged archive become non-retryable; disk errors and our own failures are returned unchanged. */
function unreadable(error: unknown, signal: AbortSignal): unknown {
  signal.throwIfAborted();
  if (typeof error !== 'object' || error === null || 'nonRetryable' in error || 'syscall' in error) return error;
  return failure('InvalidInput', `the archive cannot be unpacked: ${'message' in error ? String(error.message) : ''}`);
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
