// One installation across many systems: what each one knows, which ones do not belong to it, and which were restored to an earlier state.
import { ApplicationFailure } from '@temporalio/common';
import { z } from 'zod';
import { RESTORED } from '../workflows/domain/failures.ts';
import type { Marker } from './ports.ts';

export type MarkedName = 'records' | 'home' | 'temporal' | 'areas' | 'releases' | 'events' | 'git';

const checkpointSchema = z.object({
  v: z.literal(1),
  installation: z.string(),
  /** Number of the checkpoint within the installation. */
  tick: z.int().min(1),
  /** How many restores had been accepted. */
  accepted: z.int().min(0).default(0),
  /** The audit's last row at that moment. */
  audit: z.object({ seq: z.int().min(0), hash: z.string() }),
  /** The newest known checkpoint of each system before this one. */
  kept: z.record(z.string(), z.int().min(0)),
  at: z.string(),
});
/** A moment of the records, written to the other systems. If one system is later restored, another one knows. */
export type Checkpoint = Readonly<z.infer<typeof checkpointSchema>>;

/** The text of a checkpoint, and its inverse, which returns `undefined` for invalid text. */
export const writeCheckpoint = (checkpoint: Checkpoint): string => `${JSON.stringify(checkpoint)}\n`;
export function readCheckpoint(text: string): Checkpoint | undefined {
  try {
    return checkpointSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** A system that stores the installation's marker and possibly checkpoints. */
export interface MarkedSystem extends Marker {
  readonly name: MarkedName;
  /** What and where the system is, for messages. */
  readonly where: string;
  readonly checkpoints?: {
    newest(): Promise<Checkpoint | undefined>;
    keep(checkpoint: Checkpoint): Promise<void>;
    /** Storing costs more than a file, so it happens hourly and at the end instead of every time. */
    readonly seldom: boolean;
  };
}

/** A disagreement between systems. */
export interface Finding {
  readonly system: MarkedName;
  readonly kind: 'emptied' | 'older';
  /** What was found, and what it means. */
  readonly text: string;
  /** Whether it pauses decisions and deliveries until a person acts. */
  readonly pauses: boolean;
}

export interface Paused {
  /** ISO 8601 */
  readonly since: string;
  readonly findings: readonly Finding[];
}

/** Why decisions and deliveries are paused, and what to do. */
export const pausedMessage = ({ since, findings }: Paused): string =>
  `decisions and deliveries are paused since ${since}, because systems were restored to an earlier state ` +
  `(${findings.map(({ system, kind }) => `${system} ${kind}`).join(', ')}): ` +
  'an administrator runs "ocdl restore list" on the machine of the platform, then "ocdl restore accept"';

/** The retryable failure of a step that waits for `ocdl restore accept`. */
export const pausedError = (paused: Paused): Error =>
  Object.assign(ApplicationFailure.create({ type: RESTORED, message: pausedMessage(paused) }), { code: RESTORED });

/** What the records know about the installation. */
export interface RecordsKnow {
  /** `undefined` while the records are unclaimed. */
  readonly installation: string | undefined;
  /** Number of the newest checkpoint; 0 before the first. */
  readonly tick: number;
  /** How many restores were accepted. */
  readonly accepted: number;
  /** The newest known checkpoint of each system. Systems that were never marked are missing. */
  readonly kept: Readonly<Record<string, number>>;
  /** Ids of the signing keys. */
  readonly keys: readonly string[];
  /**
   * Per type: the newest number that is allotted or below the floor, and the newest with a manifest (0: none above the
   * floor).
   */
  readonly numbers: readonly { readonly type: string; readonly newest: number; readonly written: number }[];
}

/** The result of one check of the other systems. Systems that did not answer are missing. */
export interface Seen {
  readonly records: RecordsKnow;
  readonly systems: readonly SeenSystem[];
  /** The records' hashes of the audit rows in the checkpoints, by `seq`. */
  readonly auditHashes: ReadonlyMap<number, string | undefined>;
  /** Newest number per type in the release store; `undefined` if it did not answer. */
  readonly numbers: ReadonlyMap<string, number> | undefined;
  /** Ids of the signing keys in the home; `undefined` if this process needs none. */
  readonly keys: readonly string[] | undefined;
}

export interface SeenSystem {
  readonly name: MarkedName;
  readonly where: string;
  readonly owner: string | undefined;
  readonly newest: Checkpoint | undefined;
}

/** The newest checkpoint of all systems since the last accepted restore, and the system that stores it. */
export function newestOf(systems: readonly SeenSystem[]): (SeenSystem & { readonly newest: Checkpoint }) | undefined {
  return systems
    .flatMap((system) => (system.newest ? [{ ...system, newest: system.newest }] : []))
    .reduce<(SeenSystem & { readonly newest: Checkpoint }) | undefined>(
      (best, one) => (best && isAsNew(best.newest, one.newest) ? best : one),
      undefined,
    );
}

const isAsNew = (one: Checkpoint, other: Checkpoint): boolean =>
  one.accepted === other.accepted ? one.tick >= other.tick : one.accepted > other.accepted;

/** Finds disagreements: systems that are empty, or older than another system knows. */
export function compare(seen: Seen): readonly Finding[] {
  const kept = keptBy(seen);
  return [...recordsFindings(seen), ...seen.systems.flatMap((system) => systemFindings(system, seen, kept))];
}

/** The newest checkpoint that any system knows each system to have stored. */
function keptBy({ records, systems }: Seen): ReadonlyMap<string, number> {
  const known = [records.kept, ...systems.flatMap(({ newest }) => (newest ? [newest.kept] : []))];
  const most = new Map<string, number>();
  for (const [system, tick] of known.flatMap((one) => Object.entries(one)))
    most.set(system, Math.max(tick, most.get(system) ?? 0));
  return most;
}

/**
 * Whether a checkpoint is of a moment that the records do not know: it is newer than theirs, or they have another row of the
 * audit. `auditHash`: their hash of that row. What was noted before the last accepted restore may differ.
 */
export function isUnknown(checkpoint: Checkpoint, records: Pick<RecordsKnow, 'tick' | 'accepted'>, auditHash?: string) {
  const { tick, accepted, audit } = checkpoint;
  if (tick > records.tick || accepted > records.accepted) return true;
  return accepted === records.accepted && audit.seq > 0 && audit.hash !== auditHash;
}

function recordsFindings({ records, systems, auditHashes, numbers }: Seen): readonly Finding[] {
  const reasons: string[] = [];
  const witness = newestOf(
    systems.filter(({ newest }) => newest && isUnknown(newest, records, auditHashes.get(newest.audit.seq))),
  );
  if (witness) {
    const { newest, where } = witness;
    if (newest.tick > records.tick)
      reasons.push(
        `they end at checkpoint ${records.tick}, and ${where} has checkpoint ${newest.tick} of ${newest.at}`,
      );
    else if (newest.accepted > records.accepted)
      reasons.push(`they know ${records.accepted} accepted restores, and ${where} noted ${newest.accepted}`);
    else reasons.push(`row ${newest.audit.seq} of their audit is not the one that ${where} noted at ${newest.at}`);
  }
  for (const [type, newest] of numbers ?? []) {
    const known = records.numbers.find((one) => one.type === type)?.newest ?? 0;
    if (newest > known)
      reasons.push(`the release store has release ${type}-${newest}, and they know ${known} of that type`);
  }
  if (reasons.length === 0) return [];
  const text = `the records (PostgreSQL) are older than other systems: ${reasons.slice(0, 5).join('; ')}. Decisions made after that moment are missing`;
  return [{ system: 'records', kind: records.tick === 0 ? 'emptied' : 'older', text, pauses: true }];
}

function systemFindings(
  { name, where, owner, newest }: SeenSystem,
  { records, numbers, keys }: Seen,
  kept: ReadonlyMap<string, number>,
): readonly Finding[] {
  const should = kept.get(name);
  // Open work is restarted from the records, so a loss in Temporal pauses nothing.
  const pauses = name !== 'temporal';
  // Checkpoints of homes are not tracked, because there may be several homes.
  const wasMarked = should !== undefined || (name === 'home' && records.installation !== undefined);
  if (owner === undefined && wasMarked) {
    const text = `${where} has lost the marker of this installation: it was emptied, or another one is configured now`;
    return [{ system: name, kind: 'emptied', text, pauses }];
  }
  const reasons: string[] = [];
  if (should !== undefined && (newest?.tick ?? 0) < should)
    reasons.push(`it ends at checkpoint ${newest?.tick ?? 0}, and held ${should}`);
  if (name === 'releases')
    for (const { type, written } of records.numbers)
      if (numbers && written > (numbers.get(type) ?? 0))
        reasons.push(`the manifest of release ${type}-${written} is missing`);
  const lost = name === 'home' && keys ? records.keys.filter((key) => !keys.includes(key)) : [];
  if (lost.length > 0) reasons.push(`the signing keys ${lost.join(', ')} are missing from its folder keys`);
  if (reasons.length === 0) return [];
  const text = `${where} is older than other systems: ${reasons.slice(0, 5).join('; ')}. What was written there after that moment is missing`;
  return [{ system: name, kind: 'older', text, pauses }];
}
