// Facts about versions, each written by the activity that established it, and the transitions that follow.
import { sql } from 'kysely';
import type { Records, TransitionEntry, VersionKey } from '../../records.ts';
import { UNFILED_PAGE } from '../../records.ts';
import { isFailure } from '../../failures.ts';
import { workflowId as ids } from '../../../workflows/domain/ids.ts';
import { specOfNext, type RunSpec } from '../../../workflows/domain/model.ts';
import type { VersionStanding } from '../../../workflows/domain/standing.ts';
import type { Database, Work } from './connection.ts';
import { json, transact } from './connection.ts';
import { mustNotBePaused } from './installation.ts';
import { releasesOfVersion } from './releases.ts';
import type { VersionNow } from './standings.ts';
import { close, move, shownStanding, versionNow } from './standings.ts';
import { closeStart, insertStart } from './starts.ts';
import { versionKeyOf } from './version-decisions.ts';
import { claim, numberOf } from './versions.ts';

type FactRecords = Pick<
  Records,
  'advanceVersion' | 'recordRun' | 'run' | 'recordStaged' | 'staged' | 'recordValidation' | 'unfiled' | 'filed'
>;

/** The version-fact part of Records. */
export function versionFactRecords(db: Database): FactRecords {
  const of = ({ project, model, submission }: VersionKey) => ({ project, model, submission });
  return {
    async advanceVersion(workflowId, { revision, ended }) {
      return transact(db, async (trx) => {
        const now = await versionNow(trx, versionKeyOf(workflowId), true);
        // Another caller was faster, or a decision is in progress: the caller reads again.
        const superseded = now.version.revision !== revision || now.pending !== null || now.closed;
        return superseded ? shownStanding(now) : advance(trx, now, ended);
      });
    },

    async recordRun(key, attempt, run) {
      await db
        .insertInto('authoritative.runs')
        .values({ ...of(key), attempt, row: json(run) })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
    },

    async run(key, attempt) {
      return findRun(db, key, attempt);
    },

    async recordStaged(key, files) {
      const columns = { files: json(files), problems: null, digest: null, revises: null };
      await db
        .insertInto('authoritative.staged')
        .values({ ...of(key), ...columns })
        .onConflict((conflict) =>
          // A judged row is not changed.
          conflict
            .columns(['project', 'model', 'submission'])
            .doUpdateSet(columns)
            .where(sql<boolean>`staged.digest is null`),
        )
        .execute();
    },

    async staged(key) {
      const found = await findStaged(db, key);
      return found && { files: found.files, isJudged: found.digest !== null };
    },

    async recordValidation(key, result) {
      await db
        .updateTable('authoritative.staged')
        .set(
          'problems' in result
            ? { problems: json(result.problems) }
            : { digest: result.digest, revises: result.revises, problems: null },
        )
        .where('project', '=', key.project)
        .where('model', '=', key.model)
        .where('submission', '=', key.submission)
        .execute();
    },

    async unfiled(key) {
      const found = await db
        .selectFrom('authoritative.transitions')
        .select(['revision', 'entry'])
        .where('project', '=', key.project)
        .where('model', '=', key.model)
        .where('submission', '=', key.submission)
        .where('filed', '=', false)
        .orderBy('revision')
        .limit(UNFILED_PAGE)
        .execute();
      return found.map(({ revision, entry }) => ({ ...(JSON.parse(entry) as TransitionEntry), revision }));
    },

    async filed(key, revision) {
      await db
        .updateTable('authoritative.transitions')
        .set({ filed: true })
        .where('project', '=', key.project)
        .where('model', '=', key.model)
        .where('submission', '=', key.submission)
        .where('revision', '=', revision)
        .execute();
    },
  };
}

