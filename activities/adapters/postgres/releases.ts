// Releases: one gapless sequence per type, and the fences that keep a release from going live.
import type { RawBuilder } from 'kysely';
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import type { Release, StandingRelease, Withdrawal } from '../../../workflows/domain/model.ts';
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
  | 'releasesOf'
  | 'fence'
  | 'fenced'
>;
type Unallotted = Parameters<Records['allotRelease']>[1];

/** The lock that both a fence and a move of the live pointer take, so that only one of them comes first. */
export const releaseLock = (release: string): string => `release:${release}`;

/** Whether the release has been withdrawn. */
export async function isFenced(db: Database, release: string): Promise<boolean> {
  const found = await db
    .selectFrom('authoritative.fences')
    .select('release')
    .where('release', '=', release)
    .executeTakeFirst();
  return found !== undefined;
}

/** A release's row; `NotFound` without one. */
export async function releaseRow(db: Database, release: string): Promise<Release> {
  const found = await db
    .selectFrom('authoritative.releases')
    .select('row')
    .where('release', '=', release)
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no release ${release}`);
  return found.row;
}

/** The number before the type's newest announced release that is not withdrawn; null without one. */
export const beforeNewest = (type: RawBuilder<unknown>) => sql<number | null>`(
  select max(r.sequence) - 1 from authoritative.releases r
  where r.type = ${type} and r.announced
    and not exists (select from authoritative.fences f where f.release = r.release))`;

/**
 * Releases with the decision that withdrew each. A failed release is fenced by its own command, which says why it failed.
 * For fences from before decisions were recorded, the decision is in the version's row.
 */
const asTheyStand = (db: Database) =>
  db
    .selectFrom('authoritative.releases as one')
    .leftJoin('authoritative.fences as fence', 'fence.release', 'one.release')
    .leftJoin('authoritative.decisions as decision', (join) =>
      join
        .onRef('decision.command_id', '=', 'fence.command_id')
        .on(
          'decision.workflow_id',
          '=',
          sql<string>`'model/' || one.project || '/' || one.model || '/' || one.submission`,
        ),
    )
    .leftJoin('authoritative.commands as command', (join) =>
      join
        .onRef('command.workflow_id', '=', 'decision.workflow_id')
        .onRef('command.command_id', '=', 'decision.command_id'),
    )
    .leftJoin('projection.versions as version', (join) =>
      join
        .onRef('version.project', '=', 'one.project')
        .onRef('version.model', '=', 'one.model')
        .onRef('version.submission', '=', 'one.submission')
        .on('fence.command_id', 'is not', null)
        .on('decision.command_id', 'is', null),
    )
    .select([
      'one.row',
      'one.announced',
      sql<Withdrawal | null>`case
        when fence.command_id is null then null
        when decision.command_id is not null then jsonb_build_object(
          'decision', decision.name, 'by', decision.actor, 'at', to_json(decision.at),
          'reason', case when decision.status = 'failed' then command.message else decision.reason end)
        else (
          select jsonb_build_object('decision', d->>'name', 'by', d->>'actor', 'at', d->>'at', 'reason', d->>'reason')
          from jsonb_array_elements(version.row->'decisions') d where d->>'commandId' = fence.command_id limit 1)
        end`.as('withdrawn'),
      'fence.command_id as fence',
    ]);

type Found = { row: Release; announced: boolean; withdrawn: Withdrawal | null; fence: string | null };

function standingOf({ withdrawn, fence, ...found }: Found): StandingRelease {
  const known = withdrawn && { ...withdrawn, at: new Date(withdrawn.at).toISOString() };
  // A fence without a recorded decision: the release is withdrawn all the same.
  const unknown = { decision: '', by: '', reason: 'no decision is recorded', at: found.row.releasedAt };
  return { ...releaseOf(found), withdrawn: fence === null ? null : (known ?? unknown) };
}

/** The release part of Records. */
export function releaseRecords(db: Database): ReleaseRecords {
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
      const found = await asTheyStand(db).where('one.release', '=', release).executeTakeFirst();
      return found && standingOf(found);
    },

    async releases({ type, after, limit, announced = false }) {
      let query = asTheyStand(db)
        .where('one.type', '=', type)
        .where('one.sequence', '>', after ?? 0)
        .orderBy('one.sequence')
        .limit(limitOf(limit));
      if (announced) query = query.where('one.announced', '=', true);
      return (await query.execute()).map(standingOf);
    },

    async releasesOf(project, model, submission) {
      const query = asTheyStand(db)
        .where('one.project', '=', project)
        .where('one.model', '=', model)
        .where('one.submission', '=', submission)
        .orderBy('one.sequence');
      return (await query.execute()).map(standingOf);
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

/** The releases of a version, by sequence. */
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

/** Allots a release's id and number. Idempotent per command. */
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
  if (!found) throw failure('NotFound', `there is no type ${type}: add it to the project first`);
  if (found.project !== project)
    throw failure(
      'NotAuthorized',
      `type ${type} belongs to project ${found.project}, so ${project} may not release into it`,
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

/** Fences all of the releases or none. A release that is already fenced, by any command, stays fenced: it cannot be live. */
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
    // Waits for moves in progress on these pointers, then reads again.
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
