// The live pointer of each (application, type): moved only by compare-and-set, with its full history.
import type { Selectable } from 'kysely';
import { sql } from 'kysely';
import type { AuditEntry, Records } from '../../records.ts';
import type { LivePointer } from '../../../workflows/domain/model.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import { failure } from '../../failures.ts';
import { append } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { lock, transact } from './connection.ts';
import { mustNotBePaused } from './installation.ts';
import { setDelivery } from './projections.ts';
import { isFenced, releaseLock } from './releases.ts';
import type { Tables } from './schema.ts';
import { closeStart } from './starts.ts';
import { cursorOf, cutPage, limitOf } from './page.ts';

type LiveRecords = Pick<Records, 'livePointer' | 'moveLivePointer' | 'liveAt' | 'liveHistory'>;
type Move = Parameters<Records['moveLivePointer']>[0];
type Answer = Awaited<ReturnType<Records['moveLivePointer']>>;

/** The live-pointer part of Records. */
export function liveRecords(db: Database): LiveRecords {
  return {
    async livePointer(application, type) {
      const found = await db
        .selectFrom('authoritative.live_pointers')
        .selectAll()
        .where('application', '=', application)
        .where('type', '=', type)
        .executeTakeFirst();
      return found ? pointerOf(found) : nothingLive(application, type);
    },

    async moveLivePointer(move, audit) {
      return transact(db, async (trx) => {
        await mustNotBePaused(trx);
        return answer(trx, move, audit);
      });
    },

    async liveAt(application, type, at) {
      if (Number.isNaN(Date.parse(at))) throw failure('InvalidInput', `"at" is not a valid time: use ISO 8601`);
      const [found] = await history(db, application, type)
        .where('moved_at', '<=', new Date(at).toISOString())
        .limit(1)
        .execute();
      return found ? pointerOf(found) : nothingLive(application, type);
    },

    async liveHistory({ application, type, ...page }) {
      const [after, limit] = [cursorOf(page), limitOf(page.limit)];
      let query = history(db, application, type).limit(limit + 1);
      if (after !== undefined) query = query.where('generation', '<', after);
      return cutPage(await query.execute(), limit, ({ generation }) => generation, pointerOf);
    },
  };
}

async function answer(trx: Work, move: Move, audit: AuditEntry): Promise<Answer> {
  const { key, application, type, release, revert } = move;
  await lock(trx, `key:${key}`);
  const first = await firstAnswer(trx, move);
  if (first) return first;
  await lockApplication(trx, application);
  // Lock the release before the pointer's row, in the same order as a fence, to avoid a deadlock.
  await lock(trx, releaseLock(release));
  const sequence = await sequenceOf(trx, release, type);
  const pointer = await trx
    .selectFrom('authoritative.live_pointers')
    .selectAll()
    .where('application', '=', application)
    .where('type', '=', type)
    .forUpdate()
    .executeTakeFirst();
  if (!pointer) throw failure('NotFound', `there is no application ${application} that consumes type ${type}`);
  await mustConsume(trx, application, type);
  // Not stored: generations only grow, so a retry gets the same answer.
  if (pointer.generation !== move.generation) return { moved: false, why: 'generation' };
  const isAllowed = revert
    ? await isEarlier(trx, pointer, release)
    : pointer.release === null ||
      (sequence > (await sequenceOf(trx, pointer.release, type)) &&
        !(await isOlderVersion(trx, release, pointer.release)));
  const why = (await isFenced(trx, release)) ? 'fenced' : isAllowed ? null : 'older';
  // The currently configured gates count. Not stored: the same move is allowed after they have run.
  if (why === null && !revert && (await hasOpenGates(trx, application, release))) return { moved: false, why: 'gates' };
  const generation = why ? null : pointer.generation + 1;
  const { moved_at } = await trx
    .insertInto('authoritative.moves')
    .values({
      key,
      application,
      type,
      release,
      generation,
      refused: why,
      // The database's clock, read under the lock and never decreasing, so that times follow the order of generations.
      moved_at: why
        ? null
        : sql<string>`greatest(date_trunc('milliseconds', clock_timestamp()), ${pointer.moved_at}::timestamptz)`,
    })
    .returning('moved_at')
    .executeTakeFirstOrThrow();
  if (why || generation === null) return { moved: false, why: why ?? 'older' };
  await trx
    .updateTable('authoritative.live_pointers')
    // A release between this one and a later revert's target must not go live by itself.
    .set({ generation, release, moved_at, floor: sql<number>`greatest(floor, ${sequence}::integer)` })
    .where('application', '=', application)
    .where('type', '=', type)
    .execute();
  await moveDeliveries(trx, move, pointer.release, audit.at);
  if (!revert) await closeStart(trx, workflowId.delivery({ application, release }), 'live');
  await append(trx, [audit]);
  return { moved: true, pointer: { application, type, generation, release, movedAt: moved_at } };
}

/** Its types and gates cannot change until the transaction ends. Before the pointer's row, as in a change of the application. */
async function lockApplication(trx: Work, application: string): Promise<void> {
  await trx
    .selectFrom('authoritative.applications')
    .select('application')
    .where('application', '=', application)
    .forShare()
    .executeTakeFirst();
}

