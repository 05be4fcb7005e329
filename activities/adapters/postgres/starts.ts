// Starts: which workflows may run, recorded before they run. A workflow without an open row does nothing.
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { sql } from 'kysely';
import type { NewStart } from '../../records.ts';
import { failure } from '../../failures.ts';
import { systemName } from '../../../workflows/domain/names.ts';
import { append } from './audit.ts';
import type { Work } from './connection.ts';
import { clockNow, json } from './connection.ts';

/** SHA-256 of an input's RFC 8785 form. Workflows compute the same (workflows/start-digest.ts). */
export const inputDigest = (input: object): string =>
  createHash('sha256')
    .update(canonicalize(input) ?? '')
    .digest('hex');

/** Records a start unless it exists. `reopen`: the same workflow runs once more. */
export async function insertStart(trx: Work, start: NewStart, reopen = false): Promise<'recorded' | 'there'> {
  const { workflowId, type, input, askedBy, roles, project, parent = null } = start;
  const digest = inputDigest(input);
  const made = await trx
    .insertInto('authoritative.starts')
    .values({
      ...{ workflow_id: workflowId, type, input: JSON.stringify(input), input_digest: digest },
      ...{ asked_by: askedBy, roles: json(roles), project, parent, run_id: null, restart_at: null, closed_at: null },
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (made.numInsertedOrUpdatedRows !== 0n) return 'recorded';
  const known = await trx
    .selectFrom('authoritative.starts')
    .select(['input_digest', 'earlier', 'closed_at'])
    .where('workflow_id', '=', workflowId)
    .executeTakeFirstOrThrow();
  if (known.input_digest !== digest && !known.earlier)
    throw failure('Conflict', `${workflowId} exists with other content: choose another id`);
  if (reopen && known.closed_at !== null)
    await trx
      .updateTable('authoritative.starts')
      .set({ closed_at: null, run_id: null, detail: '' })
      .where('workflow_id', '=', workflowId)
      .execute();
  return 'there';
}

/**
 * Whether the workflow has ended. The start cannot change until the transaction ends, so a later close sees what this
 * transaction wrote.
 */
export async function hasEnded(trx: Work, workflowId: string): Promise<boolean> {
  const found = await trx
    .selectFrom('authoritative.starts')
    .select('closed_at')
    .where('workflow_id', '=', workflowId)
    .forShare()
    .executeTakeFirst();
  return found !== undefined && found.closed_at !== null;
}

export const endedMessage = (workflowId: string): string => `${workflowId} has ended and takes no more commands`;

/** Closes a start: from here on, only the run that closed it may clean up, and its job's tokens are revoked. */
export async function closeStart(trx: Work, workflowId: string, detail = ''): Promise<void> {
  const closed = await trx
    .updateTable('authoritative.starts')
    .set({ closed_at: sql<string>`clock_timestamp()`, detail })
    .where('workflow_id', '=', workflowId)
    .where('closed_at', 'is', null)
    .returning(['type', clockNow.as('at')])
    .executeTakeFirst();
  if (closed && runsJobs.includes(closed.type)) await revokeJobTokens(trx, workflowId, closed.at);
}

const runsJobs: readonly string[] = ['trainingRun', 'evaluation'];

/** Revokes tokens left by a worker that died or lost its run. */
async function revokeJobTokens(trx: Work, workflowId: string, at: string): Promise<void> {
  const job = systemName(workflowId);
  const left = await trx
    .selectFrom('authoritative.tokens')
    .select('token_id')
    .where('name', '=', job)
    .where('kind', '=', 'job')
    .where('revoked_at', 'is', null)
    .execute();
  if (left.length === 0) return;
  const ids = left.map(({ token_id }) => token_id);
  // The audit first, as in a single revocation, so that the two cannot deadlock.
  await append(
    trx,
    ids.map((tokenId) => ({
      ...{ key: `token/${tokenId}/revoked`, project: null, kind: 'token.revoked', actor: 'platform' },
      ...{ subject: workflowId, digest: null, report: null, reason: '', detail: { job }, at },
    })),
  );
  await trx
    .updateTable('authoritative.tokens')
    .set({ revoked_at: at })
    .where('token_id', 'in', ids)
    .where('revoked_at', 'is', null)
    .execute();
}
