// A command: a person's request to a workflow, signed by the API, and its outcome.
import type { Role } from './roles.ts';
import { roles as allRoles } from './roles.ts';

export const lifecycleCommands = [
  'retry',
  'submit',
  'withdraw',
  'approve',
  'reject',
  'rollback',
  'undo',
  'release',
  'reassign',
  'retire',
  'tag',
] as const;
export const applicationCommands = ['revert', 'take-down'] as const;
export const feedbackCommands = ['confirm', 'deny'] as const;
export type LifecycleCommand = (typeof lifecycleCommands)[number];
export type ApplicationCommand = (typeof applicationCommands)[number];
export type FeedbackCommand = (typeof feedbackCommands)[number];
export type CommandName = LifecycleCommand | ApplicationCommand | FeedbackCommand;

/** What is signed: RFC 8785 canonical JSON of exactly these fields, Ed25519 (RFC 8032). */
export interface CommandBody {
  readonly v: 1;
  readonly keyId: string;
  /** The only workflow that this command is for. */
  readonly workflowId: string;
  readonly commandId: string;
  readonly name: string;
  readonly args: CommandArgs;
  readonly actor: string;
  readonly roles: readonly Role[];
  readonly policyVersion: number;
  /** The revision that the person saw; the command is refused as stale if it has changed. */
  readonly revision: number;
  /** Digest of the artifact that the command is about, if any. */
  readonly digest: string | null;
  /** Digest of the report that supports the decision, if any. */
  readonly report: string | null;
  /** ISO 8601, from the API's clock; for the record only. */
  readonly issuedAt: string;
}

export interface CommandArgs {
  readonly reason?: string;
  /** `reassign`: the scientist. */
  readonly to?: string;
  /** `tag`: the whole new set. */
  readonly tags?: readonly string[];
  /** `retry`: another compute profile than before. */
  readonly compute?: string;
  /** `revert`: the earlier release. */
  readonly release?: string;
  /** `confirm`, `deny`: the findings. */
  readonly findings?: readonly string[];
}

/** The payload of the `command` signal. `signature` is base64url. */
export interface SignedCommand {
  readonly body: CommandBody;
  readonly signature: string;
}

/** Ed25519 public keys of the API by id, hexadecimal. */
export type PublicKeys = Readonly<Record<string, string>>;

/** The outcome of a command, from its row. `accepted` is not final: the decision may still be a refusal. */
export type Outcome =
  | { readonly status: 'refused'; readonly reason: RefusalReason; readonly message: string }
  | { readonly status: 'accepted' }
  | { readonly status: 'done'; readonly message: string }
  | { readonly status: 'failed'; readonly reason: string; readonly message: string };

export type RefusalReason =
  | 'malformed' // not a command
  | 'unsigned' // no valid signature of a known key
  | 'wrong-workflow'
  | 'repeated' // the same command id with another body
  | 'stale' // the revision has changed since the person saw it
  | 'busy' // another command is being carried out
  | 'wrong-state' // no such transition from this state
  | 'closed' // the workflow has ended
  | 'not-authorized' // role, or author rule
  | 'wrong-digest'
  | 'invalid' // arguments
  | 'overloaded';

/** Maximum length of a command's JSON in characters: enough for 200 findings with the longest ids and reason, which have about 16 thousand. */
export const COMMAND_LIMIT = 16_384;
export const REASON_LIMIT = 2_000;
const ID = /^[A-Za-z0-9][A-Za-z0-9_-]{7,63}$/;

/** A command id: 8 to 64 letters, digits, `-`, `_`, for example a UUID. */
export const isCommandId = (text: unknown): text is string => typeof text === 'string' && ID.test(text);

/**
 * Total parser of the signal's payload: never throws for any input.
 * @returns the command, or why the payload is not a command.
 */
export function parseSignedCommand(raw: unknown): { readonly command: SignedCommand } | { readonly problem: string } {
  try {
    if (!isRecord(raw)) return { problem: 'not an object' };
    const { body, signature } = raw;
    if (!isRecord(body)) return { problem: 'no body' };
    if (typeof signature !== 'string' || signature.length > 128) return { problem: 'no signature' };
    if (JSON.stringify(raw).length > COMMAND_LIMIT) return { problem: 'too large' };
    if (!isText(JSON.stringify(body)))
      return { problem: 'a text contains control characters or half a surrogate pair' };
    const problem = bodyProblem(body);
    return problem ? { problem } : { command: { body: body as unknown as CommandBody, signature } };
  } catch {
    return { problem: 'cannot be read' };
  }
}

function bodyProblem(body: Record<string, unknown>): string | undefined {
  const text = (key: string, limit: number): boolean => {
    const value = body[key];
    return typeof value === 'string' && value.length > 0 && value.length <= limit;
  };
  const digestOrNull = (key: string): boolean => body[key] === null || text(key, 64);
  const fields = Object.keys(body).sort().join();
  if (fields !== FIELDS) return `fields must be ${FIELDS}`;
  if (body.v !== 1) return 'unknown version';
  if (!text('keyId', 64) || !text('workflowId', 512) || !text('name', 32) || !text('actor', 64))
    return 'a field is malformed';
  if (!isCommandId(body.commandId)) return 'commandId is malformed';
  if (!text('issuedAt', 40)) return 'issuedAt is malformed';
  if (!Number.isSafeInteger(body.revision) || !Number.isSafeInteger(body.policyVersion)) return 'a number is malformed';
  if (!digestOrNull('digest') || !digestOrNull('report')) return 'a digest is malformed';
  const held = body.roles;
  if (
    !Array.isArray(held) ||
    held.length > allRoles.length ||
    !held.every((role) => (allRoles as readonly unknown[]).includes(role))
  )
    return 'roles are malformed';
  return argsProblem(body.args);
}

function argsProblem(args: unknown): string | undefined {
  if (!isRecord(args)) return 'args must be an object';
  const words = (value: unknown, count: number, limit: number): boolean =>
    Array.isArray(value) &&
    value.length <= count &&
    value.every((item) => typeof item === 'string' && item.length > 0 && item.length <= limit);
  for (const [key, value] of Object.entries(args)) {
    if (key === 'reason' && typeof value === 'string' && value.length <= REASON_LIMIT) continue;
    if (
      ['to', 'release', 'compute'].includes(key) &&
      typeof value === 'string' &&
      value.length > 0 &&
      value.length <= 128
    )
      continue;
    if (key === 'tags' && words(value, 20, 63)) continue;
    if (key === 'findings' && words(value, 200, 64)) continue;
    return `args.${key.slice(0, 32).replace(/[^\x20-\x7e]/g, '?')} is unknown or malformed`;
  }
  return undefined;
}

const FIELDS = [
  'v',
  'keyId',
  'workflowId',
  'commandId',
  'name',
  'args',
  'actor',
  'roles',
  'policyVersion',
  'revision',
  'digest',
  'report',
  'issuedAt',
]
  .sort()
  .join();

/**
 * Whether a body's JSON text is free of characters that stores cannot keep: U+0000 and halves of surrogate pairs. `JSON.stringify`
 * writes these and most control characters as `\u` escapes; tabs and line ends, which a reason may contain, have short escapes.
 */
const isText = (json: string): boolean => !/^(?:[^\\]|\\[^u])*\\u/.test(json);

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
