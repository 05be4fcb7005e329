// Keeps the Python environments below a total size: removes those that are not in use, least recently used first.
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { folderBytes, removeFolder } from './folders.ts';

export interface EnvironmentRoom {
  /** Begins a use of an environment's folder, which may not exist yet, and waits while it is being removed. Returns the end of the use. */
  use(folder: string): Promise<() => void>;
  /** Removes environments until the total is below the limit. Returns the number of removed ones. */
  makeRoom(): Promise<number>;
}

/**
 * An environment that was not used for this long is used by no process of this machine: each process marks what it uses
 * every ten minutes. Long enough for a machine that was suspended or is very busy.
 */
const IDLE_MS = 6 * 3_600_000;
const MARK_EVERY_MS = 600_000;
/** A mark of a removal, or a draft, that is older was left by a process that was killed. A removal takes milliseconds until its rename. */
const REMOVAL_MS = 60_000;
const DRAFT_MS = 86_400_000;
const POLL_MS = 20;

const [REMOVING, REMOVED] = ['.removing-', '.removed-'];
const isDraft = (name: string): boolean => name.includes('.making-');

/** `folders` contain the environments, one folder each. `idleMs`: for tests. */
export function createEnvironmentRoom(options: {
  readonly folders: readonly string[];
  readonly totalBytes: number;
  readonly idleMs?: number;
}): EnvironmentRoom {
  const { totalBytes, idleMs = IDLE_MS } = options;
  const uses = new Map<string, number>();
  // An environment never changes once it is made, and measuring takes up to a second.
  const sizes = new Map<string, number>();
  const state: { timer?: NodeJS.Timeout; turn: Promise<unknown> } = { turn: Promise.resolve() };

  const release = (folder: string): void => {
    mark(folder);
    const left = (uses.get(folder) ?? 1) - 1;
    if (left > 0) uses.set(folder, left);
    else uses.delete(folder);
    if (uses.size > 0) return;
    clearInterval(state.timer);
    delete state.timer;
  };

  const sizeOf = async (folder: string): Promise<number> => {
    const known = sizes.get(folder);
    if (known !== undefined) return known;
    const bytes = await folderBytes([folder]);
    // One that cannot be measured is larger than any that the platform makes.
    const size = Number.isFinite(bytes) ? bytes : totalBytes;
    sizes.set(folder, size);
    return size;
  };

  const remove = async (folder: string, isIdle: () => boolean): Promise<boolean> => {
    const marker = join(dirname(folder), `${REMOVING}${basename(folder)}`);
    const removed = join(dirname(folder), `${REMOVED}${randomUUID()}`);
    try {
      // Another process marks its use first and looks for this folder then: one of the two sees the other.
      mkdirSync(marker);
    } catch {
      return false;
    }
    try {
      if (!isIdle()) return false;
      renameSync(folder, removed);
    } finally {
      rmSync(marker, { recursive: true, force: true });
    }
    sizes.delete(folder);
    await removeFolder(removed);
    return true;
  };

  const work = async (): Promise<number> => {
    for (const parent of options.folders) await removeLeftovers(parent);
    const isIdle = (folder: string): boolean => !uses.has(folder) && Date.now() - (usedAt(folder) ?? Infinity) > idleMs;
    const found = options.folders.flatMap((parent) => foldersIn(parent).map((name) => join(parent, name)));
    const sized: { folder: string; bytes: number; used: number }[] = [];
    for (const folder of found) sized.push({ folder, bytes: await sizeOf(folder), used: usedAt(folder) ?? Infinity });
    let total = sized.reduce((sum, { bytes }) => sum + bytes, 0);
    let count = 0;
    for (const { folder, bytes } of sized.sort((one, other) => one.used - other.used)) {
      if (total <= totalBytes) break;
      if (!isIdle(folder) || !(await remove(folder, () => isIdle(folder)))) continue;
      total -= bytes;
      count += 1;
    }
    return count;
  };

  return {
    async use(folder) {
      uses.set(folder, (uses.get(folder) ?? 0) + 1);
      state.timer ??= setInterval(() => [...uses.keys()].forEach(mark), MARK_EVERY_MS).unref();
      mark(folder);
      const marker = join(dirname(folder), `${REMOVING}${basename(folder)}`);
      while (isYounger(marker, REMOVAL_MS)) await sleep(POLL_MS);
      let ended = false;
      return () => {
        if (!ended) release(folder);
        ended = true;
      };
    },
    makeRoom() {
      const result = state.turn.then(work, work);
      state.turn = result.catch(() => undefined);
      return result;
    },
  };
}

/** Moves a folder away before it is removed: what is left of it after a crash never counts as an environment. */
export async function removeWhole(folder: string): Promise<void> {
  const removed = join(dirname(folder), `${REMOVED}${randomUUID()}`);
  try {
    renameSync(folder, removed);
  } catch (error) {
    if (usedAt(folder) === undefined) return;
    throw error;
  }
  await removeFolder(removed);
}

/** Marks a use: the modification time of the folder. */
function mark(folder: string): void {
  try {
    const now = new Date();
    utimesSync(folder, now, now);
  } catch {
    // Not made yet, or of another user, in which case this process cannot remove it either.
  }
}

const usedAt = (folder: string): number | undefined => statSync(folder, { throwIfNoEntry: false })?.mtimeMs;
const isYounger = (path: string, ms: number): boolean => Date.now() - (usedAt(path) ?? -Infinity) < ms;

function foldersIn(parent: string): readonly string[] {
  return namesIn(parent).filter((name) => !name.startsWith('.') && !isDraft(name));
}

function namesIn(parent: string): readonly string[] {
  try {
    return readdirSync(parent);
  } catch {
    return [];
  }
}

/** What processes that were killed left: half removed environments, marks of removals, drafts. */
async function removeLeftovers(parent: string): Promise<void> {
  for (const name of namesIn(parent)) {
    const path = join(parent, name);
    const isLeft =
      name.startsWith(REMOVED) ||
      (name.startsWith(REMOVING) && !isYounger(path, REMOVAL_MS)) ||
      (isDraft(name) && !isYounger(path, DRAFT_MS));
    if (isLeft) await removeFolder(path);
  }
}
