// Stores with one fault each, made around a good one.
import { setTimeout as sleep } from 'node:timers/promises';
import { failure } from '../../../activities/failures.ts';
import type { ArtifactStore, WriteOptions } from '../../../activities/ports.ts';
import { pathProblem, type StorePath } from '../../../workflows/domain/names.ts';
import type { StoreSubject } from '../artifact-store.ts';
import { collect, type Fault } from '../cases.ts';

type Bytes = AsyncIterable<Uint8Array>;

const fault = (
  name: string,
  caughtBy: string,
  change: (good: ArtifactStore) => Partial<ArtifactStore>,
  failsWith?: RegExp,
): Fault<StoreSubject> => ({
  name,
  caughtBy,
  ...(failsWith && { failsWith }),
  wrap: ({ store, close }) => ({ store: { ...store, ...change(store) }, close }),
});

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
async function* stale(source: Bytes, visible: (bytes: Uint8Array) => Promise<unknown>): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    await visible(chunk);
    yield chunk;
  }
}
/** Checks the signal only while reading the source. */
async function* deafBetween(source: Bytes, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  for (;;) {
    const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      chunks.next().then(resolve, reject);
    });
    if (next.done) return;
    yield next.value;
  }
}
const without = (options: WriteOptions | undefined, ...keys: (keyof WriteOptions)[]): WriteOptions =>
  Object.fromEntries(Object.entries(options ?? {}).filter(([key]) => !keys.some((one) => one === key)));

