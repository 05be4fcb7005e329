// Problem details (RFC 9457): the API's only error format.
import { ApplicationFailure } from '@temporalio/common';
import { z } from 'zod';
import { SystemUnavailable, type SystemName } from '../activities/failures.ts';
import { GatewayError } from './gateway.ts';

export const problemSchema = z
  .looseObject({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    requestId: z.string(),
    errors: z.array(z.object({ where: z.string(), message: z.string() })).optional(),
    /** For 503 and 507: the failing system, and the reason. */
    system: z.string().optional(),
    reason: z.string().optional(),
  })
  .meta({ description: 'Problem details (RFC 9457)' });

/** An error answer. Its text is meant for the caller. */
export class Problem extends Error {
  readonly status: number;
  readonly kind: string;
  readonly more: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;
  constructor(
    status: number,
    kind: string,
    detail: string,
    more: Readonly<Record<string, unknown>> = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(detail);
    this.name = 'Problem';
    this.status = status;
    this.kind = kind;
    this.more = more;
    this.headers = headers;
  }
}

/** Makes a problem to throw: `kind` is the machine-readable word, `detail` says what, where and what to do. */
export const problem = (...given: ConstructorParameters<typeof Problem>): Problem => new Problem(...given);

export const notFound = (what: string): Problem =>
  problem(404, 'not-found', `there is no ${what}, or you may not see it`);

/**
 * The issues of the alternative that was meant: the only one whose own fields are right, so that something below them is
 * wrong. Otherwise the issue of the choice itself.
 */
function meant(issue: z.core.$ZodIssue): readonly z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const [only, ...others] = issue.errors.filter((issues) => issues.every(({ path }) => path.length > 1));
  if (!only || others.length > 0) return [issue];
  return only.map((one) => ({ ...one, path: [...issue.path, ...one.path] })).flatMap(meant);
}

/** One entry per invalid field. */
export function invalid(where: string, error: z.ZodError): Problem {
  const issues = error.issues.flatMap(meant);
  const errors = issues.slice(0, 20).map((issue) => ({
    where: [where, ...issue.path.map(String)].join('.').slice(0, 200),
    message: issue.message.slice(0, 300),
  }));
  const detail = errors.map((one) => `${one.where}: ${one.message}`).join('; ');
  return problem(400, 'invalid', detail, { errors });
}

const titles: Readonly<Record<number, string>> = {
  400: 'Invalid request',
  401: 'A valid token is required',
  403: 'Not allowed',
  404: 'Not found',
  405: 'No such method',
  409: 'Conflict',
  410: 'Withdrawn',
  412: 'Precondition failed',
  413: 'Too large',
  415: 'Wrong content type',
  416: 'No such range',
  421: 'Not this server',
  422: 'The request cannot be carried out',
  500: 'Internal error',
  502: 'The stored bytes do not match the record',
  503: 'Not available now',
  507: 'No space left',
};

/** The response for a problem: `application/problem+json`. */
export function problemResponse(found: Problem, requestId: string): Response {
  const body: z.infer<typeof problemSchema> = {
    type: `urn:ocdl:problem:${found.kind}`,
    title: titles[found.status] ?? 'Problem',
    status: found.status,
    detail: found.message,
    requestId,
    ...found.more,
  };
  return new Response(JSON.stringify(body), {
    status: found.status,
    headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...found.headers },
  });
}

/** The problem for anything thrown. Errors not known to be meant for the caller become a bare 500. */
export function problemOf(error: unknown): Problem {
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    if (e instanceof Problem) return e;
    if (e instanceof GatewayError) return gatewayProblem(e);
    if (e instanceof SystemUnavailable) return unavailable(e);
    if (e instanceof ApplicationFailure) return failureProblem(e);
  }
  return internal();
}

const internal = (): Problem =>
  problem(500, 'internal', 'internal error: try again, and report the request id to the operator of the platform');

/** A restarting server is back in some seconds. */
const RETRY_AFTER_SECONDS = 5;
/** Someone has to free space first. */
const RETRY_FULL_AFTER_SECONDS = 60;

function unavailable({
  system,
  reason,
  isFull = false,
}: {
  readonly system: SystemName;
  readonly reason: string;
  readonly isFull?: boolean;
}): Problem {
  const [status, kind, seconds] = isFull
    ? ([507, 'no-space', RETRY_FULL_AFTER_SECONDS] as const)
    : ([503, 'unavailable', RETRY_AFTER_SECONDS] as const);
  const todo = isFull ? 'ask the operator of the platform to free some space, then try again' : 'try again';
  return problem(status, kind, `${system}: ${reason}; ${todo}`, { system, reason }, { 'retry-after': String(seconds) });
}

function gatewayProblem({ kind }: GatewayError): Problem {
  switch (kind) {
    case 'closed':
      return problem(409, 'closed', 'it is closed and takes no more commands');
    case 'missing':
      return notFound('such workflow');
    case 'unavailable':
      return unavailable({ system: 'Temporal', reason: 'the workflow server does not answer' });
    default:
      return kind satisfies never;
  }
}

const ofFailure: Readonly<Record<string, readonly [status: number, kind: string]>> = {
  InvalidInput: [400, 'invalid'],
  InvalidModel: [422, 'invalid-model'],
  NotFound: [404, 'not-found'],
  DigestMismatch: [400, 'digest-mismatch'],
  Conflict: [409, 'conflict'],
  Fenced: [409, 'fenced'],
  EvidenceMissing: [409, 'no-evidence'],
  NotAuthorized: [403, 'forbidden'],
};

function failureProblem(failure: ApplicationFailure): Problem {
  const [status, kind] = ofFailure[failure.type ?? ''] ?? [];
  if (status === undefined || kind === undefined) return internal();
  return problem(status, kind, failure.message);
}
