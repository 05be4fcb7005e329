// Verifies that every approval, release and move is based on a decision, and every decision on a command signed by the platform.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import type { CommandBody, PublicKeys, SignedCommand } from '../../../workflows/domain/command.ts';
import { verifies } from './commands.ts';
import type { Database, Work } from './connection.ts';
import type { DecisionDetail } from './schema.ts';

/** Decisions per read: a few megabytes. */
const WALK = 1_000;
/** Maximum number of problems listed. */
const MOST_REPORTED = 100;

/** The part of Records that verifies decisions. */
export function decisionAuditRecords(db: Database): Pick<Records, 'verifyDecisions'> {
  return {
    async verifyDecisions() {
      // One snapshot, so that decisions and what is based on them are from the same moment.
      return db
        .transaction()
        .setIsolationLevel('repeatable read')
        .setAccessMode('read only')
        .execute(async (trx) => {
          const { checked, problems } = await walk(trx);
          for (const look of [approvalsWithout, releasesWithout, movesWithout, pointersWithout])
            problems.push(...(await look(trx)));
          const rest = problems.length - MOST_REPORTED;
          return { checked, problems: rest > 0 ? [...problems.slice(0, MOST_REPORTED), `${rest} more`] : problems };
        });
    },
  };
}

/** Each decision with its command, in the order they were made. */
async function walk(trx: Work): Promise<{ checked: number; problems: string[] }> {
  const found = await trx.selectFrom('authoritative.signing_keys').select(['key_id', 'public_key']).execute();
  const keys = Object.fromEntries(found.map(({ key_id, public_key }) => [key_id, public_key]));
  const problems: string[] = [];
  let checked = 0;
  for (let after = 0; ;) {
    const page = await trx
      .selectFrom('authoritative.decisions as d')
      .innerJoin('authoritative.commands as c', (join) =>
        join.onRef('c.workflow_id', '=', 'd.workflow_id').onRef('c.command_id', '=', 'd.command_id'),
      )
      .select(['d.ordinal', 'd.workflow_id', 'd.command_id', 'd.name', 'd.actor', 'd.reason', 'd.report', 'd.digest'])
      .select(['d.revision', 'd.detail', 'c.command'])
      .where('d.ordinal', '>', after)
      .orderBy('d.ordinal')
      .limit(WALK)
      .execute();
    for (const row of page) {
      checked += 1;
      const problem = problemOf(row, keys);
      if (problem !== undefined) problems.push(`decision ${row.command_id} of ${row.workflow_id} ${problem}`);
    }
    const end = page.at(-1);
    if (!end || page.length < WALK) return { checked, problems };
    after = end.ordinal;
  }
}

interface Decided {
  readonly workflow_id: string;
  readonly command_id: string;
  readonly name: string;
  readonly actor: string;
  readonly reason: string;
  readonly report: string | null;
  readonly digest: string | null;
  readonly revision: number;
  readonly detail: DecisionDetail;
  readonly command: string;
}

/** The problem with a decision; undefined if its command is signed and says the same. */
function problemOf(row: Decided, keys: PublicKeys): string | undefined {
  const command = parse(row.command);
  if (!command) return 'has a malformed command';
  const { body, signature } = command;
  const key = Object.hasOwn(keys, body.keyId) ? keys[body.keyId] : undefined;
  if (key === undefined) return `is signed with ${body.keyId}, which is not a key of the platform`;
  if (!verifies(body, signature, key)) return 'is not signed by the platform';
  const other = differences(row, body);
  return other.length === 0 ? undefined : `differs from its command in ${other.join(', ')}`;
}

function parse(text: string): SignedCommand | undefined {
  try {
    const { body, signature } = JSON.parse(text) as Partial<SignedCommand>;
    return typeof body === 'object' && typeof signature === 'string' ? { body, signature } : undefined;
  } catch {
    return undefined;
  }
}

function differences(row: Decided, body: CommandBody): readonly string[] {
  const pairs = {
    workflow: [row.workflow_id, body.workflowId],
    command: [row.command_id, body.commandId],
    name: [row.name, body.name],
    actor: [row.actor, body.actor],
    reason: [row.reason, body.args.reason ?? ''],
    report: [row.report, body.report],
    digest: [row.digest, body.digest],
    revision: [row.revision, body.revision],
    // A release gets its number from the decision; a revert names a release.
    release: body.name === 'revert' ? [row.detail.release, body.args.release] : [],
  };
  return Object.entries(pairs).flatMap(([name, [decided, given]]) => (decided === given ? [] : [name]));
}

const problemsFrom = async (query: ReturnType<typeof sql<{ problem: string }>>, trx: Work) =>
  (await query.execute(trx)).rows.map(({ problem }) => problem);

