// Migrates work that was open before starts and decisions were recorded to the tables that now decide.
import { sql } from 'kysely';
import type { Approval } from '../../../workflows/domain/approval.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import { finalStates } from '../../../workflows/domain/lifecycle.ts';
import type { Application, Delivery, Evaluation, RunSpec, Scan, Version } from '../../../workflows/domain/model.ts';
import type { Import } from '../../../workflows/domain/import.ts';
import type { NewStart } from '../../records.ts';
import type { Work } from './connection.ts';
import { json } from './connection.ts';
import { recordEarlierCommands } from './earlier-commands.ts';
import { inputDigest } from './starts.ts';

type Open = Omit<NewStart, 'roles'>;

/** Writes standings, facts and start rows for everything that the projections show as open, and earlier commands. */
export async function recordEarlierStarts(trx: Work): Promise<void> {
  const requests = await startedRequests(trx);
  // First, because a release whose command is not among them is in progress.
  await recordEarlierCommands(trx);
  for (const { row } of await trx.selectFrom('projection.versions').select('row').orderBy('ordinal').execute())
    await bringVersion(trx, row, requests);
  for (const { row } of await trx.selectFrom('projection.evaluations').select('row').orderBy('ordinal').execute())
    await bringEvaluation(trx, row, requests);
  for (const { row } of await trx.selectFrom('projection.deliveries').select('row').orderBy('ordinal').execute())
    await bringDelivery(trx, row);
  for (const { row } of await trx.selectFrom('authoritative.applications').select('row').execute())
    await bringApplication(trx, row);
  for (const { row } of await trx.selectFrom('projection.scans').select('row').orderBy('ordinal').execute())
    await bringScan(trx, row);
  for (const { row } of await trx.selectFrom('projection.imports').select('row').orderBy('ordinal').execute())
    await bringImport(trx, row, requests);
}

/**
 * Versions whose state was final when the earlier program stopped, but whose lifecycle had not closed them: closing always freed
 * their bytes. They get an open start, so that the lifecycle ends instead of being refused; it closes the start (`begin`).
 */
export async function recordEarlierClosings(trx: Work): Promise<void> {
  const left = await trx
    .selectFrom('authoritative.standings as s')
    .select('s.row')
    .where('s.closed', '=', true)
    // Versions of the present program have a start.
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('authoritative.starts as t')
            .select('t.workflow_id')
            .where(sql<boolean>`t.workflow_id = 'model/' || s.project || '/' || s.model || '/' || s.submission`),
        ),
      ),
    )
    .where((eb) =>
      eb.not(
        eb.exists(
          eb
            .selectFrom('authoritative.digest_claims as c')
            .select('c.submission')
            .whereRef('c.project', '=', 's.project')
            .whereRef('c.model', '=', 's.model')
            .whereRef('c.submission', '=', 's.submission')
            .where('c.freed', '=', true),
        ),
      ),
    )
    .execute();
  const requests = left.length > 0 ? await startedRequests(trx) : new Map<string, Record<string, unknown>>();
  for (const { row } of left) {
    const { project, model, submission, author } = row;
    const id = workflowId.modelLifecycle(row);
    await trx
      .updateTable('authoritative.digest_claims')
      .set({ freed: true })
      .where('project', '=', project)
      .where('model', '=', model)
      .where('submission', '=', submission)
      .execute();
    await open(trx, {
      ...{ workflowId: id, type: 'modelLifecycle', askedBy: author, project },
      input: lifecycleInput(row, requests),
    });
    await trx.updateTable('authoritative.starts').set({ brought_over: true }).where('workflow_id', '=', id).execute();
  }
}

/** The input of a version's lifecycle, as far as it is known. */
function lifecycleInput(row: Version, requests: ReadonlyMap<string, Record<string, unknown>>) {
  const { project, model, type, submission, author } = row;
  const request = requests.get(`version.started/${workflowId.modelLifecycle(row)}`);
  const beginning = (request?.['beginning'] as { run?: RunSpec; directory?: string } | undefined) ?? {
    directory: submission,
  };
  return { project, model, type, submission, author, beginning };
}