export const storeFaults: readonly Fault<StoreSubject>[] = [
  fault(
    'drops the end of a file without a word',
    'returns what was written, of any size, with its digest and length',
    (good) => ({
      async write(path, source, options) {
        const bytes = await collect(source);
        const kept = bytes.subarray(0, Math.min(bytes.byteLength, 1_000_000));
        const stored = await good.write(path, only(kept), options);
        return { ...stored, bytes: bytes.byteLength };
      },
    }),
  ),
  fault(
    'opens the addresses of other stores',
    'has one address per path and refuses addresses of other stores',
    (good) => ({
      path: (uri) => uri.slice(uri.indexOf('/') + 1) as StorePath,
      read: (uri, options) => good.read(uri, options),
    }),
  ),
  fault('cleans unlawful paths instead of refusing them', 'refuses invalid paths', (good) => ({
    write: (path, source, options) => {
      const clean =
        path
          .split('/')
          .filter((segment) => pathProblem(segment) === undefined)
          .join('/') || 'x';
      return good.write(clean as StorePath, source, { ...options, ifExists: 'replace' });
    },
  })),
  fault(
    'takes only the paths that fit in an area without its owners',
    'accepts the longest and deepest path that an area allows',
    (good) => ({
      write: async (path, source, options) => {
        const problem = pathProblem(path);
        if (problem) throw failure('InvalidInput', `planted: ${problem}`);
        return good.write(path, source, options);
      },
    }),
  ),
  fault('takes folders for files', 'finds the file at a path, or reports that there is none', (good) => ({
    stat: async (uri) => {
      const [first] = (await good.list(good.path(uri), { limit: 1 })).files;
      return (await good.stat(uri)) ?? (first && { ...first, uri, path: good.path(uri) });
    },
  })),
  fault('fails to remove what is missing', 'removes a file; removing a missing file succeeds', (good) => ({
    remove: async (uri) => {
      if (!(await good.stat(uri))) throw failure('NotFound', 'planted');
      await good.remove(uri);
    },
  })),
  ...(['same', 'replace'] as const).map((mode) =>
    fault(
      `leaves half a file where the source broke off (${mode})`,
      mode === 'same' ? 'stores nothing if the source fails' : 'keeps the previous bytes if a replacement fails',
      (good) => ({
        async write(path, source, options) {
          let broken: unknown;
          async function* half(): AsyncGenerator<Uint8Array> {
            try {
              yield* source;
            } catch (error) {
              broken = error;
            }
          }
          const stored = await good.write(
            path,
            half(),
            (options?.ifExists ?? 'same') === mode ? options : without(options, 'expect'),
          );
          if (broken) throw broken as Error;
          return stored;
        },
      }),
    ),
  ),
  ...(['sha256', 'bytes'] as const).map((key) =>
    fault(
      `does not look at the expected ${key}`,
      'refuses bytes that do not match the expected digest, and stores nothing',
      (good) => ({
        write: (path, source, options) => {
          const expect = Object.fromEntries(Object.entries(options?.expect ?? {}).filter(([one]) => one !== key));
          return good.write(path, source, { ...options, expect });
        },
      }),
    ),
  ),
  fault(
    'takes one byte more than the limit',
    'accepts no more than the limit, even from an endless source',
    (good) => ({
      write: (path, source, options) =>
        good.write(path, source, { ...options, ...(options?.limit && { limit: options.limit + 1 }) }),
    }),
  ),
  fault(
    'does not listen to the signal of a write',
    'ends a write when the signal is aborted, even while the source hangs',
    (good) => ({
      write: (path, source, options) => good.write(path, source, without(options, 'signal')),
    }),
  ),
  fault(
    'does not hear a signal while it is at work on a chunk',
    'ends a write when the signal is aborted at any point between two chunks',
    (good) => ({
      write: (path, source, options) =>
        good.write(path, deafBetween(source, options?.signal), without(options, 'signal')),
    }),
  ),
  fault('shows what is being written', 'does not show a file while it is being written', (good) => ({
    write: (path, source, options) =>
      good.write(
        path,
        stale(source, (chunk) => good.write(path, only(chunk), { ifExists: 'replace' })),
        {
          ...options,
          ifExists: 'replace',
        },
      ),
  })),
  fault(
    'overwrites a taken path',
    'accepts the same bytes again, and refuses different bytes at the same path',
    (good) => ({
      write: (path, source, options) => good.write(path, source, { ...options, ifExists: 'replace' }),
    }),
  ),
  fault(
    'looks before it writes, and then overwrites',
    'lets one of many concurrent writers succeed; the others get an error',
    (good) => ({
      write: async (path, source, options) => {
        if (await good.stat(good.uri(path))) return good.write(path, source, options);
        return good.write(path, source, { ...options, ifExists: 'replace' });
      },
    }),
  ),
  fault('takes every second writer for a conflict', 'lets concurrent writers of the same bytes all succeed', (good) => {
    const taken = new Set<string>();
    return {
      write: async (path, source, options) => {
        if (taken.has(path)) throw failure('Conflict', 'planted');
        taken.add(path);
        return good.write(path, source, options);
      },
    };
  }),
  fault(
    'replaces by removing first',
    'replaces atomically: a reader sees the old bytes or the new ones',
    (good) => ({
      write: async (path, source, options) => {
        if (options?.ifExists === 'replace') await good.remove(good.uri(path));
        await sleep(50);
        return good.write(path, source, options);
      },
    }),
    /no file/,
  ),
  fault('takes the end of a range as inclusive', 'reads ranges, truncated at the end of the file', (good) => ({
    read: (uri, { range, ...options } = {}) =>
      good.read(uri, {
        ...options,
        ...(range && { range: { start: range.start, ...(range.end !== undefined && { end: range.end + 1 }) } }),
      }),
  })),
  fault(
    'does not listen to the signal of a read',
    'ends a read when the signal is aborted or the reader stops',
    (good) => ({
      read: (uri, options) => good.read(uri, { ...(options?.range && { range: options.range }) }),
    }),
  ),
  fault(
    'looks at the signal of a read when all bytes are given',
    'ends a read when the signal is aborted or the reader stops',
    (good) => ({
      read: async (uri, options) => {
        const source = await good.read(uri, { ...(options?.range && { range: options.range }) });
        return (async function* () {
          yield* source;
          options?.signal?.throwIfAborted();
        })();
      },
    }),
  ),
  fault('does not listen to the signal of a digest', 'stops computing a digest when the signal is aborted', (good) => ({
    digest: (uri) => good.digest(uri),
  })),
  fault(
    'gives the nearest page that it can',
    'refuses page sizes that are zero, fractional or above 1,000',
    (good) => ({
      list: (folder, { limit = 1000, ...options } = {}) =>
        good.list(folder, { ...options, limit: Math.min(1000, Math.max(1, Math.floor(limit) || 1)) }),
    }),
  ),
  fault('lists folder by folder instead of path by path', 'lists a folder by page, ordered by full path', (good) => ({
    list: async (folder, options) => {
      const page = await good.list(folder, options);
      const key = (path: string): string => path.replaceAll('/', '\0');
      return { ...page, files: [...page.files].sort((a, b) => (key(a.path) < key(b.path) ? -1 : 1)) };
    },
  })),
  fault('repeats the last file of a page on the next', 'lists a folder by page, ordered by full path', (good) => ({
    list: async (folder, options) => {
      const page = await good.list(folder, options);
      const last = options?.after && (await good.stat(good.uri(options.after)));
      return last ? { ...page, files: [last, ...page.files] } : page;
    },
  })),
  fault('lists the folders beside that begin alike', 'lists a folder by page, ordered by full path', (good) => ({
    list: async (folder, options) => {
      const page = await good.list(folder, options);
      const beside = await good.stat(good.uri(`${folder}-not` as StorePath));
      return beside ? { ...page, files: [...page.files, beside] } : page;
    },
  })),
  fault(
    'has one temporary name for all writers',
    'keeps concurrent writes separate',
    (good) => {
      let current: StorePath | undefined;
      return {
        write: async (path, source, options) => {
          current = path;
          await sleep(1);
          return good.write(current, source, options);
        },
      };
    },
    /already exists with different bytes/,
  ),
];
