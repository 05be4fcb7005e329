// Lets one platform at a time own a home folder, on one machine: a numbered file that only one process can make.
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { identifySelf, isAlive, processRecordSchema, type ProcessRecord } from './process-identity.ts';

const lockName = /^platform\.lock\.(\d+)$/;

export type HomeLock =
  | { readonly acquired: true; readonly release: () => void }
  | { readonly acquired: false; readonly holder: ProcessRecord };

/**
 * Takes the home for this process, or says which living process has it.
 *
 * The highest-numbered lock counts, and it counts while the process it names lives. To take over, the next number is
 * linked into place, which only one process can do; nobody ever removes the highest, so a slow second taker cannot
 * remove the first one's. A dead process holds nothing, so `release` matters only to a process that lives on.
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
      // Somebody was faster by two steps and has already cleared the number just taken: theirs is higher, and counts.
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

/** Returns the living owner of a home, if there is one. */
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
