// People's commands: signed, recorded, signalled to the workflow that has them decided, and what became of them.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { isFailure } from '../activities/failures.ts';
import type { CommandRow, Principal } from '../activities/records.ts';
import type { CommandArgs, CommandBody, Outcome } from '../workflows/domain/command.ts';
import type { Role } from '../workflows/domain/roles.ts';
import type { ApiDeps } from './deps.ts';
import { isGatewayError } from './gateway.ts';
import { mustNotBePaused } from './paused.ts';
import { notFound, problem } from './problems.ts';
import type { Answer } from './route.ts';
import { commandIdSchema, digestSchema } from './schemas.ts';
import { outcomeView } from './views.ts';

/** Every command's common fields; each resource adds its names and arguments. */
export const commandFields = {
  /** Given by the caller, it makes sending twice harmless. */
  commandId: commandIdSchema.optional(),
  /** The state the person saw. */
  revision: z.int().min(0),
  digest: digestSchema.nullable().default(null),
  report: digestSchema.nullable().default(null),
} as const;

export const commandAnswer = z.object({
  commandId: z.string(),
  outcome: outcomeView.nullable(),
  /** Where to ask again. */
  address: z.string(),
});
type CommandAnswer = z.output<typeof commandAnswer>;

/** Longest wait that a caller may prefer. */
const WAIT_LIMIT_SECONDS = 30;

export interface Given {
  readonly principal: Principal;
  readonly roles: readonly Role[];
  readonly project: string;
  readonly policyVersion: number;
  readonly workflowId: string;
  /** In the audit. */
  readonly subject: string;
  /** Path of the thing's commands. */
  readonly commands: string;
  readonly request: Request;
  readonly body: {
    readonly commandId?: string | undefined;
    readonly name: string;
    readonly args: CommandArgs;
    readonly revision: number;
    readonly digest: string | null;
    readonly report: string | null;
  };
}

/** Signs and records a command, signals it, then answers by what its row says. */
export async function carryOut(deps: ApiDeps, given: Given): Promise<Answer<CommandAnswer>> {
  await mustNotBePaused(deps.records);
  const { body, workflowId, project, subject } = given;
  const commandId = body.commandId ?? randomUUID();
  const address = `${given.commands}/${commandId}`;
  const signed = deps.signer.sign({
    v: 1,
    keyId: deps.signer.newest,
    workflowId,
    commandId,
    name: body.name,
    args: body.args,
    actor: given.principal.name,
    roles: given.roles,
    policyVersion: given.policyVersion,
    revision: body.revision,
    digest: body.digest,
    report: body.report,
    issuedAt: new Date().toISOString(),
  } satisfies CommandBody);
  const row = await deps.records.recordCommand(signed, { project, subject }).catch((error: unknown) => {
    if (!isFailure(error, 'Conflict') || !(error instanceof Error)) throw error;
    throw refused(commandId, 'repeated', error.message);
  });
  const wait = preferredWait(given.request);
  if (!row.isOpen) return answerOf(row, address, wait);
  // Recorded is accepted: a signal that does not get through is sent again by the sweep.
  await deps.workflows.sendCommand(workflowId, signed).catch((error: unknown) => {
    if (!isGatewayError(error)) throw error;
    deps.log.warn({ workflowId, commandId, error: error.message }, 'a command is recorded and not signalled yet');
  });
  return answerOf(await waitFor(deps, row, workflowId, wait, given.request.signal), address, wait);
}

/** What became of a command, as its row says. */
export async function lookUpCommand(
  { records }: ApiDeps,
  { workflowId, commandId, address }: Record<'workflowId' | 'commandId' | 'address', string>,
): Promise<Answer<CommandAnswer>> {
  const row = await records.command(workflowId, commandId);
  if (!row) throw notFound(`command "${commandId}"`);
  return { body: { commandId, outcome: row.outcome, address } };
}

/** `Prefer: wait=N` (RFC 7240), in seconds. */
function preferredWait(request: Request): number | undefined {
  const [, seconds] = /(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])/i.exec(request.headers.get('prefer') ?? '') ?? [];
  return seconds === undefined ? undefined : Math.min(Number(seconds), WAIT_LIMIT_SECONDS);
}

/** Looks again, more and more seldom, until the command is settled or the caller has waited long enough. */
async function waitFor(
  { records, limits }: ApiDeps,
  first: CommandRow,
  workflowId: string,
  waitSeconds: number | undefined,
  signal: AbortSignal,
): Promise<CommandRow> {
  const until = Date.now() + (waitSeconds ?? 0) * 1_000;
  let row = first;
  for (let pause = limits.pollMs / 8; ; pause = Math.min(limits.pollMs, pause * 1.5)) {
    if (row.outcome.status !== 'accepted' || signal.aborted || Date.now() >= until) return row;
    await sleep(pause);
    row = (await records.command(workflowId, first.commandId)) ?? row;
  }
}

function answerOf(
  { commandId, outcome }: CommandRow,
  address: string,
  wait: number | undefined,
): Answer<CommandAnswer> {
  const applied: Record<string, string> = wait === undefined ? {} : { 'preference-applied': `wait=${wait}` };
  switch (outcome.status) {
    case 'accepted':
      return { status: 202, headers: { location: address, ...applied }, body: { commandId, outcome, address } };
    case 'refused':
      throw refused(commandId, outcome.reason, outcome.message, outcome);
    case 'failed':
      throw problem(409, 'command-failed', outcome.message, { outcome, commandId }, { location: address, ...applied });
    case 'done':
      return { status: 200, headers: applied, body: { commandId, outcome, address } };
    default:
      return outcome satisfies never;
  }
}

const refused = (commandId: string, reason: string, message: string, outcome?: Outcome) =>
  problem(409, `command-${reason}`, message, {
    commandId,
    outcome: outcome ?? { status: 'refused', reason, message },
  });
