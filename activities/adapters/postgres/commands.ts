// Commands: recorded before they are signalled, consumed by the deciding transaction, with their outcome.
import { createHash, createPublicKey, verify } from 'node:crypto';
import canonicalize from 'canonicalize';
import { sql } from 'kysely';
import type { AuditEntry, DecisionNote } from '../../records.ts';
import { failure } from '../../failures.ts';
import type { CommandBody, Outcome, SignedCommand } from '../../../workflows/domain/command.ts';
import type { Refusal } from '../../../workflows/domain/lifecycle.ts';
import type { Pending } from '../../../workflows/domain/standing.ts';
import { append } from './audit.ts';
import type { Database, Work } from './connection.ts';
import { json } from './connection.ts';
import { mustNotBePaused } from './installation.ts';
import type { DecisionDetail } from './schema.ts';

/** The subject of a command, for the audit. */
export interface Subject {
  readonly project: string | null;
  readonly subject: string;
}

/** A command in the transaction that decides it. */
export interface Taken extends Subject {
  readonly workflowId: string;
  readonly command: SignedCommand;
  readonly body: CommandBody;
  readonly isOpen: boolean;
  /** ISO 8601 */
  readonly recordedAt: string;
}

/**
 * Locks the recorded command until the transaction ends. A command that is not recorded yet (sent before commands were
 * recorded) is recorded if the platform signed it. Throws a retryable error while decisions are paused.
 * @throws NotAuthorized if there is neither a row nor a signature by the platform
 */
export async function takeCommand(trx: Work, workflowId: string, given: SignedCommand, about: Subject): Promise<Taken> {
  const { row } = await take(trx, workflowId, given, about);
  if (row.status === 'open') await mustNotBePaused(trx);
  const command = JSON.parse(row.command) as SignedCommand;
  return {
    ...{ workflowId, command, body: command.body, isOpen: row.status === 'open', recordedAt: row.recorded_at },
    ...{ project: row.project, subject: row.subject },
  };
}

/** Locks a recorded command, or records it. `made`: it was not recorded before. */
async function take(trx: Work, workflowId: string, given: SignedCommand, about: Subject) {
  const known = await find(trx, workflowId, given.body.commandId);
  return known ? { row: known, made: false } : record(trx, workflowId, given, about);
}

/**
 * Records a command, or takes the one recorded under its id. Either is locked until the transaction ends. `made`: it was
 * not recorded before.
 * @throws NotAuthorized if there is neither a row nor a signature by the platform
 */
export async function record(trx: Work, workflowId: string, given: SignedCommand, { project, subject }: Subject) {
  const { body } = given;
  if (body.workflowId !== workflowId || !(await isSigned(trx, given))) {
    const known = await find(trx, workflowId, body.commandId);
    if (known) return { row: known, made: false };
    throw failure('NotAuthorized', `command ${body.commandId} is not recorded and not signed by the platform`);
  }
  const made = await trx
    .insertInto('authoritative.commands')
    .values({
      ...{ workflow_id: workflowId, command_id: body.commandId, project, subject, actor: body.actor, name: body.name },
      ...{ mark: markOf(body), command: canonicalize(given) ?? '', status: 'open', reason: null, settled_at: null },
    })
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
  if (made) return { row: made, made: true };
  const row = await find(trx, workflowId, body.commandId);
  if (!row) throw new Error(`command ${body.commandId} was recorded but cannot be read`);
  return { row, made: false };
}

const find = (trx: Work, workflowId: string, commandId: string) =>
  trx
    .selectFrom('authoritative.commands')
    .selectAll()
    .where('workflow_id', '=', workflowId)
    .where('command_id', '=', commandId)
    .forUpdate()
    .executeTakeFirst();

/** Whether a registered key signed the command. Ed25519 (RFC 8032) over RFC 8785 canonical JSON. */
export async function isSigned(db: Database, { body, signature }: SignedCommand): Promise<boolean> {
  const found = await db
    .selectFrom('authoritative.signing_keys')
    .select('public_key')
    .where('key_id', '=', body.keyId)
    .where('retired_at', 'is', null)
    .executeTakeFirst();
  return found !== undefined && verifies(body, signature, found.public_key);
}

/** Whether the signature matches the body under this public key (32 bytes in hexadecimal). */
export function verifies(body: CommandBody, signature: string, publicKey: string): boolean {
  const text = canonicalize(body);
  if (text === undefined) return false;
  try {
    // RFC 8410: the DER form of an Ed25519 key is this prefix followed by the key.
    const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from(publicKey, 'hex')]);
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    return verify(null, Buffer.from(text, 'utf8'), key, Buffer.from(signature, 'base64url'));
  } catch {
    return false;
  }
}

/** Identifies a command by its content, without the time, because the API stamps each sending with a new one. */
export function markOf({ name, args, actor, revision, digest, report }: CommandBody): string {
  const same = canonicalize({ name, args, actor, revision, digest, report }) ?? '';
  return createHash('sha256').update(same).digest('hex');
}

/** Records a refusal. The command is consumed, nothing else changes. */
export async function refuse(trx: Work, taken: Taken, { refused, message }: Refusal): Promise<void> {
  await settle(trx, taken, { status: 'refused', reason: refused, message });
  await append(trx, [entryOf(taken, 'command.refused', 'refused', message, { reason: refused })]);
}