/** The original requests of started work, by the key of its audit row. */
async function startedRequests(trx: Work): Promise<ReadonlyMap<string, Record<string, unknown>>> {
  const rows = await sql<{ key: string; entry: string }>`
    select key, entry from authoritative.audit
    where key like 'version.started/%' or key like 'evaluation.started/%' or key like 'import.started/%'`.execute(trx);
  return new Map(
    rows.rows.map(({ key, entry }) => {
      const parsed = JSON.parse(entry) as { detail?: { request?: Record<string, unknown> } };
      return [key, parsed.detail?.request ?? {}];
    }),
  );
}

async function bringVersion(
  trx: Work,
  row: Version,
  requests: ReadonlyMap<string, Record<string, unknown>>,
): Promise<void> {
  const { project, model, submission, author, state, revision, decisions, updatedAt, digest } = row;
  const closed = (finalStates as readonly string[]).includes(state);
  const id = workflowId.modelLifecycle(row);
  const since = decisions.findLastIndex(({ name }) => name === 'undo');
  const approvals: Approval[] = decisions
    .slice(since + 1)
    .filter(({ name }) => name === 'approve')
    .map(({ actor, commandId, at }) => ({ actor, policyVersion: 1, commandId, at }));
  const attempt = row.run?.attempt ?? Number(/^attempt (\d+)$/.exec(row.detail)?.[1] ?? 1);
  const policy = await trx
    .selectFrom('authoritative.projects')
    .select('policy')
    .where('project', '=', project)
    .executeTakeFirst();
  const given = approvals.map((one) => ({ ...one, policyVersion: policy?.policy.version ?? 1 }));
  const rejectedAt = decisions.findLast(({ name }) => name === 'reject')?.at ?? updatedAt;
  const undoUntil = new Date(Date.parse(rejectedAt) + (policy?.policy.undoWithinSeconds ?? 0) * 1000).toISOString();
  await trx
    .insertInto('authoritative.standings')
    .values({
      ...{ project, model, submission, state, revision, attempt, approvals: json(given), row: json(row), closed },
      ...{ new_since: digest === null ? null : updatedAt, undo_until: state === 'rejected' ? undoUntil : null },
    })
    .execute();
  if (row.run)
    await trx
      .insertInto('authoritative.runs')
      .values({ project, model, submission, attempt: row.run.attempt, row: json(row.run) })
      .execute();
  if (digest !== null)
    await trx
      .insertInto('authoritative.staged')
      .values({ project, model, submission, files: json(row.files), problems: null, digest, revises: row.revises })
      .execute();
  if (closed) return;
  const input = lifecycleInput(row, requests);
  const { beginning } = input;
  await open(trx, { workflowId: id, type: 'modelLifecycle', input, askedBy: author, project });
  if (state === 'training' && beginning.run) {
    const run = { project, model, submission, attempt, author, spec: beginning.run };
    const child = workflowId.trainingRun(run);
    await open(trx, { workflowId: child, type: 'trainingRun', input: run, askedBy: author, project, parent: id });
  }
  // Not announced or not decided: only the signal in its lifecycle's history says who requested it.
  const releases = await trx
    .selectFrom('authoritative.releases as r')
    .select('r.release')
    .where('r.project', '=', project)
    .where('r.model', '=', model)
    .where('r.submission', '=', submission)
    .where((eb) =>
      eb.or([
        eb('r.announced', '=', false),
        eb.not(
          eb.exists(
            eb
              .selectFrom('authoritative.decisions as d')
              .select('d.command_id')
              .where('d.workflow_id', '=', id)
              .whereRef('d.command_id', '=', 'r.command_id')
              .where('d.name', '=', 'release'),
          ),
        ),
      ]),
    )
    .execute();
  for (const { release } of releases) {
    const released = { project, model, submission, release };
    const child = workflowId.release(released);
    await open(trx, { workflowId: child, type: 'release', input: released, askedBy: author, project, parent: id });
  }
}