/** Makes the transition that follows from the facts, if any. `ended`: why the awaited step failed. */
async function advance(trx: Work, now: VersionNow, ended: string | undefined): Promise<VersionStanding> {
  const { version, attempt } = now;
  switch (version.state) {
    case 'provisioning': {
      const spec = await specOf(trx, now);
      if (!spec)
        return shownStanding(await move(trx, now, 'invalid', { set: { detail: 'there is no run to train' } }, null));
      const { project, model, submission, author } = version;
      const input = { project, model, submission, attempt, author, spec };
      const start = {
        workflowId: ids.trainingRun(input),
        type: 'trainingRun',
        input,
        askedBy: author,
        roles: [],
      } as const;
      await insertStart(trx, { ...start, project, parent: now.workflowId });
      return shownStanding(await move(trx, now, 'training', { set: { detail: `attempt ${attempt}` } }, null));
    }
    case 'training': {
      const run = await findRun(trx, version, attempt);
      if (!run && ended === undefined) return shownStanding(now);
      await closeStart(trx, ids.trainingRun({ ...version, attempt }), ended ?? 'trained');
      return shownStanding(
        run
          ? await move(trx, now, 'trained', { set: { run, detail: '' } }, null)
          : await move(trx, now, 'failed', { set: { detail: ended ?? '' } }, null),
      );
    }
    case 'validating':
      return shownStanding(await validated(trx, now, ended));
    case 'released': {
      const detail = await deliveriesSummary(trx, now);
      return shownStanding(
        detail === version.detail ? now : await move(trx, now, 'released', { set: { detail } }, null),
      );
    }
    case 'rejected':
      if (now.undoUntil !== null && Date.parse(now.undoUntil) > Date.parse(now.at)) return shownStanding(now);
      // The deadline moves when the restore is accepted: the caller waits and then reads it again.
      await mustNotBePaused(trx);
      // An undo recorded before the deadline is still to be decided.
      if (await hasOpenUndo(trx, now)) return shownStanding(now);
      await close(trx, now);
      return shownStanding({ ...now, closed: true });
    case 'failed':
    case 'trained':
    case 'new':
    case 'approved':
    case 'invalid':
    case 'rolled-back':
    case 'reassigned':
    case 'retired':
    case 'withdrawn':
      return shownStanding(now);
  }
}

async function validated(trx: Work, now: VersionNow, ended: string | undefined): Promise<VersionNow> {
  const { version } = now;
  const invalid = (detail: string) => move(trx, now, 'invalid', { set: { detail } }, null);
  const staged = await findStaged(trx, version);
  if (!staged?.digest) {
    const problems = staged?.problems?.join('\n') ?? ended;
    return problems === undefined ? now : invalid(problems);
  }
  const { digest, files, revises } = staged;
  try {
    await claim(trx, version, digest);
  } catch (error) {
    if (!isFailure(error, 'Conflict') || !(error instanceof Error)) throw error;
    return invalid(error.message);
  }
  const set = { digest, files, revises, version: await numberOf(trx, version), detail: '' };
  return move(trx, now, 'new', { set, approvals: [] }, null);
}

async function hasOpenUndo(trx: Work, { workflowId, undoUntil }: VersionNow): Promise<boolean> {
  const found = await trx
    .selectFrom('authoritative.commands')
    .select('command_id')
    .where('workflow_id', '=', workflowId)
    .where('status', '=', 'open')
    .where('name', '=', 'undo')
    .where('recorded_at', '<=', undoUntil ?? new Date(0).toISOString())
    .executeTakeFirst();
  return undoUntil !== null && found !== undefined;
}

async function specOf(trx: Work, { workflowId, version }: VersionNow): Promise<RunSpec | undefined> {
  const start = await trx
    .selectFrom('authoritative.starts')
    .select('input')
    .where('workflow_id', '=', workflowId)
    .executeTakeFirst();
  const input = start && (JSON.parse(start.input) as { beginning?: { run?: RunSpec } });
  const requested = input?.beginning?.run;
  return requested && specOfNext(requested, version);
}

/** Names the deliveries that have ended. Those on their way have pages of their own, and would make a transition of each step. */
async function deliveriesSummary(trx: Work, now: VersionNow): Promise<string> {
  const ended = now.deliveries.filter(({ state }) => !['received', 'gating', 'deploying'].includes(state));
  const lines = ended.map(
    ({ application, release, state, detail }) => `${release}: ${state} in ${application}${detail && ` (${detail})`}`,
  );
  const newest = (await releasesOfVersion(trx, now.version)).filter(({ state }) => state === 'announced').at(-1);
  return lines.join('\n') || `released as ${newest?.release ?? 'nothing'}`;
}

async function findRun(db: Database, key: VersionKey, attempt: number) {
  const found = await db
    .selectFrom('authoritative.runs')
    .select('row')
    .where('project', '=', key.project)
    .where('model', '=', key.model)
    .where('submission', '=', key.submission)
    .where('attempt', '=', attempt)
    .executeTakeFirst();
  return found?.row;
}

async function findStaged(db: Database, key: VersionKey) {
  return db
    .selectFrom('authoritative.staged')
    .selectAll()
    .where('project', '=', key.project)
    .where('model', '=', key.model)
    .where('submission', '=', key.submission)
    .executeTakeFirst();
}
