// Each process of the platform belongs to one installation. It is compared with every system at its start and then periodically.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isFailure } from '../activities/failures.ts';
import {
  compare,
  isUnknown,
  type Checkpoint,
  type Finding,
  type MarkedSystem,
  type RecordsKnow,
} from '../activities/installation.ts';
import type { AuditEntry, Records } from '../activities/records.ts';
import { addManifests } from '../activities/release-manifest.ts';
import { foreignTo, look, type Installation } from './look.ts';
import type { MarkedHome } from './marked-systems.ts';

/** A system that does not answer does not block the start: the platform logs it and checks again with a longer limit. */
const FIRST_MS = 5_000;
const PATIENT_MS = 30_000;
/** Interval for checkpoints and for systems that did not answer. */
const LOOK_AGAIN_MS = 15_000;

/** A system is marked by another installation than this process's. */
export class AnotherInstallation extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AnotherInstallation';
  }
}

/** A process that belongs to an installation. */
export interface Belonging {
  readonly id: string;
  /** Findings at the start. */
  readonly findings: readonly Finding[];
  /** Stops the periodic checks; with `checkpoints` writes a last one. */
  stop(): Promise<void>;
}

/**
 * Claims unclaimed systems and compares what the systems know. Rejects with the reason and the remedy if one belongs to another
 * installation. If a system was restored to an earlier state, decisions and deliveries pause. `onRefused` is called when a system
 * that did not answer at the start turns out to belong to another installation.
 */
export async function belong(
  installation: Installation,
  options: {
    readonly log: Logger;
    readonly onRefused: (error: Error) => void;
    /** Also writes checkpoints; one process of a platform is enough. */
    readonly checkpoints: boolean;
    readonly everyMs?: number;
    /** How long the start waits for systems that do not answer. */
    readonly firstMs?: number;
    /** How long the last checkpoint may take. */
    readonly lastMs?: number;
  },
): Promise<Belonging> {
  const { log, checkpoints, everyMs = LOOK_AGAIN_MS, firstMs = FIRST_MS, lastMs = LAST_MS } = options;
  const id = await claimOwn(installation);
  const first = await settle(installation, id, log, firstMs);
  const state = { unseen: first.unseen, seldomAt: 0, stopping: false };

  async function round(): Promise<void> {
    if (state.unseen > 0) state.unseen = (await settle(installation, id, log)).unseen;
    if (!checkpoints || (await installation.records.paused())) return;
    const { records, home, releases } = installation;
    const newest = await home.checkpoints?.newest();
    // The records were restored to an earlier state while this process runs.
    if (await contradicts(records, newest)) return void (await settle(installation, id, log));
    if (releases) await addManifests(records, releases);
    const isDue = Date.now() - state.seldomAt >= SELDOM_MS;
    const known = await records.known();
    const isBehind = installation.systems.some(
      ({ name, checkpoints: kept }) => kept?.seldom === true && (known.kept[name] ?? known.tick) < known.tick,
    );
    const checkpoint = await records.checkpoint(state.stopping || (isDue && isBehind));
    if (checkpoint === undefined) return;
    if (isDue) state.seldomAt = Date.now();
    if (!(await keepEverywhere(installation, checkpoint, isDue, log))) await settle(installation, id, log);
  }

  const work = { running: Promise.resolve() };
  const turn = (): void => {
    work.running = work.running.then(round).catch((error: unknown) => {
      if (error instanceof AnotherInstallation) options.onRefused(error);
      else log.warn({ error: String(error) }, 'the systems could not be compared; they are checked again');
    });
  };
  const timer = setInterval(turn, everyMs).unref();
  turn();
  return {
    id,
    findings: first.findings,
    async stop() {
      if (state.stopping) return;
      state.stopping = true;
      clearInterval(timer);
      if (!checkpoints) return;
      // Write the last audit rows of this run to every system.
      state.seldomAt = 0;
      turn();
      await Promise.race([work.running, sleep(lastMs, undefined, { ref: false })]);
    },
  };
}

/** Interval for Git commits and namespace updates, which cost more than files. */
const SELDOM_MS = 3_600_000;
/** Shorter than the supervisor waits for a worker. */
const LAST_MS = 2_000;

/** The id that the home and the records agree on. The home is claimed first: of two new homes on one database only one succeeds. */
async function claimOwn({ records, database, home }: Installation): Promise<string> {
  const { installation } = await records.known();
  const own = await home.owner();
  if (own === undefined && installation !== undefined)
    throw new AnotherInstallation(
      `${home.where} has no marker, and ${database} belongs to installation ${installation}. To run more processes of that ` +
        `installation here, copy its folder keys into this home. If that folder is permanently lost, run "ocdl restore accept" here. ` +
        'For a new installation, configure separate systems (DATABASE_URL and the others).',
    );
  const id = own ?? (await home.claim(randomUUID()));
  const recorded = await records.claimInstallation(id);
  if (recorded !== id) throw foreign(database, recorded, id, home);
  return id;
}

/** The refusal of a system that belongs to another installation, with what to do. */
export function foreign(where: string, theirs: string | undefined, id: string, home: MarkedHome): Error {
  return new AnotherInstallation(
    `${where} belongs to installation ${theirs}, and ${home.where} to installation ${id}: configure the systems of one ` +
      `installation, or the other installation's home (OCDL_HOME). If this home is new and still empty, remove ${home.marker} ` +
      'and copy the folder keys of the other installation into it.',
  );
}