async function bringEvaluation(
  trx: Work,
  row: Evaluation,
  requests: ReadonlyMap<string, Record<string, unknown>>,
): Promise<void> {
  const { project, evaluation, model, submission, actor, dataset, digest, report, metrics, updatedAt } = row;
  const id = workflowId.evaluation(row);
  if (row.state === 'running') {
    const request = requests.get(`evaluation.started/${id}`);
    const subject = (request?.['subject'] as EvaluationSubject | undefined) ?? { submission: submission ?? '' };
    const input = { project, evaluation, model, actor, dataset, subject };
    await open(trx, { workflowId: id, type: 'evaluation', input, askedBy: actor, project });
    return;
  }
  if (row.state !== 'done' || submission === null || digest === null || report === null) return;
  if (!/(^|\/)staging\//.test(report.uri)) return;
  const members = await trx
    .selectFrom('authoritative.members')
    .select('roles')
    .where('project', '=', project)
    .where('name', '=', actor)
    .executeTakeFirst();
  await trx
    .insertInto('authoritative.evidence')
    .values({
      ...{ project, evaluation, model, submission, digest, report: report.sha256, dataset, actor },
      // The requester's role was not stored then. The current role is used instead.
      ...{ as_manager: members?.roles.includes('manager') ?? false, begun_at: updatedAt, metrics: json(metrics) },
    })
    .execute();
  await sql`
    update authoritative.standings set new_since = least(new_since, ${updatedAt}::timestamptz)
    where project = ${project} and model = ${model} and submission = ${submission}`.execute(trx);
}

type EvaluationSubject = { readonly submission: string } | { readonly directory: string };

async function bringDelivery(trx: Work, row: Delivery): Promise<void> {
  const { application, release, type, gates } = row;
  for (const { gate, passed, detail, seconds } of gates)
    await trx
      .insertInto('authoritative.gate_results')
      .values({ application, release, gate, passed, detail, seconds })
      .execute();
  if (!['received', 'gating', 'deploying'].includes(row.state)) return;
  const parent = workflowId.application({ application, type });
  const input = { application, type, release };
  const child = workflowId.delivery(input);
  await open(trx, { workflowId: child, type: 'delivery', input, askedBy: application, project: null, parent });
}

async function bringApplication(trx: Work, { application, project, owner, types }: Application): Promise<void> {
  for (const type of types) {
    const input = { application, type };
    const id = workflowId.application(input);
    await open(trx, { workflowId: id, type: 'application', input, askedBy: owner, project });
    // It starts after the releases it has handled.
    await sql`
      update authoritative.live_pointers set floor = coalesce((
        select min(r.sequence) - 1 from projection.deliveries d join authoritative.releases r on r.release = d.release
        where d.application = ${application} and r.type = ${type}), floor)
      where application = ${application} and type = ${type}`.execute(trx);
  }
}

async function bringScan(trx: Work, row: Scan): Promise<void> {
  const { project, scan, application } = row;
  const id = workflowId.feedback(row);
  await open(trx, { workflowId: id, type: 'feedback', input: { project, scan }, askedBy: application, project });
}

async function bringImport(
  trx: Work,
  row: Import,
  requests: ReadonlyMap<string, Record<string, unknown>>,
): Promise<void> {
  if (row.state !== 'resolving' && row.state !== 'fetching') return;
  const { project, dataset, source, unpack, actor } = row;
  const id = workflowId.dataImport(row);
  const sha256 = requests.get(`import.started/${id}`)?.['sha256'] ?? null;
  const input = { project, import: row.import, dataset, source, unpack, sha256, actor };
  await open(trx, { workflowId: id, type: 'dataImport', input, askedBy: actor, project });
}

async function open(trx: Work, { workflowId: id, type, input, askedBy, project, parent = null }: Open): Promise<void> {
  await trx
    .insertInto('authoritative.starts')
    .values({
      ...{ workflow_id: id, type, input: JSON.stringify(input), input_digest: inputDigest(input), asked_by: askedBy },
      ...{ roles: json([]), project, parent, earlier: true, run_id: null, restart_at: null, closed_at: null },
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}
