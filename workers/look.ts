// Reads every system of an installation: which installation owns it, and how recent its state is.
import { setTimeout as sleep } from 'node:timers/promises';
import { type MarkedSystem, type RecordsKnow, type Seen, type SeenSystem } from '../activities/installation.ts';
import { messageOf } from '../activities/failures.ts';
import type { ArtifactStore } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import { newestNumbers } from '../activities/release-manifest.ts';
import type { MarkedHome } from './marked-systems.ts';

export interface Installation {
  readonly records: Records;
  /** For messages. */
  readonly database: string;
  readonly home: MarkedHome;
  /** All other systems that this process uses. */
  readonly systems: readonly MarkedSystem[];
  /** The release store, if this process uses it: its manifests are compared with the records. */
  readonly releases?: ArtifactStore | undefined;
  /** Whether this process signs; if so, its home must have every signing key. */
  readonly signs: boolean;
}

/** Reads all systems in parallel; also returns those that did not answer, with the reason. */
export async function look(
  installation: Pick<Installation, 'home' | 'systems' | 'releases' | 'signs'> & {
    readonly records: Pick<Records, 'known' | 'auditHash'>;
  },
  withinMs: number,
): Promise<{ readonly seen: Seen; readonly unseen: Map<MarkedSystem, string> }> {
  const { home, systems, releases, signs } = installation;
  const before = await installation.records.known();
  const id = before.installation ?? (await home.owner().catch(() => undefined));
  const unseen = new Map<MarkedSystem, string>();
  const found = await Promise.all(
    [home, ...systems].map(async (system): Promise<readonly SeenSystem[]> => {
      const { name, where } = system;
      try {
        const [owner, newest] = await within(withinMs, () =>
          Promise.all([system.owner(), system.checkpoints?.newest() ?? undefined]),
        );
        // A checkpoint of another installation says nothing about this one.
        return [{ name, where, owner, newest: newest?.installation === id ? newest : undefined }];
      } catch (error) {
        unseen.set(system, messageOf(error));
        return [];
      }
    }),
  );
  const answered = found.flat();
  const store = answered.some(({ name }) => name === 'releases') ? releases : undefined;
  const written = new Map(before.numbers.map((one) => [one.type, one.written]));
  const numbers =
    store &&
    (await within(withinMs, () => newestNumbers(store, written)).catch((error: unknown) => {
      const system = systems.find(({ name }) => name === 'releases');
      if (system) unseen.set(system, `its release numbers could not be read: ${messageOf(error)}`);
      return undefined;
    }));
  const records = between(before, await installation.records.known());
  const noted = new Set(answered.flatMap(({ newest }) => (newest ? [newest.audit.seq] : [])));
  const auditHashes = new Map<number, string | undefined>();
  for (const seq of noted) auditHashes.set(seq, await installation.records.auditHash(seq));
  const keys = signs ? await home.keys() : undefined;
  return { seen: { records, systems: answered, auditHashes, numbers, keys }, unseen };
}

/**
 * The platform keeps running while it is read. What other systems must hold is therefore taken from the records before those
 * systems are read, and what the records must know from the records afterwards.
 */
function between(before: RecordsKnow, after: RecordsKnow): RecordsKnow {
  const numbers = after.numbers.map(({ type, newest }) => ({
    type,
    newest,
    written: before.numbers.find((one) => one.type === type)?.written ?? 0,
  }));
  return { ...before, tick: after.tick, numbers };
}

/** A system that belongs to another installation than `id`. */
export const foreignTo = (id: string, { systems }: Seen): SeenSystem | undefined =>
  systems.find(({ owner }) => owner !== undefined && owner !== id);

async function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  const late = new AbortController();
  try {
    return await Promise.race([
      work(),
      sleep(ms, undefined, { signal: late.signal }).then((): never => {
        throw new Error(`no answer within ${ms / 1000} s`);
      }),
    ]);
  } finally {
    late.abort();
  }
}
