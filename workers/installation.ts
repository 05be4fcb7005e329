// Each process of the platform belongs to one installation: compared with every system at its start, and watched afterwards.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isFailure } from '../activities/failures.ts';
import {
  compare,
  type Checkpoint,
  type Finding,
  type MarkedSystem,
  type RecordsKnow,
} from '../activities/installation.ts';
import type { AuditEntry, Records } from '../activities/records.ts';
import { addManifests } from '../activities/release-manifest.ts';
import { foreignTo, look, type Installation } from './look.ts';
import type { MarkedHome } from './marked-systems.ts';

/** A system that does not answer holds up no start: the platform says so, and looks again, with more patience. */
const FIRST_MS = 5_000;
const PATIENT_MS = 30_000;
/** How soon a system is looked at again that did not answer, and how often checkpoints are due. */
const LOOK_AGAIN_MS = 15_000;

/** This process does not belong to the installation that a system carries. */
export class AnotherInstallation extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AnotherInstallation';
  }
}

/** What a process knows of itself once it belongs. */
export interface Belonging {
  readonly id: string;
  /** What was found at the start. */
  readonly findings: readonly Finding[];
  /** Stops looking; with `checkpoints` a last one is written. */
  stop(): Promise<void>;
}

/**
 * Claims what nobody has claimed and compares what the systems know. Rejects with the reason and the way out where one belongs
 * to another installation. Systems that were set back pause decisions and deliveries. `onRefused` is called when a system that
 * did not answer at the start turns out to be another installation's.
 */
export async function belong(
  installation: Installation,
  options: {
    readonly log: Logger;
    readonly onRefused: (error: Error) => void;
    /** Writes checkpoints as well; one process of a platform is enough. */
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
    // Set back while we run.
    if ((newest?.tick ?? 0) > (await records.known()).tick) return void (await settle(installation, id, log));
    if (releases) await addManifests(records, releases);
    const isDue = Date.now() - state.seldomAt >= SELDOM_MS;
    const checkpoint = await records.checkpoint(false);
    if (checkpoint === undefined) return;
    if (isDue) state.seldomAt = Date.now();
    await keepEverywhere(installation, checkpoint, isDue, log);
  }

  const work = { running: Promise.resolve() };
  const turn = (): void => {
    work.running = work.running.then(round).catch((error: unknown) => {
      if (error instanceof AnotherInstallation) options.onRefused(error);
      else log.warn({ error: String(error) }, 'the systems could not be compared; they are looked at again');
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
      // The last audit rows of this run, in every system.
      state.seldomAt = 0;
      turn();
      await Promise.race([work.running, sleep(lastMs, undefined, { ref: false })]);
    },
  };
}

/** Commits and updates of a namespace cost more than files. */
const SELDOM_MS = 3_600_000;
/** Less than the supervisor waits for a worker. */
const LAST_MS = 2_000;

/** The id that home and records agree on. The home comes first: of two new homes on one database only one gets it. */
async function claimOwn({ records, database, home }: Installation): Promise<string> {
  const { installation } = await records.known();
  const own = await home.owner();
  if (own === undefined && installation !== undefined)
    throw new AnotherInstallation(
      `${home.where} has no marker, and ${database} belongs to installation ${installation}. To run more processes of that ` +
        `installation here, copy its folder keys into this home. If that folder is lost for good, run "ocdl restore accept" here. ` +
        'For a new installation, configure systems of its own (DATABASE_URL and the others).',
    );
  const id = own ?? (await home.claim(randomUUID()));
  const recorded = await records.claimInstallation(id);
  if (recorded !== id) throw foreign(database, recorded, id, home);
  return id;
}

function foreign(where: string, theirs: string | undefined, id: string, home: MarkedHome): Error {
  return new AnotherInstallation(
    `${where} belongs to installation ${theirs}, and ${home.where} to installation ${id}: configure the systems of one ` +
      `installation, or the home of the other (OCDL_HOME). If this home is new and holds nothing yet, remove ${home.marker} ` +
      'and copy the folder keys of the other installation into it.',
  );
}

/** Looks, refuses what is another's, notes what was set back, then claims what is nobody's: in this order nothing gets lost. */
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
  await note(records, seen.records, findings, log);
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
  for (const [{ where }, why] of unseen)
    log.warn(`${where} could not be compared or marked: ${why}; it is tried again`);
  return { findings, unseen: unseen.size };
}

/** Whose a system is, claimed if it is nobody's; `undefined` for a Git remote without a repository for the marker. */
export async function claimUnlessUnmarkable(
  system: MarkedSystem,
  id: string,
  log: Logger,
): Promise<string | undefined> {
  try {
    return await system.claim(id);
  } catch (error) {
    if (system.name !== 'git' || !isFailure(error, 'NotFound')) throw error;
    // A remote makes no repositories, and those of earlier platforms have none for this.
    log.warn(`${system.where} is not marked, so another installation there is not noticed: ${String(error)}`);
    return undefined;
  }
}

async function note(records: Records, { tick }: RecordsKnow, findings: readonly Finding[], log: Logger): Promise<void> {
  for (const { text, pauses } of findings)
    log.warn(pauses ? `${text}. Decisions and deliveries pause: run "ocdl restore list"` : text);
  const pausing = findings.filter(({ pauses }) => pauses);
  const entry = restoreEntry(
    'restore.found',
    `${tick}/${findings.map(({ system, kind }) => `${system}-${kind}`).join()}`,
    {
      reason: findings.map(({ text }) => text).join(' '),
      detail: { findings },
    },
  );
  if (pausing.length > 0) await records.pause(pausing, entry);
  else if (findings.length > 0) await records.record([entry], []);
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

/** Writes a checkpoint to every system that keeps them; one that does not answer gets a later one. */
export async function keepEverywhere(
  { records, home, systems }: Pick<Installation, 'records' | 'home' | 'systems'>,
  checkpoint: Checkpoint,
  alsoSeldom: boolean,
  log: Logger,
): Promise<void> {
  await Promise.all(
    [home, ...systems].map(async ({ name, where, checkpoints }) => {
      if (!checkpoints || (checkpoints.seldom && !alsoSeldom)) return;
      try {
        await checkpoints.keep(checkpoint);
        // Of a home there may be several.
        if (name !== 'home') await records.kept(name, checkpoint.tick);
      } catch (error) {
        log.warn(`${where} did not take checkpoint ${checkpoint.tick}: ${String(error)}`);
      }
    }),
  );
}