/** Records that an accepted command could not be carried out. The state is unchanged. */
export async function failCommand(trx: Work, taken: Taken, reason: string, message: string): Promise<void> {
  await settle(trx, taken, { status: 'failed', reason, message });
  await append(trx, [entryOf(taken, 'command.failed', 'failed', message, { reason })]);
}

/** Records the outcome of a command. */
export async function settle(trx: Work, { workflowId, body }: Taken, outcome: Outcome): Promise<void> {
  await trx
    .updateTable('authoritative.commands')
    .set({
      status: outcome.status,
      reason: 'reason' in outcome ? outcome.reason : null,
      message: 'message' in outcome ? outcome.message : '',
      ...(outcome.status !== 'accepted' && { settled_at: sql<string>`clock_timestamp()` }),
    })
    .where('workflow_id', '=', workflowId)
    .where('command_id', '=', body.commandId)
    .execute();
}

/** Refuses commands that are still open when a workflow closes, so that every command gets an answer. */
export async function refuseOpen(trx: Work, workflowId: string, message: string): Promise<void> {
  const open = await trx
    .selectFrom('authoritative.commands')
    .selectAll()
    .where('workflow_id', '=', workflowId)
    .where('status', '=', 'open')
    .forUpdate()
    .execute();
  for (const { command: text, project, subject, recorded_at: recordedAt } of open) {
    const command = JSON.parse(text) as SignedCommand;
    const taken = { workflowId, command, body: command.body, isOpen: true, recordedAt, project, subject };
    await refuse(trx, taken, { refused: 'closed', message });
  }
}

/** Inserts a decision. A decision with effects outside the database is `pending` until they are complete. */
export async function insertDecision(
  trx: Work,
  { workflowId, body }: Taken,
  given: { revision: number; policyVersion: number | null; at: string; pending: boolean; detail?: DecisionDetail },
): Promise<void> {
  const { commandId, name, actor, args, report, digest } = body;
  await trx
    .insertInto('authoritative.decisions')
    .values({
      ...{ workflow_id: workflowId, command_id: commandId, name, actor, reason: args.reason ?? '', report, digest },
      ...{ revision: given.revision, policy_version: given.policyVersion, at: given.at },
      ...{ status: given.pending ? 'pending' : 'complete', detail: json(given.detail ?? {}) },
    })
    .execute();
}

/** The decision of a workflow whose effects are in progress, as a column `pending`. There is at most one. */
export const pendingColumn = (workflowId: string) => sql<Pending | null>`
  (select jsonb_build_object('commandId', d.command_id, 'name', d.name, 'release', d.detail->'release')
    from authoritative.decisions d where d.workflow_id = ${workflowId} and d.status = 'pending') as pending`;

/** A decision with its command, its subject and the recorded effects. */
export async function decisionOf(
  db: Database,
  workflowId: string,
  commandId: string,
): Promise<(DecisionNote & { readonly taken: Taken }) | undefined> {
  const found = await db
    .selectFrom('authoritative.decisions as d')
    .innerJoin('authoritative.commands as c', (join) =>
      join.onRef('c.workflow_id', '=', 'd.workflow_id').onRef('c.command_id', '=', 'd.command_id'),
    )
    .select(['d.status', 'd.detail', 'd.at', 'd.policy_version', 'c.command', 'c.project', 'c.subject'])
    .where('d.workflow_id', '=', workflowId)
    .where('d.command_id', '=', commandId)
    .executeTakeFirst();
  if (!found) return undefined;
  const command = JSON.parse(found.command) as SignedCommand;
  const { project, subject, status, detail, at, policy_version: policyVersion } = found;
  return {
    ...{ command, status, detail, at, policyVersion },
    taken: { workflowId, command, body: command.body, isOpen: false, recordedAt: at, project, subject },
  };
}

/** Adds to the recorded effects of a decision. */
export async function noteEffect(
  trx: Work,
  workflowId: string,
  commandId: string,
  detail: DecisionDetail,
  status?: 'complete' | 'failed',
): Promise<void> {
  await trx
    .updateTable('authoritative.decisions')
    .set({ detail: sql`detail || ${json(detail)}::jsonb` as never, ...(status && { status }) })
    .where('workflow_id', '=', workflowId)
    .where('command_id', '=', commandId)
    .execute();
}

/** The outcome from a command's row. */
export function outcomeOf(row: {
  status: 'open' | Outcome['status'];
  reason: string | null;
  message: string;
}): Outcome {
  const { status, message } = row;
  const reason = row.reason ?? '';
  switch (status) {
    case 'open':
    case 'accepted':
      return { status: 'accepted' };
    case 'refused':
      return { status, reason: reason as Extract<Outcome, { status: 'refused' }>['reason'], message };
    case 'failed':
      return { status, reason, message };
    case 'done':
      return { status, message };
  }
}

/** The audit entry for a refused or failed command. */
function entryOf(
  { workflowId, command, body, project, subject }: Taken,
  kind: string,
  step: string,
  reason: string,
  detail: AuditEntry['detail'],
): AuditEntry {
  return {
    key: `command/${workflowId}/${body.commandId}/${step}`,
    ...{ project, kind, actor: body.actor, subject, digest: body.digest, report: body.report, reason },
    detail: { commandId: body.commandId, name: body.name, ...detail, command },
    at: new Date().toISOString(),
  };
}