/** Approvals that versions show or count without a decision, and approved versions without approvals. */
async function approvalsWithout(trx: Work): Promise<readonly string[]> {
  return problemsFrom(
    sql<{ problem: string }>`
      with version as (
        select 'model/' || project || '/' || model || '/' || submission as id, state, approvals, row->'decisions' as decisions
        from authoritative.standings
      ), approval as (
        select id, a->>'actor' as actor, a->>'commandId' as command from version, jsonb_array_elements(approvals) a
        union
        select id, d->>'actor', d->>'commandId' from version, jsonb_array_elements(decisions) d where d->>'name' = 'approve'
      )
      select 'approval ' || command || ' of ' || id || ' by ' || actor || ' has no decision' as problem from approval
      where not exists (
        select from authoritative.decisions x
        where x.workflow_id = id and x.command_id = command and x.name = 'approve' and x.actor = approval.actor)
      union all
      select id || ' is ' || state || ' without an approval' from version
      where state in ('approved', 'released') and not decisions @> '[{"name": "approve"}]'
      limit ${MOST_REPORTED + 1}`,
    trx,
  );
}

/** Published releases without a decision. */
async function releasesWithout(trx: Work): Promise<readonly string[]> {
  return problemsFrom(
    sql<{ problem: string }>`
      select 'release ' || r.release || ' has no decision' as problem from authoritative.releases r
      where r.announced and not exists (${releaseDecision(sql`r`)}) limit ${MOST_REPORTED + 1}`,
    trx,
  );
}

/**
 * Moves of live pointers without a decision. Only a person moves a pointer back or to nothing; a forward move needs a
 * decided release.
 */
async function movesWithout(trx: Work): Promise<readonly string[]> {
  return problemsFrom(
    sql<{ problem: string }>`
      select 'move ' || m.generation || ' of ' || m.application || '/' || m.type || ' to ' || coalesce(m.release, 'nothing')
        || ' has no decision' as problem
      from authoritative.moves m left join authoritative.releases r on r.release = m.release
      where m.generation is not null
        and not exists (
          select from authoritative.decisions x
          where x.workflow_id = 'application/' || m.application || '/' || m.type and x.revision = m.generation - 1
            and case when m.release is null then x.name = 'take-down'
              else x.name = 'revert' and x.detail->>'release' = m.release end)
        and (m.release is null
          or exists (select from authoritative.moves b where b.application = m.application and b.type = m.type
            and b.release = m.release and b.generation < m.generation)
          or not exists (${releaseDecision(sql`r`)}))
      limit ${MOST_REPORTED + 1}`,
    trx,
  );
}

/** Pointers that differ from their last move. */
async function pointersWithout(trx: Work): Promise<readonly string[]> {
  return problemsFrom(
    sql<{ problem: string }>`
      select 'the live pointer of ' || p.application || '/' || p.type || ' does not match its last move' as problem
      from authoritative.live_pointers p
      left join lateral (
        select generation, release from authoritative.moves m
        where m.application = p.application and m.type = p.type and m.generation is not null
        order by m.generation desc limit 1) m on true
      where (coalesce(m.generation, 0), m.release) is distinct from (p.generation, p.release)
      limit ${MOST_REPORTED + 1}`,
    trx,
  );
}

/** The first schema version with starts and decisions. */
const FIRST_WITH_DECISIONS = 4;

/**
 * The decision that gave a release its number. A release in progress when the database was migrated to decisions has none
 * until its lifecycle is migrated too: its command is only in Temporal. Such a release counts if the start that the
 * migration wrote for it is still open and there are signed approvals of exactly its bytes.
 */
const releaseDecision = (r: ReturnType<typeof sql>) => sql`
  select from authoritative.decisions x
  where x.workflow_id = 'model/' || ${r}.project || '/' || ${r}.model || '/' || ${r}.submission
    and x.command_id = ${r}.command_id and x.name = 'release'
  union all
  select from authoritative.starts s
  join authoritative.standings v on (v.project, v.model, v.submission) = (${r}.project, ${r}.model, ${r}.submission)
  join authoritative.decisions x on x.workflow_id = s.parent and x.name = 'approve'
    and x.digest = ${r}.row->>'digest' and x.digest = v.row->>'digest'
  where s.workflow_id = 'release/' || ${r}.release and s.type = 'release' and s.earlier and s.closed_at is null
    and s.parent = 'model/' || ${r}.project || '/' || ${r}.model || '/' || ${r}.submission
    and v.state = 'approved' and not v.closed
    and s.recorded_at = (select applied_at from authoritative.migrations where version = ${FIRST_WITH_DECISIONS})`;
