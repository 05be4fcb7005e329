// People's commands: signs and records them, signals their workflow, and reports the outcome.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { isFailure } from '../activities/failures.ts';
import type { CommandRow, Principal } from '../activities/records.ts';
import type { CommandArgs, CommandBody, Outcome, SignedCommand } from '../workflows/domain/command.ts';
import { COMMAND_LIMIT, parseSignedCommand } from '../workflows/domain/command.ts';
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
  /** Chosen by the caller so that resending is idempotent. */
  commandId: commandIdSchema.optional(),
  /** The revision that the person saw. */
  revision: z.int().min(0),
  digest: digestSchema.nullable().default(null),
  report: digestSchema.nullable().default(null),
} as const;

export const commandAnswer = z.object({
  commandId: z.string(),
  outcome: outcomeView.nullable(),
  /** Where to ask for the outcome. */
  address: z.string(),
});
type CommandAnswer = z.output<typeof commandAnswer>;

/** A minute: an administrator has to copy the keys first. */
const RETRY_AFTER_SECONDS = 60;
/** Maximum wait that a caller may request. */
const WAIT_LIMIT_SECONDS = 30;

export interface Given {
  readonly principal: Principal;
  readonly roles: readonly Role[];
  readonly project: string;
  readonly policyVersion: number;
  readonly workflowId: string;
  /** Subject in the audit. */
  readonly subject: string;
  /** Path of the resource's commands. */
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

/** Signs, records and signals a command, then answers from its row. */
export async function carryOut(deps: ApiDeps, given: Given): Promise<Answer<CommandAnswer>> {
  const { body, workflowId, project, subject } = given;
  const known = body.commandId === undefined ? undefined : await deps.records.command(workflowId, body.commandId);
  // The outcome of a closed command is answered during a pause too.
  if (!known || known.isOpen) await mustNotBePaused(deps.records);
  const commandId = body.commandId ?? randomUUID();
  const address = `${given.commands}/${commandId}`;
  const asked = {
    v: 1,
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
  } satisfies Omit<CommandBody, 'keyId'>;
  const { signed, row } = await recordSigned(deps, asked, { project, subject }).catch((error: unknown) => {
    if (!isFailure(error, 'Conflict') || !(error instanceof Error)) throw error;
    throw refused(commandId, 'repeated', error.message);
  });
  const wait = preferredWait(given.request);
  if (!row.isOpen) return answerOf(row, address, wait);
  // A recorded command is accepted. If the signal fails, the sweep sends it again.
  await deps.workflows.sendCommand(workflowId, signed).catch((error: unknown) => {
    if (!isGatewayError(error)) throw error;
    deps.log.warn({ workflowId, commandId, error: error.message }, 'a command is recorded but not signalled yet');
  });
  return answerOf(await waitFor(deps, row, workflowId, wait, given.request.signal), address, wait);
}

/** Signs and records a command. If a restore has retired the key, the keys of the home are read again. */
async function recordSigned(
  { records, signer }: ApiDeps,
  asked: Omit<CommandBody, 'keyId'>,
  about: Parameters<ApiDeps['records']['recordCommand']>[1],
): Promise<{ readonly signed: SignedCommand; readonly row: CommandRow }> {
  const attempt = async () => {
    const signed = signer.sign({ ...asked, keyId: signer.newest });
    // A recorded command that its workflow cannot read would stay open for ever.
    const parsed = parseSignedCommand(signed);
    if ('problem' in parsed) throw problem(400, 'invalid', unreadable(signed, parsed.problem));
    return { signed, row: await records.recordCommand(signed, about) };
  };
  try {
    return await attempt();
  } catch (error) {
    if (!isFailure(error, 'NotAuthorized')) throw error;
    if (await signer.renew()) return attempt();
    throw problem(
      503,
      'signing-key-retired',
      `the signing key ${signer.newest} of this API was retired by "ocdl restore accept" on another home: an administrator ` +
        "copies the folder keys of that home into this API's home; the API reads it with the next command",
      {},
      { 'retry-after': String(RETRY_AFTER_SECONDS) },
    );
  }
}

/** Only the size is not judged by the schemas: findings and a reason at their limits can be too much together. */
function unreadable(signed: SignedCommand, why: string): string {
  const size = JSON.stringify(signed).length;
  if (size <= COMMAND_LIMIT) return `body: not a command: ${why}`;
  const todo = 'give fewer findings at once, or a shorter reason';
  return `body: signed, the command has ${size} characters, more than the limit of ${COMMAND_LIMIT}: ${todo}`;
}

/** Looks up a command's outcome from its row. */
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

/** Polls with growing pauses until the command is settled or the wait is over. */
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
