// The Model Center's lists: each page is one query, filtered and sorted by indexes for any combination of filters.
import { sql, type RawBuilder } from 'kysely';
import type { Records, VersionFilter, VersionSummary } from '../../records.ts';
import type { Database } from './connection.ts';
import { cursorOf, limitOf, cutPage, placeOf, sortedCursor, type Place } from './page.ts';

/** Sort orders of lists: column, cast and format of its keys, and direction. */
const orders = {
  newest: { column: 'updated_at', cast: sql.raw('timestamptz'), key: /^[0-9][0-9 :.+-]{18,40}( BC)?$/, way: 'desc' },
  oldest: { column: 'updated_at', cast: sql.raw('timestamptz'), key: /^[0-9][0-9 :.+-]{18,40}( BC)?$/, way: 'asc' },
  number: { column: 'number', cast: sql.raw('integer'), key: /^[0-9]{1,9}$/, way: 'desc' },
} as const;

/**
 * Versions that are looked at one by one, in the list's order, before the index of terms is asked. Walking reads neighbours
 * and stops when the page is full; the index of terms reads exactly the matching versions, but all of them and wherever
 * they are. Among 100,000 versions both cost the same where one version in some 120 matches: a page is then full after so many.
 */
const WALK = 6_000;
/** The same where each version's words are looked up by its ordinal, which costs several times as much. */
const WALK_TO_WORDS = 500;
/** As many characters of a word as the index of terms has. */
const TERM = 12;

/** A condition on versions: in SQL over `v`, a row of the version index, and as what the index of terms finds it by. */
interface Condition {
  readonly name: 'model' | 'tag' | 'author' | 'state' | 'type' | 'text';
  readonly holds: RawBuilder<boolean>;
  /** An array of terms. */
  readonly terms: RawBuilder<unknown>;
}

/** A page of versions. */
export async function listVersions(db: Database, asked: VersionFilter): ReturnType<Records['versions']> {
  const { text, ...others } = asked;
  // A blank text is no condition; signs that are no words are in no version.
  const filter: VersionFilter = text === undefined || text.trim() === '' ? others : asked;
  if (filter.text !== undefined && wordsOf(filter.text).length === 0) return { rows: [] };
  const { order = 'newest' } = filter;
  const { key } = orders[order];
  const [after, limit] = [placeOf(filter, order, key), limitOf(filter.limit)];
  const page = pageQuery(filter, order, after, limit + 1);
  // Full version rows are read only for the page, regardless of the number of matches.
  const { rows } = await sql<{ summary: VersionSummary; ordinal: number; key: string }>`
    ${page.found}
    select version.summary, found.ordinal, found.key::text as key
    from found join projection.versions version on version.ordinal = found.ordinal
    order by found.key ${page.way}, found.ordinal ${page.way} limit ${limit + 1}`.execute(db);
  return cutPage(
    rows,
    limit,
    (row) => sortedCursor(order, row),
    ({ summary }) => summary,
  );
}

/** The common table expression `found` with the page's ordinals and keys. */
function pageQuery(filter: VersionFilter, order: keyof typeof orders, after: Place | undefined, most: number) {
  const { project } = filter;
  const { column, cast, way: direction } = orders[order];
  const [key, way] = [sql.ref(column), sql.raw(direction)];
  const conditions = conditionsOf(filter);
  const sorted = sql`order by key ${way}, ordinal ${way}`;
  const beyond = after
    ? sql`and (v.${key}, v.ordinal) ${sql.raw(direction === 'asc' ? '>' : '<')} (${after.key}::${cast}, ${after.ordinal})`
    : sql``;
  // The first condition with an index in the list's order: first those that are usually the rarest, then the state, whose
  // versions are often all new or all old.
  const lead = conditions.find(
    ({ name }) => name !== 'text' && (order !== 'number' || name === 'model' || name === 'tag'),
  );
  const others = conditions.filter((condition) => condition !== lead);
  const isTag = lead?.name === 'tag';
  const inOrder = isTag
    ? sql`from projection.version_tags v where v.project = ${project} and v.tag = ${filter.tag}`
    : sql`from projection.version_index v where v.project = ${project} ${lead ? sql`and ${lead.holds}` : sql``}`;
  if (others.length === 0)
    return {
      way,
      found: sql`with found as (select v.ordinal, v.${key} as key ${inOrder} ${beyond} ${sorted} limit ${most})`,
    };
  const holds = sql.join(
    others.map((other) => other.holds),
    sql` and `,
  );
  // Rows of a tag have all columns, but no words.
  const walk =
    isTag && others.some(({ name }) => name === 'text')
      ? sql`select walk.ordinal, walk.key
        from (select v.ordinal, v.${key} as key ${inOrder} ${beyond} ${sorted} limit ${WALK_TO_WORDS}) walk
        cross join lateral (
          select ${holds} as holds from projection.version_index v where v.ordinal = walk.ordinal offset 0) row
        where row.holds`
      : sql`select walk.ordinal, walk.key
        from (select v.ordinal, v.${key} as key, ${holds} as holds ${inOrder} ${beyond} ${sorted} limit ${WALK}) walk
        where walk.holds`;
  const terms = sql.join(
    conditions.map((condition) => condition.terms),
    sql` || `,
  );
  return {
    way,
    found: sql`with walked as materialized (${walk} ${sorted} limit ${most}),
      searched as materialized (
        select hit.ordinal, hit.key
        from (select v.ordinal, v.${key} as key, ${holds} ${beyond} as holds from projection.version_index v
          -- A text without letters has no terms, and every version would have all of them.
          where (select count(*) from walked) < ${most} and cardinality(${terms}) > 0
            and projection.version_terms(v.project, v.model, v.type, v.state, v.author, v.tags, v.words) @> (${terms})
          -- So that no other index is read as well.
          offset 0) hit
        where hit.holds),
      found as (select ordinal, key from walked union select ordinal, key from searched ${sorted} limit ${most})`,
  };
}

function conditionsOf({ project, model, tag, author, state, type, text }: VersionFilter): readonly Condition[] {
  const equal = (name: 'model' | 'author' | 'state' | 'type', value: string | undefined): readonly Condition[] =>
    value === undefined
      ? []
      : [{ name, holds: sql`v.${sql.ref(name)} = ${value}`, terms: sql`array[${`${name}:${project}/${value}`}]` }];
  const words = text === undefined ? [] : wordsOf(text);
  return [
    ...equal('model', model),
    ...(tag === undefined
      ? []
      : [
          {
            name: 'tag' as const,
            holds: sql<boolean>`v.tags @> array[${`${project}/${tag}`}]`,
            terms: sql`array[${`tag:${project}/${tag}`}]`,
          },
        ]),
    ...equal('state', state),
    ...equal('author', author),
    ...equal('type', type),
    ...(words.length === 0
      ? []
      : [
          {
            name: 'text' as const,
            holds: sql<boolean>`v.words @@ to_tsquery('simple', ${words.map((word) => `'${word}':*`).join(' & ')})`,
            // PostgreSQL reads the words as it read those of the versions.
            terms: sql`array(select ${`word:${project}/`} || left(word, ${TERM})
              from unnest(tsvector_to_array(to_tsvector('simple', ${words.join(' ')}))) word)`,
          },
        ]),
  ];
}

/** Split at ASCII punctuation, as in the column `words`. */
const wordsOf = (text: string): readonly string[] =>
  text.split(/[\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+/).filter(Boolean);

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
