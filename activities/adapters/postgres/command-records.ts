// The command part of Records: records commands with a provisional verdict, and returns their outcome.
import type { CommandRow, Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import type { CommandBody, SignedCommand } from '../../../workflows/domain/command.ts';
import type { Refusal } from '../../../workflows/domain/lifecycle.ts';
import { decisionOf, markOf, outcomeOf, record, refuse } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import { judgeNow } from './judging.ts';
import { endedMessage, hasEnded } from './starts.ts';

type CommandRecords = Pick<Records, 'recordCommand' | 'command' | 'openCommands' | 'decision'>;

/** Commands by workflow and id. */
export function commandRecords(db: Database): CommandRecords {
  return {
    async recordCommand(command, about) {
      const { body } = command;
      return transact(db, async (trx) => {
        const { row, made } = await record(trx, body.workflowId, command, about);
        if (row.mark !== markOf(body) || row.actor !== body.actor)
          throw failure(
            'Conflict',
            `command ${body.commandId} of ${row.subject} exists with other content: choose another id`,
            ['repeated'],
          );
        // A refusal now is final. A command that looks valid is judged again when it is decided.
        const refusal = made ? await refusalNow(trx, body) : undefined;
        const taken = {
          ...about,
          workflowId: body.workflowId,
          command,
          body,
          isOpen: true,
          recordedAt: row.recorded_at,
        };
        if (!refusal) return rowOf(body.commandId, row);
        await refuse(trx, taken, refusal);
        const outcome = { status: 'refused', reason: refusal.refused, message: refusal.message } as const;
        return { commandId: body.commandId, actor: row.actor, isOpen: false, outcome };
      });
    },

    async command(workflowId, commandId) {
      return find(db, workflowId, commandId);
    },

    async openCommands({ before, pendingBefore, limit, after }) {
      let query = db
        .selectFrom('authoritative.commands')
        .select('command')
        .where((eb) =>
          eb.or([
            eb.and([eb('status', '=', 'open'), eb('recorded_at', '<', before)]),
            ...(pendingBefore === undefined
              ? []
              : [eb.and([eb('status', '=', 'accepted'), eb('recorded_at', '<', pendingBefore)])]),
          ]),
        )
        .orderBy('ordinal')
        .limit(limit);
      if (after)
        query = query.where('ordinal', '>', (select) =>
          select
            .selectFrom('authoritative.commands')
            .select('ordinal')
            .where('workflow_id', '=', after.workflowId)
            .where('command_id', '=', after.commandId),
        );
      const found = await query.execute();
      return found.map(({ command }) => JSON.parse(command) as SignedCommand);
    },

    async decision(workflowId, commandId) {
      const found = await decisionOf(db, workflowId, commandId);
      if (!found) return undefined;
      const { taken: _, ...note } = found;
      return note;
    },
  };
}

/** Why the command is refused in the current state. A workflow that has ended takes no commands. */
async function refusalNow(trx: Work, body: CommandBody): Promise<Refusal | undefined> {
  const ended = await hasEnded(trx, body.workflowId);
  const refusal = await judgeNow(trx, body.workflowId, body);
  return refusal ?? (ended ? { refused: 'closed', message: endedMessage(body.workflowId) } : undefined);
}

async function find(db: Database, workflowId: string, commandId: string): Promise<CommandRow | undefined> {
  const found = await db
    .selectFrom('authoritative.commands')
    .select(['actor', 'status', 'reason', 'message'])
    .where('workflow_id', '=', workflowId)
    .where('command_id', '=', commandId)
    .executeTakeFirst();
  return found && rowOf(commandId, found);
}

const rowOf = (commandId: string, found: Parameters<typeof outcomeOf>[0] & { readonly actor: string }): CommandRow => ({
  commandId,
  actor: found.actor,
  isOpen: found.status === 'open',
  outcome: outcomeOf(found),
});
