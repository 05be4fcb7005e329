// Locks a home folder for one platform on one machine, with a numbered file that only one process can create.
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { identifySelf, isAlive, processRecordSchema, type ProcessRecord } from './process-identity.ts';

const lockName = /^platform\.lock\.(\d+)$/;

export type HomeLock =
  | { readonly acquired: true; readonly release: () => void }
  | { readonly acquired: false; readonly holder: ProcessRecord };

/**
 * Locks the home for this process, or returns the running process that owns it.
 *
 * The lock with the highest number counts, as long as the process it names is running. A new owner links the next number into
 * place, which only one process can do. The highest lock is never removed, so a slow second process cannot remove the first
 * one's. A dead process owns nothing, so `release` matters only to a process that keeps running.
 */
export function takeHome(home: string): HomeLock {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const own = identifySelf();
  const draft = join(home, `platform.lock-draft-${randomUUID()}`);
  writeFileSync(draft, JSON.stringify(own), { mode: 0o600 });
  try {
    for (;;) {
      const highest = highestLock(home);
      const holder = highest === 0 ? undefined : holderOf(lockPath(home, highest));
      if (holder !== undefined && isAlive(holder)) return { acquired: false, holder };
      const mine = highest + 1;
      if (!linked(draft, lockPath(home, mine))) continue;
      // Two other processes may have been faster: the lock of the second is higher and counts, and it has removed this number.
      if (highestLock(home) !== mine) {
        rmSync(lockPath(home, mine), { force: true });
        continue;
      }
      for (const number of lockNumbers(home)) if (number < mine) rmSync(lockPath(home, number), { force: true });
      return { acquired: true, release: () => release(home, mine, own) };
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Returns the running owner of a home, if there is one. */
export function ownerOf(home: string): ProcessRecord | undefined {
  const highest = highestLock(home);
  const holder = highest === 0 ? undefined : holderOf(lockPath(home, highest));
  return holder !== undefined && isAlive(holder) ? holder : undefined;
}

function release(home: string, number: number, own: ProcessRecord): void {
  const released = join(home, `platform.lock-draft-${randomUUID()}`);
  writeFileSync(released, JSON.stringify({ pid: own.pid, startedAs: 'released' }), { mode: 0o600 });
  renameSync(released, lockPath(home, number));
}

function lockPath(home: string, number: number): string {
  return join(home, `platform.lock.${number}`);
}

function lockNumbers(home: string): readonly number[] {
  try {
    return readdirSync(home).flatMap((name) => {
      const match = lockName.exec(name);
      return match?.[1] === undefined ? [] : [Number(match[1])];
    });
  } catch {
    return [];
  }
}

function highestLock(home: string): number {
  return Math.max(0, ...lockNumbers(home));
}

function holderOf(path: string): ProcessRecord | undefined {
  try {
    return processRecordSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}
