// The packages of a project's lock as one archive in a store: made once, sandboxed, and removed when no job has used it for long.
import { createHash } from 'node:crypto';
import { lstat, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { machine } from 'node:os';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { isDigest, type StorePath } from '../../../workflows/domain/names.ts';
import { lockMessage, parseLock, renderLock } from '../../../workflows/domain/lock.ts';
import { failure, isFinal, messageOf } from '../../failures.ts';
import type { Archives, ArtifactStore, FolderEntry, LockArchives, StoredFile } from '../../ports.ts';
import { createEnvironmentFor, type EnvironmentsOptions } from '../local-process/environments.ts';
import { findPython } from '../local-process/python.ts';
import { detectSandbox } from '../local-process/sandbox.ts';
import { lockFolder } from './job-manifests.ts';

export interface LockArchivesOptions extends EnvironmentsOptions {
  /** Where the inputs of jobs are read. The archives are beside the areas: no person can address them. */
  readonly store: ArtifactStore;
  readonly archives: Pick<Archives, 'pack'>;
  /** The lock of the image, which needs no archive. */
  readonly platformLock: string;
  /** Major and minor version of the image's Python. */
  readonly imagePython: string;
  readonly jobsWithoutSandbox?: boolean;
  readonly onWarn: (message: string) => void;
  /** How long an unused archive is kept; default 30 days. */
  readonly unusedMs?: number;
  /** Pause after a failure that may pass; default 15 s. */
  readonly againAfterMs?: number;
}

/** In the store. Each archive is `<key of lock and machine>/<digest>.tar`, and the file `used` beside it tells its last use. */
const FOLDER = 'environments' as StorePath;
const USED = 'used';
/** In the archive: what it was made for, and the environment (deploy/capsule/ocdl/pod.py reads both). */
const MADE_FOR = 'made-for.json';
const ENVIRONMENT = 'environment';
const UNUSED_MS = 30 * 86_400_000;
/** A use is noted at most this often. */
const NOTED_MS = 86_400_000;
const AGAIN_AFTER_MS = 15_000;
/** A final failure answers all jobs of the lock that wait; a later run tries again. */
const FAILED_MS = 60_000;
/** Folders of a worker that was killed are removed after this time. */
const LEFT_OVER_MS = 86_400_000;

interface Making {
  line: string;
  failed?: { readonly error: unknown; readonly at: number };
}

/** Opens the archives in the store; reads and writes nothing yet. */
export function createLockArchives(options: LockArchivesOptions): LockArchives {
  const { store, archives, platformLock, onWarn } = options;
  const { unusedMs = UNUSED_MS, againAfterMs = AGAIN_AFTER_MS } = options;
  const scratch = join(resolve(options.cache), 'lock-archives');
  const making = new Map<string, Making>();
  const noted = new Map<string, number>();
  const closing = new AbortController();
  const queue = { last: Promise.resolve() };
  const place = thisMachine();
  /** Asked once: it starts Python, and many jobs may wait. */
  const fit: { mismatch?: Promise<string | undefined> | undefined } = {};

  const keyOf = async (lock: string): Promise<{ readonly key: string; readonly requirements: string }> => {
    const { packages, problems } = parseLock(lock);
    if (packages === undefined) throw failure('InvalidInput', lockMessage('The lock', problems), [...problems]);
    // By what is installed: a comment makes no other archive.
    const requirements = renderLock(packages);
    return { key: sha256Of(JSON.stringify([requirements, options.imagePython, place])), requirements };
  };

  const stored = async (key: string) => {
    const { files } = await store.list(`${FOLDER}/${key}` as StorePath);
    return files.flatMap(({ uri, path, bytes }) => {
      const sha256 = /\/([0-9a-f]{64})\.tar$/.exec(path)?.[1];
      return isDigest(sha256) ? [{ uri, sha256, bytes, name: `lock-${sha256.slice(0, 16)}.tar` }] : [];
    })[0];
  };

  /** Notes that an archive is in use. */
  const note = async (key: string): Promise<void> => {
    if (Date.now() - (noted.get(key) ?? 0) < Math.min(NOTED_MS, unusedMs / 2)) return;
    noted.set(key, Date.now());
    const now = Buffer.from(new Date().toISOString());
    await store
      .write(`${FOLDER}/${key}/${USED}` as StorePath, Readable.from([now]), { ifExists: 'replace' })
      .catch((error: unknown) => onWarn(`the use of an archive of packages is not noted: ${messageOf(error)}`));
  };

  const begin = (key: string, requirements: string): Making => {
    const work: Making = { line: 'until other packages are installed' };
    making.set(key, work);
    const made = queue.last.then(async () => {
      try {
        await make(key, requirements, (line) => (work.line = line.trim()));
        making.delete(key);
      } catch (error) {
        work.failed = { error, at: Date.now() };
        if (!closing.signal.aborted) onWarn(`the packages of a lock are not installed: ${messageOf(error)}`);
      }
    });
    // One at a time: each may take gigabytes of memory and disk.
    queue.last = made;
    return work;
  };

  const make = async (key: string, requirements: string, onProgress: (line: string) => void): Promise<void> => {
    const { signal } = closing;
    signal.throwIfAborted();
    const sandbox = await detectSandbox();
    if (sandbox.kind === 'none' && options.jobsWithoutSandbox !== true)
      throw new Error(`packages are installed only in a sandbox, and bubblewrap does not work here: ${sandbox.why}`);
    const folder = await scratchFolder(scratch);
    try {
      const draft = join(folder, ENVIRONMENT);
      const given = { lock: requirements, draft, final: lockFolder, sandbox, signal, onProgress };
      await createEnvironmentFor(options, given);
      onProgress('packing the packages');
      await writeFile(join(folder, MADE_FOR), JSON.stringify({ python: options.imagePython, ...place }));
      const entries = await filesBelow(folder);
      const hash = createHash('sha256');
      for await (const chunk of archives.pack(entries, signal)) hash.update(chunk);
      const sha256 = hash.digest('hex');
      if (!isDigest(sha256)) throw new TypeError(sha256);
      onProgress('storing the packages');
      const path = `${FOLDER}/${key}/${sha256}.tar` as StorePath;
      await store.write(path, archives.pack(entries, signal), { expect: { sha256 }, signal });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };

  return {
    async find(lock) {
      if (lock.trim() === '' || lock === platformLock) return { archive: null };
      const { key, requirements } = await keyOf(lock);
      fit.mismatch ??= mismatchOf(options);
      fit.mismatch.catch(() => (fit.mismatch = undefined));
      const mismatch = await fit.mismatch;
      if (mismatch !== undefined)
        throw failure('JobFailed', `the lock cannot be installed for this cluster: ${mismatch}`);
      const found = making.has(key) ? undefined : await stored(key);
      if (found !== undefined) {
        await note(key);
        return { archive: found };
      }
      const work = making.get(key) ?? begin(key, requirements);
      if (work.failed === undefined) return { waits: `for the packages of its lock: ${work.line}` };
      const { error, at } = work.failed;
      if (Date.now() - at > (isFinal(error) ? FAILED_MS : againAfterMs)) making.delete(key);
      if (isFinal(error)) throw error;
      return { waits: `for the packages of its lock, which are tried again: ${messageOf(error)}` };
    },

    async sweep(locks) {
      const keys = await Promise.all(locks.map((lock) => keyOf(lock).catch(() => undefined)));
      const used = new Set([...keys.flatMap((known) => known?.key ?? []), ...making.keys()]);
      const all = new Map<string, StoredFile[]>();
      for (const file of await listed(store)) {
        const key = file.path.split('/')[1] ?? '';
        all.set(key, [...(all.get(key) ?? []), file]);
      }
      for (const [key, files] of all) {
        const last = Math.max(...files.map(({ modifiedAt }) => Date.parse(modifiedAt)), noted.get(key) ?? 0);
        if (used.has(key)) await note(key);
        else if (Date.now() - last > unusedMs) for (const { uri } of files) await store.remove(uri);
      }
    },

    async close() {
      closing.abort(new Error('the worker stops'));
      await queue.last;
    },
  };
}

/** Why packages that are installed on this machine do not run in the image; undefined if they do, as far as this machine knows. */
export async function mismatchOf({
  python,
  imagePython,
}: Pick<LockArchivesOptions, 'python' | 'imagePython'>): Promise<string | undefined> {
  const { version } = await findPython(python);
  if (version !== imagePython)
    return (
      `its image has Python ${imagePython} (OCDL_KUBERNETES_IMAGE_PYTHON), and the worker installs with Python ${version}: ` +
      `install Python ${imagePython} with venv on the worker's machine and set OCDL_PYTHON to it`
    );
  return thisMachine().glibc === ''
    ? 'its image uses the C library glibc, and the worker’s machine does not: run the worker on a machine that does'
    : undefined;
}

/** The machine's kind of processor and its C library: packages have parts that are made for them. */
export function thisMachine(): { readonly machine: string; readonly glibc: string } {
  const { header } = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } };
  return { machine: machine(), glibc: header?.glibcVersionRuntime ?? '' };
}

