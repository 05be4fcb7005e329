// The Model Center's lists: each page is one query, filtered and sorted by indexes for any combination of filters.
import { sql } from 'kysely';
import type { Records, VersionFilter } from '../../records.ts';
import type { Database } from './connection.ts';
import { cursorOf, limitOf, cutPage, placeOf, sortedCursor } from './page.ts';

/** Sort orders of lists: column, cast and format of its keys, and direction. */
const orders = {
  newest: { column: 'updated_at', cast: sql.raw('timestamptz'), key: /^[0-9][0-9 :.+-]{18,40}( BC)?$/, way: 'desc' },
  oldest: { column: 'updated_at', cast: sql.raw('timestamptz'), key: /^[0-9][0-9 :.+-]{18,40}( BC)?$/, way: 'asc' },
  number: { column: 'number', cast: sql.raw('integer'), key: /^[0-9]{1,9}$/, way: 'desc' },
} as const;

/** A page of versions. */
export async function listVersions(db: Database, filter: VersionFilter): ReturnType<Records['versions']> {
  const { project, model, type, state, author, tag, text, order = 'newest' } = filter;
  const { column, cast, key, way } = orders[order];
  const [after, limit] = [placeOf(filter, order, key), limitOf(filter.limit)];
  let query = db
    .selectFrom('projection.version_index')
    .select(['ordinal', column])
    .where('project', '=', project)
    .orderBy(column, way)
    .orderBy('ordinal', way)
    .limit(limit + 1);
  if (model !== undefined) query = query.where('model', '=', model);
  if (type !== undefined) query = query.where('type', '=', type);
  if (state !== undefined) query = query.where('state', '=', state);
  if (author !== undefined) query = query.where('author', '=', author);
  if (tag !== undefined) query = query.where(sql<boolean>`tags @> array[${`${project}/${tag}`}]`);
  const words = text === undefined ? '' : prefixes(text);
  if (words !== '') query = query.where(sql<boolean>`words @@ to_tsquery('simple', ${words})`);
  if (after !== undefined)
    query = query.where(
      sql<boolean>`(${sql.ref(column)}, ordinal) ${sql.raw(way === 'asc' ? '>' : '<')} (${after.key}::${cast}, ${after.ordinal})`,
    );
  // Full version rows are read only for the page, regardless of the number of matches.
  const page = db
    .selectFrom(query.as('found'))
    .innerJoin('projection.versions as version', 'version.ordinal', 'found.ordinal')
    .select(['version.summary', 'found.ordinal', sql<string>`${sql.ref(`found.${column}`)}::text`.as('key')])
    .orderBy(`found.${column}`, way)
    .orderBy('found.ordinal', way);
  return cutPage(
    await page.execute(),
    limit,
    (row) => sortedCursor(order, row),
    ({ summary }) => summary,
  );
}

/** Each word as a prefix, split at ASCII punctuation as in the column `words`. */
const prefixes = (text: string): string =>
  text
    .split(/[\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+/)
    .filter(Boolean)
    .map((word) => `'${word}':*`)
    .join(' & ');

/** A page of evaluations. */
export async function listEvaluations(
  db: Database,
  { project, model, submission, seenBy, ...page }: Parameters<Records['evaluations']>[0],
): ReturnType<Records['evaluations']> {
  const [after, limit] = [cursorOf(page), limitOf(page.limit)];
  let all = db
    .selectFrom('projection.evaluations')
    .select(['ordinal', 'row'])
    .where('project', '=', project)
    .orderBy('ordinal', 'desc')
    .limit(limit + 1);
  if (model !== undefined) all = all.where('model', '=', model);
  if (submission !== undefined) all = all.where('submission', '=', submission);
  if (after !== undefined) all = all.where('ordinal', '<', after);
  // Each part is read by its own index, so that other people's rows cost nothing.
  const query = seenBy
    ? db
        .selectFrom(
          db
            .selectFrom(all.where('actor', '=', seenBy.user).as('own'))
            .selectAll()
            .unionAll(
              db
                .selectFrom(
                  (seenBy.all ? all.where('submission', 'is not', null) : all.where('author', '=', seenBy.user)).as(
                    'others',
                  ),
                )
                .selectAll(),
            )
            .as('seen'),
        )
        .selectAll()
        .distinctOn('ordinal')
        .orderBy('ordinal', 'desc')
        .limit(limit + 1)
    : all;
  return cutPage(
    await query.execute(),
    limit,
    ({ ordinal }) => ordinal,
    ({ row }) => row,
  );
}
