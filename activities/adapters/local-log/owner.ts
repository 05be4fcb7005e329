// Locks between the processes of one machine: a lock file names its owner; the lock of a dead owner is taken over.
import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { FILE_MODE, FOLDER_MODE, unless } from '../durable-file.ts';
import { startOf } from '../process-start.ts';

const ownerSchema = z.object({ nonce: z.string(), pid: z.number().int().positive(), started: z.string() });
type Owner = z.infer<typeof ownerSchema>;

/** An empty or torn lock file (after a power failure) counts as owned by a dead process. */
const UNREADABLE: Owner = { nonce: 'unreadable', pid: 0, started: '' };

/** An owner of locks; one per opened log. */
export interface LockOwner {
  /** Takes the lock, or returns `undefined` while a living owner holds it. The holder calls `release`. */
  tryLock(path: string): Promise<{ release(): Promise<void> } | undefined>;
  /** Process id of the holder, for messages. */
  holder(path: string): Promise<number | undefined>;
  close(): Promise<void>;
}

/** Creates an owner whose locks end, at the latest, with this process. Owners are recorded in `folder`. */
export async function createLockOwner(folder: string): Promise<LockOwner> {
  await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
  await removeDead(folder);
  const started = startOf(process.pid);
  if (started === undefined)
    throw new Error('this process (${process.pid}) is missing in the process table: mount /proc');
  const self: Owner = { nonce: randomUUID(), pid: process.pid, started };
  const file = join(folder, self.nonce);
  const handle = await open(file, 'wx', FILE_MODE);
  try {
    await handle.writeFile(JSON.stringify(self));
    await handle.sync();
  } finally {
    await handle.close();
  }

  async function tryLock(path: string): Promise<{ release(): Promise<void> } | undefined> {
    for (;;) {
      // A link instead of a new file: the lock has its complete text from the start.
      if (
        (await unless(
          ['EEXIST'],
          link(file, path).then(() => 'made'),
        )) !== undefined
      )
        return { release: () => unlink(path) };
      const owner = await readOwner(path);
      if (!owner) continue;
      if (isAlive(owner)) return undefined;
      if (!(await removeStale(path, owner))) return undefined;
    }
  }

  /**
   * Removes a dead owner's lock. Only the holder of a second lock, named after the dead owner, may do so: otherwise, of two
   * processes that saw the dead lock, the slower one would remove the faster one's new lock. That holder may die too, hence the recursion.
   */
  async function removeStale(path: string, dead: Owner): Promise<boolean> {
    const guard = await tryLock(join(dirname(path), `${dead.nonce}.takeover`));
    if (!guard) return false;
    try {
      if ((await readOwner(path))?.nonce === dead.nonce) await unless(['ENOENT'], unlink(path));
      return true;
    } finally {
      await guard.release();
    }
  }

  return {
    tryLock,
    holder: async (path) => (await readOwner(path))?.pid,
    close: async () => void (await unless(['ENOENT'], unlink(file))),
  };
}

async function readOwner(path: string): Promise<Owner | undefined> {
  const text = await unless(['ENOENT'], readFile(path, 'utf8'));
  if (text === undefined) return undefined;
  try {
    return ownerSchema.parse(JSON.parse(text));
  } catch {
    return UNREADABLE;
  }
}

/** Process ids are reused: the same id with another start time is another process. */
function isAlive(owner: Owner): boolean {
  return owner.pid > 0 && startOf(owner.pid) === owner.started;
}

async function removeDead(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const owner = await readOwner(join(folder, name));
    if (owner && owner.nonce === name && !isAlive(owner)) await unless(['ENOENT'], unlink(join(folder, name)));
  }
}
