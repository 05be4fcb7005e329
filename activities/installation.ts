// One installation over many systems: what each of them knows, which do not belong, and which were set back to another moment.
import { z } from 'zod';
import type { Marker } from './ports.ts';

export const markedNames = ['records', 'home', 'temporal', 'areas', 'releases', 'events', 'git'] as const;
export type MarkedName = (typeof markedNames)[number];

const checkpointSchema = z.object({
  v: z.literal(1),
  installation: z.string(),
  /** Counts the checkpoints of an installation. */
  tick: z.int().min(1),
  /** The audit's last row at that moment. */
  audit: z.object({ seq: z.int().min(0), hash: z.string() }),
  /** The newest checkpoint that each system was known to hold before this one. */
  kept: z.record(z.string(), z.int().min(0)),
  at: z.string(),
});
/** A moment of the records, written to the other systems: whichever was set back later, another one knows. */
export type Checkpoint = Readonly<z.infer<typeof checkpointSchema>>;

/** The text of a checkpoint, and its inverse: `undefined` for text that is none. */
export const writeCheckpoint = (checkpoint: Checkpoint): string => `${JSON.stringify(checkpoint)}\n`;
export function readCheckpoint(text: string): Checkpoint | undefined {
  try {
    return checkpointSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** A system that carries the installation's marker, and perhaps its checkpoints. */
export interface MarkedSystem extends Marker {
  readonly name: MarkedName;
  /** For messages: what it is and where. */
  readonly where: string;
  readonly checkpoints?: {
    newest(): Promise<Checkpoint | undefined>;
    keep(checkpoint: Checkpoint): Promise<void>;
    /** Costs more than a file: kept once an hour and at the end, not every time. */
    readonly seldom: boolean;
  };
}

/** Something that does not agree. */
export interface Finding {
  readonly system: MarkedName;
  readonly kind: 'emptied' | 'older';
  /** What was found, and what it means. */
  readonly text: string;
  /** Decisions and deliveries wait for a person because of it. */
  readonly pauses: boolean;
}

export interface Paused {
  /** ISO 8601 */
  readonly since: string;
  readonly findings: readonly Finding[];
}

/** The `code` of the errors with which work ends that waits for `ocdl restore accept`. */
export const RESTORED = 'RESTORED';

/** Why decisions and deliveries wait, and what to do. */
export const pausedMessage = ({ since, findings }: Paused): string =>
  `decisions and deliveries are paused since ${since}, because systems were set back to another moment ` +
  `(${findings.map(({ system, kind }) => `${system} ${kind}`).join(', ')}): ` +
  'an administrator runs "ocdl restore list" on the machine of the platform, then "ocdl restore accept"';

/** What the records know of the installation. */
export interface RecordsKnow {
  /** `undefined` while nobody has claimed them. */
  readonly installation: string | undefined;
  /** Their newest checkpoint; 0 before the first. */
  readonly tick: number;
  /** The newest checkpoint that each system was known to hold; systems that were never marked are missing. */
  readonly kept: Readonly<Record<string, number>>;
  /** Ids of the signing keys. */
  readonly keys: readonly string[];
  /** Per type: the newest number that was given or lies below the floor, and the newest that has a manifest (0: none above the floor). */
  readonly numbers: readonly { readonly type: string; readonly newest: number; readonly written: number }[];
}

/** What one look at the other systems has found. Systems that did not answer are missing. */
export interface Seen {
  readonly records: RecordsKnow;
  readonly systems: readonly SeenSystem[];
  /** Hash that the records have for the audit row of the newest checkpoint. */
  readonly auditHash: string | undefined;
  /** Newest number per type in the release store; `undefined` when it did not answer. */
  readonly numbers: ReadonlyMap<string, number> | undefined;
  /** Ids of the signing keys in the home; `undefined` where this process needs none. */
  readonly keys: readonly string[] | undefined;
}

export interface SeenSystem {
  readonly name: MarkedName;
  readonly where: string;
  readonly owner: string | undefined;
  readonly newest: Checkpoint | undefined;
}

/** The newest checkpoint of all systems, and which one holds it. */
export function newestOf(systems: readonly SeenSystem[]): (SeenSystem & { readonly newest: Checkpoint }) | undefined {
  return systems
    .flatMap((system) => (system.newest ? [{ ...system, newest: system.newest }] : []))
    .reduce<(SeenSystem & { readonly newest: Checkpoint }) | undefined>(
      (best, one) => (best && best.newest.tick >= one.newest.tick ? best : one),
      undefined,
    );
}

/** What does not agree: systems that are emptied, or older than another one knows. */
export function compare(seen: Seen): readonly Finding[] {
  const kept = keptBy(seen);
  return [...recordsFindings(seen), ...seen.systems.flatMap((system) => systemFindings(system, seen, kept))];
}

/** Has Temporal lost its workflows, or been set back? Then what is open must be started again from the records. */
export const temporalWasSetBack = (findings: readonly Finding[]): boolean =>
  findings.some(({ system }) => system === 'temporal');

/** The newest checkpoint that anybody knows each system to have held. */
function keptBy({ records, systems }: Seen): ReadonlyMap<string, number> {
  const known = [records.kept, ...systems.flatMap(({ newest }) => (newest ? [newest.kept] : []))];
  const most = new Map<string, number>();
  for (const [system, tick] of known.flatMap((one) => Object.entries(one)))
    most.set(system, Math.max(tick, most.get(system) ?? 0));
  return most;
}

function recordsFindings({ records, systems, auditHash, numbers }: Seen): readonly Finding[] {
  const reasons: string[] = [];
  const witness = newestOf(systems);
  if (witness) {
    const { newest, where } = witness;
    if (newest.tick > records.tick)
      reasons.push(
        `they end at checkpoint ${records.tick}, and ${where} has checkpoint ${newest.tick} of ${newest.at}`,
      );
    else if (newest.audit.seq > 0 && newest.audit.hash !== auditHash)
      reasons.push(`row ${newest.audit.seq} of their audit is not the one that ${where} noted at ${newest.at}`);
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
  // The record decides: what is open is started again from it, so nobody has to wait.
  const pauses = name !== 'temporal';
  // Of a home nobody keeps checkpoints in mind: there may be several.
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