/** Call with the application's row locked: a change that removes the type is either seen here, or waits and sees this move. */
async function mustConsume(trx: Work, application: string, type: string): Promise<void> {
  const found = await trx
    .selectFrom('authoritative.applications')
    .select('row')
    .where('application', '=', application)
    .executeTakeFirst();
  if (!found?.row.types.includes(type))
    throw failure('NotFound', `application ${application} no longer consumes type ${type}`);
}

/** The first answer for this key. A key used for a different move is a bug in the caller. */
async function firstAnswer(trx: Work, { key, application, type, release }: Move): Promise<Answer | undefined> {
  const first = await trx.selectFrom('authoritative.moves').selectAll().where('key', '=', key).executeTakeFirst();
  if (!first) return undefined;
  if (first.application !== application || first.type !== type || first.release !== release)
    throw failure(
      'Conflict',
      `the key ${key} belongs to another move, of ${first.application} (${first.type}) to ${first.release}: use a new key for each move`,
    );
  if (first.refused) return { moved: false, why: first.refused };
  return { moved: true, pointer: pointerOf({ ...first, generation: first.generation ?? 0 }) };
}

async function sequenceOf(trx: Work, release: string, type: string): Promise<number> {
  const found = await trx
    .selectFrom('authoritative.releases')
    .select(['sequence', 'type'])
    .where('release', '=', release)
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no release ${release}`);
  if (found.type !== type) throw failure('InvalidInput', `release ${release} is of type ${found.type}, not ${type}`);
  return found.sequence;
}

/** Whether it is an older version of the model that is live. Only a revert goes back. */
async function isOlderVersion(trx: Work, release: string, live: string): Promise<boolean> {
  const found = await trx
    .selectFrom('authoritative.releases as next')
    .innerJoin('authoritative.releases as now', (join) =>
      join.onRef('now.project', '=', 'next.project').onRef('now.model', '=', 'next.model'),
    )
    .select('next.version')
    .where('next.release', '=', release)
    .where('now.release', '=', live)
    .whereRef('next.version', '<', 'now.version')
    .executeTakeFirst();
  return found !== undefined;
}

/** Whether the newest result of some gate of the application for this release is not a pass. */
async function hasOpenGates(trx: Work, application: string, release: string): Promise<boolean> {
  const found = await sql<{ gate: string }>`
    select wanted.gate from authoritative.applications a, jsonb_array_elements_text(a.row->'gates') as wanted(gate)
    where a.application = ${application} and not coalesce((
      select g.passed from authoritative.gate_results g
      where g.application = a.application and g.release = ${release} and g.gate = wanted.gate
      order by g.ordinal desc limit 1), false)`.execute(trx);
  return found.rows.length > 0;
}

/** Whether the release was live there before and is not live now. Only such a release can be reverted to. */
export async function isEarlier(
  trx: Work,
  pointer: Pick<LivePointer, 'application' | 'type' | 'release'>,
  release: string,
): Promise<boolean> {
  if (pointer.release === release) return false;
  const found = await history(trx, pointer.application, pointer.type)
    .where('release', '=', release)
    .limit(1)
    .executeTakeFirst();
  return found !== undefined;
}

/** Updates the delivery rows of the newly live and the previously live release, in the pointer's transaction. */
export async function moveDeliveries(
  trx: Work,
  {
    application,
    type,
    release,
    revert,
  }: Pick<Move, 'application' | 'type' | 'revert'> & { readonly release: string | null },
  former: string | null,
  at: string,
): Promise<void> {
  const left = release === null ? 'taken-down' : revert ? 'reverted' : 'superseded';
  const states = [
    ...(release === null ? [] : [{ release, state: 'live' as const }]),
    ...(former === null ? [] : [{ release: former, state: left } as const]),
  ];
  states.sort((a, b) => (a.release < b.release ? -1 : 1));
  for (const { release: of, state } of states) {
    const known = await trx
      .selectFrom('projection.deliveries')
      .select('row')
      .where('application', '=', application)
      .where('release', '=', of)
      .forUpdate()
      .executeTakeFirst();
    const row = known?.row ?? { application, release: of, type, gates: [], detail: '' };
    // The workflows' clock, as in all other delivery rows, so that times are comparable.
    const updatedAt = known && Date.parse(known.row.updatedAt) > Date.parse(at) ? known.row.updatedAt : at;
    await setDelivery(trx, { ...row, state, updatedAt });
  }
}

function history(db: Database, application: string, type: string) {
  return db
    .selectFrom('authoritative.moves')
    .select(['application', 'type', 'release', 'moved_at'])
    .select(sql<number>`generation`.as('generation'))
    .where('application', '=', application)
    .where('type', '=', type)
    .where('generation', 'is not', null)
    .orderBy('generation', 'desc');
}

const nothingLive = (application: string, type: string): LivePointer => ({
  application,
  type,
  generation: 0,
  release: null,
  movedAt: null,
});

function pointerOf(row: Omit<Selectable<Tables['authoritative.live_pointers']>, 'floor'>): LivePointer {
  const { application, type, generation, release, moved_at } = row;
  return { application, type, generation, release, movedAt: moved_at };
}
