// People's commands: signed, sent to the workflow that judges them, and what became of them.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { AuditEntry, Principal, Records } from '../activities/records.ts';
import type { CommandArgs, CommandBody, Outcome, SignedCommand } from '../workflows/domain/command.ts';
import type { Role } from '../workflows/domain/roles.ts';
import { auditEntry } from './audit-entry.ts';
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
type ShownOutcome = z.output<typeof outcomeView>;

/** What makes a command this one and no other. */
const sent = z.looseObject({
  commandId: z.string(),
  name: z.string(),
  args: z.record(z.string(), z.unknown()),
  actor: z.string(),
  revision: z.number(),
  digest: z.string().nullable(),
  report: z.string().nullable(),
});
interface Audited {
  readonly outcome: ShownOutcome;
  readonly body: z.output<typeof sent> | undefined;
}

/** Longest wait that a caller may prefer. */
const WAIT_LIMIT_SECONDS = 30;

export interface Given {
  readonly principal: Principal;
  readonly roles: readonly Role[];
  readonly project: string;
  readonly policyVersion: number;
  readonly workflowId: string;
  readonly keyId: string;
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

/** Signs and sends a command, then answers by what the workflow says of it. */
export async function carryOut(deps: ApiDeps, given: Given): Promise<Answer<CommandAnswer>> {
  await mustNotBePaused(deps.records);
  const { body } = given;
  const commandId = body.commandId ?? randomUUID();
  const address = `${given.commands}/${commandId}`;
  const signed = deps.signer.sign({
    v: 1,
    keyId: given.keyId,
    workflowId: given.workflowId,
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
  try {
    await deps.workflows.sendCommand(given.workflowId, signed);
  } catch (error) {
    // Temporal itself refuses a signal to an ended workflow, and forgets ended ones after a while: nobody else can write it down.
    if (!isGatewayError(error, 'closed', 'missing')) throw error;
    // The very command that ended it, sent again because its answer was lost.
    const before = await auditedOutcome(deps.records, given.subject, commandId);
    if (before?.outcome.status === 'done' && before.body && isSame(before.body, signed.body))
      return answerOf(commandId, before.outcome, address, undefined);
    const why = 'it has ended: nothing more can be done to it';
    await recordRefusal(deps.records, given, commandId, 'closed', why, signed);
    throw refused(commandId, 'closed', why);
  }
  const wait = preferredWait(given.request);
  const outcome = await waitForOutcome(deps, given.workflowId, commandId, wait, given.request.signal);
  return answerOf(commandId, outcome, address, wait);
}

const isSame = (a: z.output<typeof sent>, b: CommandBody): boolean =>
  (['name', 'args', 'actor', 'revision', 'digest', 'report'] as const).every(
    (field) => canonicalize(a[field]) === canonicalize(b[field]),
  );

/** Writes a refusal that no workflow will write. */
export async function recordRefusal(
  records: Records,
  { principal, roles, project, subject, body }: Pick<Given, 'principal' | 'roles' | 'project' | 'subject' | 'body'>,
  commandId: string,
  reason: string,
  message: string,
  signed?: SignedCommand,
): Promise<void> {
  const command = signed ?? { body: { ...body, actor: principal.name, roles }, signature: null };
  const entry = auditEntry({
    key: `command.refused/${subject}/${commandId}/${reason}`,
    project,
    kind: 'command.refused',
    actor: principal.name,
    subject,
    digest: body.digest,
    report: body.report,
    reason: message,
    detail: { commandId, name: body.name, refused: reason, command },
  });
  await records.record([entry], []);
}

/** What became of a command: from the workflow, or from the audit when the workflow is no longer there. 202 while nobody can say. */
export async function lookUpCommand(
  deps: ApiDeps,
  { workflowId, subject, commandId, address }: Record<'workflowId' | 'subject' | 'commandId' | 'address', string>,
): Promise<Answer<CommandAnswer>> {
  // `undefined`, as from the gateway: it has not answered.
  let outcome: ShownOutcome | null | undefined = null;
  try {
    outcome = await deps.workflows.outcome(workflowId, commandId, deps.limits.answerMs);
  } catch (error) {
    if (!isGatewayError(error, 'missing', 'closed')) throw error;
  }
  const known = outcome ?? (await auditedOutcome(deps.records, subject, commandId))?.outcome;
  if (known) return { body: { commandId, outcome: known, address } };
  if (outcome === null) throw notFound(`command "${commandId}"`);
  return { status: 202, body: { commandId, outcome: null, address } };
}

/** A command as some audit entry holds it: signed and whole, or by its id alone. */
const auditedCommand = z.object({ command: z.object({ body: sent }).or(sent.transform((body) => ({ body }))) });

/** What the audit says of a command; of several rows the one that it came to in the end. */
async function auditedOutcome(records: Records, subject: string, commandId: string): Promise<Audited | undefined> {
  let found: Audited | undefined;
  let after: string | undefined;
  do {
    const page = await records.audit({ subject, limit: 500, ...(after !== undefined && { after }) });
    for (const { entry } of page.rows) {
      const body = auditedCommand.safeParse(entry.detail).data?.command.body;
      if (body?.commandId !== commandId && entry.detail['commandId'] !== commandId) continue;
      const outcome = outcomeOf(entry);
      if (!found || outcome.status !== 'refused') found = { outcome, body };
    }
    after = page.next;
  } while (after !== undefined);
  return found;
}

function outcomeOf({ kind, reason, detail }: AuditEntry): ShownOutcome {
  const why = z.string().catch('unknown');
  if (kind === 'command.refused')
    return { status: 'refused', reason: why.parse(detail['refused'] ?? detail['reason']), message: reason };
  if (kind === 'command.failed') return { status: 'failed', reason: why.parse(detail['reason']), message: reason };
  return { status: 'done', message: reason };
}

/** `Prefer: wait=N` (RFC 7240), in seconds. */
function preferredWait(request: Request): number | undefined {
  const [, seconds] = /(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])/i.exec(request.headers.get('prefer') ?? '') ?? [];
  return seconds === undefined ? undefined : Math.min(Number(seconds), WAIT_LIMIT_SECONDS);
}

async function waitForOutcome(
  { workflows, limits }: ApiDeps,
  workflowId: string,
  commandId: string,
  waitSeconds: number | undefined,
  signal: AbortSignal,
): Promise<Outcome | null | undefined> {
  const begun = Date.now();
  const until = begun + (waitSeconds ?? 0) * 1_000;
  // A workflow that is just going over to a new run does not know the command for a moment.
  const heardBy = begun + limits.answerMs;
  for (;;) {
    const outcome = await workflows.outcome(workflowId, commandId, limits.answerMs).catch((error: unknown) => {
      // The command was taken: not to hear of it is no failure of it.
      if (isGatewayError(error)) return undefined;
      throw error;
    });
    const settled = outcome && outcome.status !== 'accepted';
    if (settled || signal.aborted || Date.now() >= Math.max(until, outcome ? 0 : heardBy)) return outcome;
    await sleep(limits.pollMs);
  }
}

function answerOf(
  commandId: string,
  outcome: ShownOutcome | null | undefined,
  address: string,
  wait: number | undefined,
): Answer<CommandAnswer> {
  const applied: Record<string, string> = wait === undefined ? {} : { 'preference-applied': `wait=${wait}` };
  if (!outcome || outcome.status === 'accepted') {
    const body = { commandId, outcome: outcome ?? null, address };
    return { status: 202, headers: { location: address, ...applied }, body };
  }
  switch (outcome.status) {
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

const refused = (commandId: string, reason: string, message: string, outcome?: ShownOutcome) =>
  problem(409, `command-${reason}`, message, {
    commandId,
    outcome: outcome ?? { status: 'refused', reason, message },
  });