async function listed(store: ArtifactStore): Promise<readonly StoredFile[]> {
  const all: StoredFile[] = [];
  for (let after: StorePath | undefined; ;) {
    const { files, next } = await store.list(FOLDER, after === undefined ? {} : { after });
    all.push(...files);
    if (next === undefined) return all;
    after = next;
  }
}

/** An empty folder; removes those that a killed worker left. */
async function scratchFolder(parent: string): Promise<string> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  for (const name of await readdir(parent)) {
    const path = join(parent, name);
    const status = await lstat(path).catch(() => undefined);
    if (status !== undefined && Date.now() - status.mtimeMs > LEFT_OVER_MS)
      await rm(path, { recursive: true, force: true });
  }
  return mkdtemp(join(parent, 'making-'));
}

/** The regular files of a folder. Links, such as the environment's interpreter, are made again where the archive is unpacked. */
async function filesBelow(root: string): Promise<readonly FolderEntry[]> {
  const found: FolderEntry[] = [];
  for (const path of await readdir(root, { recursive: true })) {
    const file = join(root, path);
    const status = await lstat(file);
    if (!status.isFile() || OF_THIS_MACHINE.test(path)) continue;
    found.push({ path, file, offset: 0, bytes: status.size, isExecutable: (status.mode & 0o111) !== 0 });
  }
  return found;
}

/** How an environment finds its interpreter, and how a shell enters it. */
const OF_THIS_MACHINE = /^environment\/(pyvenv\.cfg|bin\/[Aa]ctivate[^/]*)$/;

const sha256Of = (text: string): string => createHash('sha256').update(text).digest('hex');
