// Data sets: registered once, referenced by runs and evaluations, deleted only while nothing references them.
import { isDeepStrictEqual } from 'node:util';
import { sql } from 'kysely';
import type { DataSetReference, Records } from '../../records.ts';
import { REFERENCES_LIMIT } from '../../records.ts';
import { NAME_PATTERN } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import { append, writeOnce } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json, lock, transact } from './connection.ts';
import { cutPage, limitOf, placeOf, sortedCursor } from './page.ts';

type DataSetRecords = Pick<
  Records,
  | 'draftDataSet'
  | 'dropDraft'
  | 'registerDataSet'
  | 'dataSet'
  | 'dataSets'
  | 'deletedDataSet'
  | 'nameDataSets'
  | 'deleteDataSet'
  | 'unsweptDataSets'
  | 'sweptDataSet'
>;

/**
 * Removing an attempt's files takes seconds. An attempt whose process died while clearing blocks the name no longer than
 * this.
 */
const CLEARING = sql`interval '1 minute'`;

/** The order of the list in its cursors. */
const BY_NAME = 'dataset';

/** The data-set part of Records. */
export function dataSetRecords(db: Database): DataSetRecords {
  const there = (project: string) =>
    db
      .selectFrom('authoritative.data_sets')
      .select('row')
      .where('project', '=', project)
      .where('deleted_at', 'is', null);
  return {
    async draftDataSet({ project, dataset, attempt, step }) {
      return transact(db, async (trx) => {
        await lock(trx, draftLock(project, dataset));
        const known = await stored(trx, project, dataset);
        if (known) return known.deleted_at ? 'deleted' : 'registered';
        const draft = await draftOf(trx, project, dataset);
        const isOthers = draft !== undefined && draft.attempt !== attempt;
        if (isOthers && (step === 'clear' || draft.isClearing)) return 'busy';
        const columns = { attempt, step, drafted_at: sql<string>`now()` };
        await trx
          .insertInto('authoritative.data_set_drafts')
          .values({ project, dataset, ...columns })
          .onConflict((conflict) => conflict.columns(['project', 'dataset']).doUpdateSet(columns))
          .execute();
        return 'taken';
      });
    },

    async dropDraft(project, dataset, attempt) {
      await db
        .deleteFrom('authoritative.data_set_drafts')
        .where('project', '=', project)
        .where('dataset', '=', dataset)
        .where('attempt', '=', attempt)
        .execute();
    },

    async registerDataSet(dataset, audit, attempt) {
      await writeOnce(db, audit, async (trx) => {
        const { project, dataset: name } = dataset;
        await lock(trx, draftLock(project, name));
        const known = await stored(trx, project, name);
        if (known?.deleted_at)
          throw failure(
            'Conflict',
            `data set ${name} of ${project} was deleted, and its name stays reserved: choose another name`,
          );
        // The first registration's author and time are kept; the content must be the same.
        if (known && !isSame(known.row, dataset))
          throw failure(
            'Conflict',
            `data set ${name} of ${project} exists with other files: data sets are immutable, choose another name`,
          );
        if (known) return;
        if (attempt !== undefined && (await draftOf(trx, project, name))?.attempt !== attempt)
          throw failure(
            'Conflict',
            `data set ${name} of ${project} is being registered by a newer request: try again later`,
          );
        await trx
          .insertInto('authoritative.data_sets')
          .values({ project, dataset: name, row: json(dataset) })
          .execute();
        await trx
          .deleteFrom('authoritative.data_set_drafts')
          .where('project', '=', project)
          .where('dataset', '=', name)
          .execute();
      });
    },

    async dataSet(project, dataset) {
      return (await there(project).where('dataset', '=', dataset).executeTakeFirst())?.row;
    },

    async dataSets({ project, ...page }) {
      const [after, limit] = [placeOf(page, BY_NAME, NAME_PATTERN)?.key, limitOf(page.limit)];
      const name = sql`dataset collate "C"`;
      let query = there(project)
        .select('dataset')
        .orderBy(name)
        .limit(limit + 1);
      if (after !== undefined) query = query.where(name, '>', after);
      return cutPage(
        await query.execute(),
        limit,
        ({ dataset: key }) => sortedCursor(BY_NAME, { key, ordinal: 0 }),
        ({ row }) => row,
      );
    },

    async deletedDataSet(project, dataset) {
      const found = await db
        .selectFrom('authoritative.data_sets')
        .select('row')
        .where('project', '=', project)
        .where('dataset', '=', dataset)
        .where('deleted_at', 'is not', null)
        .executeTakeFirst();
      return found?.row;
    },

    async nameDataSets(project, datasets, { kind, name }) {
      await transact(db, async (trx) => {
        // Sorted, so that concurrent callers wait for a deletion in the same order.
        for (const dataset of [...new Set(datasets)].sort()) {
          const found = await trx
            .selectFrom('authoritative.data_sets')
            .select('deleted_at')
            .where('project', '=', project)
            .where('dataset', '=', dataset)
            .forShare()
            .executeTakeFirst();
          if (!found || found.deleted_at)
            throw failure('NotFound', `there is no data set ${dataset} in project ${project}`);
          await trx
            .insertInto('authoritative.data_set_uses')
            .values({ project, dataset, kind, name })
            .onConflict((conflict) => conflict.doNothing())
            .execute();
        }
      });
    },

    async deleteDataSet(project, dataset, audit) {
      return transact(db, async (trx) => {
        const found = await trx
          .selectFrom('authoritative.data_sets')
          .select('deleted_at')
          .where('project', '=', project)
          .where('dataset', '=', dataset)
          .forUpdate()
          .executeTakeFirst();
        if (!found) throw failure('NotFound', `there is no data set ${dataset} in project ${project}`);
        if (found.deleted_at) return { references: [] };
        const references = await referencesOf(trx, project, dataset);
        if (references.length > 0) return { references };
        await trx
          .updateTable('authoritative.data_sets')
          .set({ deleted_at: sql<string>`now()` })
          .where('project', '=', project)
          .where('dataset', '=', dataset)
          .execute();
        await append(trx, [audit]);
        return { references };
      });
    },

    async unsweptDataSets(limit) {
      const found = await db
        .selectFrom('authoritative.data_sets')
        .select('row')
        .where('deleted_at', 'is not', null)
        .where('swept_at', 'is', null)
        .orderBy('deleted_at')
        .limit(limit)
        .execute();
      return found.map(({ row }) => row);
    },

    async sweptDataSet(project, dataset) {
      await db
        .updateTable('authoritative.data_sets')
        .set({ swept_at: sql<string>`coalesce(swept_at, now())` })
        .where('project', '=', project)
        .where('dataset', '=', dataset)
        .where('deleted_at', 'is not', null)
        .execute();
    },
  };
}

