// Releases: one sequence per type, without gaps, and the fences that keep a release from going live.
import type { Records } from '../../records.ts';
import type { DeliveryState, Release } from '../../../workflows/domain/model.ts';
import { failure } from '../../failures.ts';
import type { Database, Work } from './connection.ts';
import { json, lock, transact } from './connection.ts';
import { newestNumber, numberRecords, releaseOf } from './numbers.ts';
import { limitOf } from './page.ts';

type ReleaseRecords = Pick<
  Records,
  | 'allotRelease'
  | 'announced'
  | 'manifested'
  | 'releaseCommand'
  | 'unmanifested'
  | 'release'
  | 'releases'
  | 'nextRelease'
  | 'newestRelease'
  | 'releasesOf'
  | 'fence'
  | 'fenced'
>;
type Unallotted = Parameters<Records['allotRelease']>[1];

/** The lock that a fence and a move of the live pointer both take: of the two only one can come first. */
export const releaseLock = (release: string): string => `release:${release}`;

/** Has the release been taken back? */
export async function isFenced(db: Database, release: string): Promise<boolean> {
  const found = await db
    .selectFrom('authoritative.fences')
    .select('release')
    .where('release', '=', release)
    .executeTakeFirst();
  return found !== undefined;
}

/** States that a delivery does not leave by itself. */
const ended: readonly DeliveryState[] = ['live', 'superseded', 'reverted', 'failed'];

/** Releases of a type that are announced and not taken back. */
const standing = (db: Database, type: string) =>
  db
    .selectFrom('authoritative.releases as releases')
    .select(['releases.row', 'releases.announced'])
    .where('releases.type', '=', type)
    .where('releases.announced', '=', true)
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('authoritative.fences as fence')
            .select('fence.release')
            .whereRef('fence.release', '=', 'releases.release'),
        ),
      ),
    );

/** The releases' part of Records. */
export function releaseRecords(db: Database): ReleaseRecords {
  const columns = ['row', 'announced'] as const;
  return {
    async allotRelease(commandId, release) {
      return transact(db, (trx) => allot(trx, commandId, release));
    },

    async announced(release) {
      const set = await db
        .updateTable('authoritative.releases')
        .set({ announced: true })
        .where('release', '=', release)
        .executeTakeFirst();
      if (set.numUpdatedRows === 0n) throw failure('NotFound', `there is no release ${release}`);
    },

    ...numberRecords(db),

    async release(release) {
      const found = await db
        .selectFrom('authoritative.releases')
        .select(columns)
        .where('release', '=', release)
        .executeTakeFirst();
      return found && releaseOf(found);
    },

    async releases({ type, after, limit, announced = false }) {
      let query = db
        .selectFrom('authoritative.releases')
        .select(columns)
        .where('type', '=', type)
        .where('sequence', '>', after ?? 0)
        .orderBy('sequence')
        .limit(limitOf(limit));
      if (announced) query = query.where('announced', '=', true);
      return (await query.execute()).map(releaseOf);
    },

    async nextRelease(application, type, floor) {
      const found = await standing(db, type)
        .where('sequence', '>', floor)
        .where((eb) =>
          eb.not(
            eb.exists(
              eb
                .selectFrom('projection.deliveries as delivery')
                .select('delivery.release')
                .where('delivery.application', '=', application)
                .whereRef('delivery.release', '=', 'releases.release')
                .where('delivery.state', 'in', ended),
            ),
          ),
        )
        .orderBy('sequence')
        .limit(1)
        .executeTakeFirst();
      return found && releaseOf(found);
    },

    async newestRelease(type) {
      const found = await standing(db, type).orderBy('sequence', 'desc').limit(1).executeTakeFirst();
      return found && releaseOf(found);
    },

    async releasesOf(project, model, submission) {
      return releasesOfVersion(db, { project, model, submission });
    },

    async fence(releases, commandId) {
      if (releases.length === 0) return { live: [] };
      return transact(db, (trx) => fence(trx, [...new Set(releases)].sort(), commandId));
    },

    async fenced(release) {
      return isFenced(db, release);
    },
  };
}

/** The releases of a version, by their sequence. */
export async function releasesOfVersion(
  db: Database,
  { project, model, submission }: Pick<Release, 'project' | 'model' | 'submission'>,
): Promise<readonly Release[]> {
  const found = await db
    .selectFrom('authoritative.releases')
    .select(['row', 'announced'])
    .where('project', '=', project)
    .where('model', '=', model)
    .where('submission', '=', submission)
    .orderBy('sequence')
    .execute();
  return found.map(releaseOf);
}

/** Gives a release its id and number; the same command again gets the same. */
export async function allot(trx: Work, commandId: string, release: Unallotted): Promise<Release> {
  const { project, model, submission, version, type } = release;
  await lock(trx, `sequence:${type}`);
  const allotted = await trx
    .selectFrom('authoritative.releases')
    .select(['row', 'announced'])
    .where('project', '=', project)
    .where('model', '=', model)
    .where('submission', '=', submission)
    .where('command_id', '=', commandId)
    .executeTakeFirst();
  if (allotted) return releaseOf(allotted);
  await typeMustBelong(trx, type, project);
  await nothingNewerIsLive(trx, release);
  const sequence = (await newestNumber(trx, type)) + 1;
  const made: Release = { ...release, release: `${type}-${sequence}`, sequence, state: 'allotted' };
  await trx
    .insertInto('authoritative.releases')
    .values({
      release: made.release,
      command_id: commandId,
      type,
      sequence,
      project,
      model,
      submission,
      version,
      announced: false,
      row: json(made),
    })
    .execute();
  return made;
}

async function typeMustBelong(trx: Work, type: string, project: string): Promise<void> {
  const found = await trx
    .selectFrom('authoritative.types')
    .select('project')
    .where('type', '=', type)
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no type ${type}: give it to the project first`);
  if (found.project !== project)
    throw failure(
      'NotAuthorized',
      `type ${type} belongs to project ${found.project}, ${project} may not release into it`,
    );
}

async function nothingNewerIsLive(trx: Work, { project, model, version, type }: Unallotted): Promise<void> {
  const newer = await trx
    .selectFrom('authoritative.live_pointers as pointer')
    .innerJoin('authoritative.releases as live', 'live.release', 'pointer.release')
    .select(['pointer.application', 'live.version'])
    .where('pointer.type', '=', type)
    .where('live.project', '=', project)
    .where('live.model', '=', model)
    .where('live.version', '>', version)
    .orderBy('live.version', 'desc')
    .executeTakeFirst();
  if (newer)
    throw failure(
      'Conflict',
      `version ${newer.version} of ${project}/${model} is live in ${newer.application}, so version ${version} cannot be released over it: revert ${newer.application} instead`,
      [newer.application, newer.version],
    );
}

/** All or none. What was fenced before, by whichever command, stays so: it cannot be live. */
export async function fence(
  trx: Work,
  releases: readonly string[],
  commandId: string,
): Promise<{ readonly live: readonly string[] }> {
  for (const release of releases) await lock(trx, releaseLock(release));
  const pointers = await trx
    .selectFrom('authoritative.live_pointers')
    .select('application')
    .where('release', 'in', releases)
    .orderBy('application')
    .orderBy('type')
    // Waits for moves away from these releases that are under way, and then looks again.
    .forUpdate()
    .execute();
  if (pointers.length > 0) return { live: [...new Set(pointers.map(({ application }) => application))] };
  await trx
    .insertInto('authoritative.fences')
    .values(releases.map((release) => ({ release, command_id: commandId })))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return { live: [] };
}
