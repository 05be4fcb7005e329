// Migrates signed commands from the audit to the command and decision tables, so that old ids answer and old decisions verify.
import { sql } from 'kysely';
import canonicalize from 'canonicalize';
import type { AuditEntry } from '../../records.ts';
import type { CommandBody, SignedCommand } from '../../../workflows/domain/command.ts';
import { isCommandId } from '../../../workflows/domain/command.ts';
import { parseWorkflowId } from '../../../workflows/domain/ids.ts';
import { markOf } from './commands.ts';
import type { Work } from './connection.ts';
import { json } from './connection.ts';
import type { DecisionDetail } from './schema.ts';

/** Rows of the audit per read. */
const WALK = 500;

interface Kept {
  readonly entry: AuditEntry;
  readonly command: SignedCommand;
}

/** Writes a row for each command that succeeded or failed, and a decision for each that succeeded. */
export async function recordEarlierCommands(trx: Work): Promise<void> {
  for (let after = ''; ;) {
    const { rows } = await sql<{ key: string; entry: string }>`
      select key, entry from authoritative.audit
      where key > ${after} and entry like '%"command":{"body":{%' order by key limit ${WALK}`.execute(trx);
    for (const row of rows) {
      const kept = keptIn(row.entry);
      if (kept) await bring(trx, kept);
    }
    const end = rows.at(-1);
    if (!end || rows.length < WALK) return;
    after = end.key;
  }
}

/** The command of an entry with an outcome. Requests that the API refused never became commands. */
function keptIn(text: string): Kept | undefined {
  const entry = JSON.parse(text) as AuditEntry;
  if (!/^(version\.|application\.revert$|finding\.|command\.failed$)/.test(entry.kind)) return undefined;
  const { body, signature } = (entry.detail['command'] ?? {}) as { body?: Partial<CommandBody>; signature?: unknown };
  const { workflowId, commandId, actor, name } = body ?? {};
  if (!isCommandId(commandId) || typeof actor !== 'string' || typeof name !== 'string') return undefined;
  if (typeof workflowId !== 'string' || !parseWorkflowId(workflowId)) return undefined;
  // For a failed revert, only the body was stored.
  return { entry, command: { body: body as CommandBody, signature: typeof signature === 'string' ? signature : '' } };
}

async function bring(trx: Work, { entry, command }: Kept): Promise<void> {
  const { body } = command;
  const failed = entry.kind === 'command.failed';
  const release = body.name === 'release' ? await releaseOf(trx, body) : undefined;
  const { reason: why } = entry.detail;
  const reason = failed && typeof why === 'string' ? why : null;
  const made = await trx
    .insertInto('authoritative.commands')
    .values({
      ...{ workflow_id: body.workflowId, command_id: body.commandId, project: entry.project, subject: entry.subject },
      ...{ actor: body.actor, name: body.name, mark: markOf(body), command: canonicalize(command) ?? '' },
      ...{ status: failed ? 'failed' : 'done', reason, settled_at: entry.at, recorded_at: entry.at },
      message: failed ? entry.reason : outcomeMessage(entry, body, release),
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  // Among failed commands, only a release leaves something that needs its decision: its number.
  if (made.numInsertedOrUpdatedRows === 0n || (failed && release === undefined)) return;
  const detail: DecisionDetail = {
    ...(release !== undefined && { release }),
    ...(body.name === 'revert' && body.args.release !== undefined && { release: body.args.release }),
    ...(typeof entry.detail['commit'] === 'string' && { commit: entry.detail['commit'] }),
  };
  await trx
    .insertInto('authoritative.decisions')
    .values({
      ...{ workflow_id: body.workflowId, command_id: body.commandId, name: body.name, actor: body.actor },
      ...{ reason: body.args.reason ?? '', report: body.report, digest: body.digest, revision: body.revision },
      ...{ policy_version: body.policyVersion, at: entry.at, status: failed ? 'failed' : 'complete' },
      detail: json(detail),
    })
    .execute();
}

function outcomeMessage({ detail }: AuditEntry, { name, args }: CommandBody, release: string | undefined): string {
  if (name === 'revert') return `${args.release ?? ''} is live again`;
  if (release !== undefined) return `released as ${release}`;
  return typeof detail['to'] === 'string' ? `${name}: ${detail['to']}` : name;
}

async function releaseOf(trx: Work, { workflowId, commandId }: CommandBody): Promise<string | undefined> {
  const of = parseWorkflowId(workflowId)?.of ?? {};
  const found = await trx
    .selectFrom('authoritative.releases')
    .select('release')
    .where('project', '=', of['project'] ?? '')
    .where('model', '=', of['model'] ?? '')
    .where('submission', '=', of['submission'] ?? '')
    .where('command_id', '=', commandId)
    .executeTakeFirst();
  return found?.release;
}