const draftLock = (project: string, dataset: string): string => `data-set:${project}/${dataset}`;

const stored = (trx: Work, project: string, dataset: string) =>
  trx
    .selectFrom('authoritative.data_sets')
    .select(['row', 'deleted_at'])
    .where('project', '=', project)
    .where('dataset', '=', dataset)
    .executeTakeFirst();

const draftOf = (trx: Work, project: string, dataset: string) =>
  trx
    .selectFrom('authoritative.data_set_drafts')
    .select(['attempt', sql<boolean>`step = 'clear' and drafted_at > now() - ${CLEARING}`.as('isClearing')])
    .where('project', '=', project)
    .where('dataset', '=', dataset)
    .executeTakeFirst();

type Content = Parameters<Records['registerDataSet']>[0];
const isSame = (known: Content, given: Content): boolean =>
  known.kind === given.kind && isDeepStrictEqual(known.files, JSON.parse(json(given.files)));

/**
 * A run counts while its version is on record, an evaluation while it is open or a decision is based on its report, an
 * import while it is in progress. A private test is visible only to its actor, so it is not listed.
 */
async function referencesOf(trx: Work, project: string, dataset: string): Promise<readonly DataSetReference[]> {
  const { rows } = await sql<DataSetReference>`
    select u.kind, u.name from authoritative.data_set_uses u
    join projection.versions v on v.project = u.project
      and v.model = split_part(u.name, '/', 1) and v.submission = split_part(u.name, '/', 2)
    where u.project = ${project} and u.dataset = ${dataset} and u.kind = 'run'
    union
    select u.kind, case when e.submission is null then '(a private test)' else u.name end
    from authoritative.data_set_uses u
    join projection.evaluations e on e.project = u.project and e.evaluation = u.name
    where u.project = ${project} and u.dataset = ${dataset} and u.kind = 'evaluation' and (
      e.row->>'state' = 'running'
      or exists (
        select from projection.versions v, jsonb_array_elements(v.row->'decisions') decision
        where v.project = e.project and v.model = e.model and v.submission = e.submission
          and decision->>'report' = e.row #>> '{report,sha256}'))
    union
    select 'import', i.import from projection.imports i
    where i.project = ${project} and i.standing < 2 and i.row->>'dataset' = ${dataset}
    order by 1, 2
    limit ${REFERENCES_LIMIT}`.execute(trx);
  return rows;
}