/**
 * Reads all systems, refuses those of another installation, records which were restored to an earlier state, then claims
 * unclaimed ones. In this order no finding is lost if the process dies.
 */
async function settle(
  installation: Installation,
  id: string,
  log: Logger,
  withinMs = PATIENT_MS,
): Promise<{ readonly findings: readonly Finding[]; readonly unseen: number }> {
  const { records, home, systems } = installation;
  const { seen, unseen } = await look(installation, withinMs);
  const other = foreignTo(id, seen);
  if (other) throw foreign(other.where, other.owner, id, home);
  const findings = compare(seen);
  // A restore was accepted while the systems were read: what was found may be what was accepted.
  if (!(await note(records, seen.records, findings, log))) return settle(installation, id, log, withinMs);
  for (const { name, owner: known } of seen.systems) {
    const system = systems.find((one) => one.name === name);
    if (!system) continue;
    const owner =
      known ??
      (await claimUnlessUnmarkable(system, id, log).catch((error: unknown) => {
        unseen.set(system, String(error));
        return undefined;
      }));
    if (owner === undefined) continue;
    if (owner !== id) throw foreign(system.where, owner, id, home);
    await records.kept(name, 0);
  }
  for (const [{ where }, why] of unseen) log.warn(`${where} could not be compared or marked: ${why}; retrying`);
  return { findings, unseen: unseen.size };
}

/** The owner of a system, which is claimed if it has none; `undefined` for a Git remote without a repository for the marker. */
export async function claimUnlessUnmarkable(
  system: MarkedSystem,
  id: string,
  log: Logger,
): Promise<string | undefined> {
  try {
    return await system.claim(id);
  } catch (error) {
    if (system.name !== 'git' || !isFailure(error, 'NotFound')) throw error;
    // The platform cannot create repositories on a remote, and earlier versions did not need one for the marker.
    log.warn(`${system.where} is not marked, so another installation that uses it is not detected: ${String(error)}`);
    return undefined;
  }
}

/** Records the findings and pauses if necessary. Returns false if they are out of date, because a restore was accepted since. */
async function note(
  records: Records,
  { tick, accepted }: RecordsKnow,
  findings: readonly Finding[],
  log: Logger,
): Promise<boolean> {
  const pausing = findings.filter(({ pauses }) => pauses);
  const entry = restoreEntry(
    'restore.found',
    `${tick}/${findings.map(({ system, kind }) => `${system}-${kind}`).join()}`,
    {
      reason: findings.map(({ text }) => text).join(' '),
      detail: { findings },
    },
  );
  if (pausing.length > 0 && !(await records.pause(pausing, entry, accepted))) return false;
  if (pausing.length === 0 && findings.length > 0) await records.record([entry], []);
  for (const { text, pauses } of findings)
    log.warn(pauses ? `${text}. Decisions and deliveries are paused: run "ocdl restore list"` : text);
  return true;
}

/** An audit entry about a restore. */
export const restoreEntry = (
  kind: string,
  key: string,
  { actor = 'platform', reason, detail }: Pick<AuditEntry, 'reason' | 'detail'> & { readonly actor?: string },
): AuditEntry => ({
  key: `${kind}/${key}`,
  project: null,
  kind,
  actor,
  subject: 'installation',
  digest: null,
  report: null,
  reason,
  detail,
  at: new Date().toISOString(),
});

async function contradicts(
  records: Pick<Records, 'known' | 'auditHash'>,
  checkpoint: Checkpoint | undefined,
): Promise<boolean> {
  if (!checkpoint) return false;
  return isUnknown(checkpoint, await records.known(), await records.auditHash(checkpoint.audit.seq));
}

/**
 * Writes a checkpoint to every system that stores them; a system that does not answer gets the next one. Returns false when
 * a system no longer holds its last checkpoint, or holds one that the records do not know, because it or the records were
 * restored to an earlier state: that one gets none.
 */
export async function keepEverywhere(
  { records, home, systems }: Pick<Installation, 'records' | 'home' | 'systems'>,
  checkpoint: Checkpoint,
  alsoSeldom: boolean,
  log: Logger,
): Promise<boolean> {
  const { kept } = await records.known();
  const whole = await Promise.all(
    [home, ...systems].map(async ({ name, where, checkpoints }) => {
      if (!checkpoints || (checkpoints.seldom && !alsoSeldom)) return true;
      try {
        // There may be several homes, so what a home held is not known. A restored Temporal pauses nothing, so it is marked again.
        if (name !== 'home' && name !== 'temporal') {
          const newest = await checkpoints.newest();
          if ((newest?.tick ?? 0) < (kept[name] ?? 0) || (await contradicts(records, newest))) return false;
        }
        await checkpoints.keep(checkpoint);
        // There may be several homes, so theirs is not recorded.
        if (name !== 'home') await records.kept(name, checkpoint.tick);
      } catch (error) {
        log.warn(`${where} could not store checkpoint ${checkpoint.tick}: ${String(error)}`);
      }
      return true;
    }),
  );
  return whole.every(Boolean);
}
