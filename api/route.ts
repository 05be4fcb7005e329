// Defines routes: method, path, the action in the permission grid, request schemas and response schema.
import type { IncomingMessage } from 'node:http';
import type { Context } from 'hono';
import { z } from 'zod';
import type { Principal, Project } from '../activities/records.ts';
import type { JsonPath } from '../workflows/domain/json-text.ts';
import type { Action, Grant, Role } from '../workflows/domain/roles.ts';
import { allowed, granted, grid } from '../workflows/domain/roles.ts';
import { authenticate, platformRoles } from './auth.ts';
import type { ApiDeps } from './deps.ts';
import { invalid, notFound, problem } from './problems.ts';
import { readJson, readUpload } from './request-body.ts';
import { parameterSchema } from './schemas.ts';

type ParameterOf<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? Name | ParameterOf<Rest>
  : never;
type Parameters<Path extends string> = { readonly [Name in ParameterOf<Path>]: string };

/** A parsed request and its caller. */
export interface Asked<Path extends string, Query, Body> {
  readonly params: Parameters<Path>;
  readonly query: Query;
  readonly body: Body;
  readonly principal: Principal;
  /** The caller's roles in the project that the path or the scope names, otherwise on the platform. */
  readonly roles: readonly Role[];
  /** The project that the path names. */
  readonly project: 'project' extends ParameterOf<Path> ? Project : undefined;
  readonly request: Request;
  readonly requestId: string;
  /** The uploaded bytes. `limit` defaults to the file limit. */
  readonly upload: (limit?: number) => AsyncIterable<Uint8Array>;
}

/**
 * What the request is about. `own`: it belongs to the caller. `project`: where the caller's roles count if the path names
 * no project.
 */
export interface Scope<Found> {
  readonly own: boolean;
  readonly project?: string;
  readonly found: Found;
}

/** An answer: JSON that matches the route's schema, or a hand-made response (streams). */
export type Answer<Body> =
  | { readonly status?: 200 | 201 | 202; readonly headers?: Readonly<Record<string, string>>; readonly body: Body }
  | Response;

interface Described<Path extends string, Query extends z.ZodType, Body extends z.ZodType, Result extends z.ZodType> {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  readonly path: Path;
  readonly operationId: string;
  readonly summary: string;
  readonly query?: Query;
  /** A JSON body, or `bytes` for an upload. */
  readonly body?: Body | 'bytes';
  /** For JSON bodies whose schema allows more than the usual limit. */
  readonly isLarge?: boolean;
  /** Where numbers of the body must arrive unchanged: there `1.0` is refused, because it would arrive as `1`. */
  readonly isExact?: (path: JsonPath) => boolean;
  /** JSON of successful answers, or `bytes` for a stream. */
  readonly response: Result | 'bytes';
  readonly statuses?: readonly number[];
}

interface GuardedSpec<
  Path extends string,
  Query extends z.ZodType,
  Body extends z.ZodType,
  Result extends z.ZodType,
  Found,
> extends Described<Path, Query, Body, Result> {
  /** The action in the grid. If it depends on the request: all possible actions, and `actionOf` chooses. */
  readonly action: Action | readonly [Action, ...Action[]];
  readonly actionOf?: (asked: Asked<Path, z.output<Query>, z.output<Body>>) => Action | Promise<Action>;
  /** Looks up what the request is about and its owner; `undefined` answers 404. Without it, nothing is the caller's own. */
  readonly scope?: (asked: Asked<Path, z.output<Query>, z.output<Body>>) => ScopeAnswer<Found>;
  /** Called before a refusal is answered, for refusals that belong in the audit. */
  readonly onRefused?: (asked: Asked<Path, z.output<Query>, z.output<Body>>, action: Action) => Promise<void>;
  readonly handler: (
    asked: Asked<Path, z.output<Query>, z.output<Body>> & { readonly found: Found; readonly grant: Grant },
  ) => Promise<Answer<z.output<Result>>>;
}
type ScopeAnswer<Found> = Scope<Found> | undefined | Promise<Scope<Found> | undefined>;

interface PublicSpec<Path extends string, Result extends z.ZodType> extends Described<Path, never, never, Result> {
  readonly public: true;
  readonly handler: (request: Request) => Promise<Answer<z.output<Result>>>;
}

/** Request data that the pipeline keeps for the log. */
export interface Env {
  /** Node's own message; missing if the application is called without a server. */
  Bindings: { incoming?: IncomingMessage };
  Variables: { requestId: string; principal?: string };
}

/** A route as mounted by the application and checked by the grid test. */
export interface Route {
  readonly method: Described<string, never, never, never>['method'];
  readonly path: string;
  readonly actions: readonly Action[] | 'public';
  readonly described: Described<string, z.ZodType, z.ZodType, z.ZodType>;
  handle(context: Context<Env>, deps: ApiDeps): Promise<Response>;
}

/** Makes a route that needs no token. */
export function publicRoute<const Path extends string, Result extends z.ZodType>(
  spec: PublicSpec<Path, Result>,
): Route {
  return {
    method: spec.method,
    path: spec.path,
    actions: 'public',
    described: spec,
    handle: async (context) => respond(spec.response, await spec.handler(context.req.raw)),
  };
}

/** Makes a route: it authenticates, parses, authorizes by the grid, and only then calls the handler. */
export function route<
  const Path extends string,
  Query extends z.ZodType = z.ZodObject<Record<never, never>>,
  Body extends z.ZodType = z.ZodUndefined,
  Result extends z.ZodType = z.ZodType,
  Found = undefined,
>(spec: GuardedSpec<Path, Query, Body, Result, Found>): Route {
  const actions: readonly Action[] = [spec.action ?? []].flat();
  // The types enforce this already. A cast must not create an unprotected route.
  if (actions.length === 0 || !actions.every((action) => Object.hasOwn(grid, action)))
    throw new TypeError(`route ${spec.operationId} names no action of the grid`);
  return {
    method: spec.method,
    path: spec.path,
    actions,
    described: spec,
    async handle(context, deps) {
      const request = context.req.raw;
      const given: Record<string, string> = context.req.param();
      const callerIn = (project: string | undefined) =>
        authenticate(request.headers.get('authorization') ?? undefined, deps.records, project);
      const { principal, standing: placed } = await callerIn(
        parameterSchema('project').safeParse(given['project']).data,
      );
      context.set('principal', `${principal.kind}/${principal.name}`);
      if (spec.method !== 'get') refusePreconditions(request.headers);
      const params = parametersOf(spec.path, given);
      // The same answer for a missing project and one that the caller may not know about.
      if (params['project'] !== undefined && !placed) throw notFound(`project "${params['project']}"`);
      // Refuse before parsing, so that callers without any of the actions learn nothing about valid requests. Refusals
      // that belong in the audit need the body.
      if (!spec.onRefused && (placed || platformOnly(actions)))
        if (actions.every((action) => !mayAtAll(action, principal, placed?.roles ?? platformRoles(principal))))
          throw forbidden(actions, principal);
      const asked = {
        params,
        query: queryOf(spec.query, request),
        body: await bodyOf(spec, request, deps.limits),
        principal,
        roles: placed?.roles ?? platformRoles(principal),
        project: placed?.project,
        request,
        requestId: context.get('requestId'),
        upload: (limit = deps.limits.fileBytes) => readUpload(request, limit, context.env?.incoming),
      } as unknown as Asked<Path, z.output<Query>, z.output<Body>>;
      const action = (await spec.actionOf?.(asked)) ?? actions[0];
      if (!action || !actions.includes(action)) throw new Error(`${spec.operationId} names no action`);
      if (placed && !mayAtAll(action, principal, asked.roles)) {
        await spec.onRefused?.(asked, action);
        throw forbidden([action], principal);
      }
      const scope = spec.scope ? await spec.scope(asked) : { own: false, found: undefined as Found };
      if (!scope) throw notFound('such thing');
      const there = scope.project === undefined ? asked : (await callerIn(scope.project)).standing;
      if (!there) throw notFound('such thing');
      const { roles } = there;
      const grant = mayAtAll(action, principal, roles);
      if (!grant || (!isOwnToken(action, principal) && !allowed(action, roles, scope.own))) {
        await spec.onRefused?.({ ...asked, roles }, action);
        throw forbidden([action], principal);
      }
      return respond(spec.response, await spec.handler({ ...asked, roles, found: scope.found, grant }));
    },
  };
}

/** All users manage their own tokens, even without a project. */
const isOwnToken = (action: Action, principal: Principal): boolean =>
  action === 'token.own' && principal.kind === 'user';

function mayAtAll(action: Action, principal: Principal, roles: readonly Role[]): Grant | undefined {
  if (isOwnToken(action, principal)) return 'own';
  const grant = granted(action, roles);
  return grant === 'no' ? undefined : grant;
}

/** Actions that no project role grants can be refused without a project. */
const platformOnly = (actions: readonly Action[]): boolean =>
  actions.every((action) =>
    (['scientist', 'manager', 'developer', 'engineer', 'application'] as const).every(
      (role) => granted(action, [role]) === 'no',
    ),
  );

/** Whoever sends a precondition relies on it: a write must not ignore it (RFC 9110, 13.2). */
function refusePreconditions(headers: Headers): void {
  const given = ['if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since'].find((name) =>
    headers.has(name),
  );
  if (given !== undefined)
    throw problem(
      400,
      'invalid',
      `${given}: writes take no preconditions in headers: name the revision in the body where there is one, and upload without replace=true to replace nothing`,
    );
}

function forbidden(actions: readonly Action[], { kind, name }: Principal) {
  if (kind !== 'user')
    return problem(
      403,
      'forbidden',
      `the token of the ${kind} "${name}" does not allow ${actions.join(' or ')} here: use the token of a person who may do it`,
    );
  const roles = grantable.filter((role) => actions.some((action) => granted(action, [role]) !== 'no'));
  const isAdmins = actions.some((action) => granted(action, ['admin']) !== 'no');
  const way =
    roles.length > 0
      ? `it needs the role ${roles.join(' or ')}, which a manager of the project can grant`
      : isAdmins
        ? 'only an administrator of the platform may do it'
        : 'it needs the token of the application or job that it belongs to';
  return problem(403, 'forbidden', `your roles do not allow ${actions.join(' or ')} here: ${way}`);
}

/** Roles that a manager of a project can grant. */
const grantable = ['scientist', 'manager', 'developer', 'engineer'] as const;

function parametersOf(path: string, given: Record<string, string>): Record<string, string> {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);
  return Object.fromEntries(
    names.map((name) => {
      const parsed = parameterSchema(name).safeParse(given[name]);
      if (!parsed.success) throw invalid(`path.${name}`, parsed.error);
      return [name, parsed.data];
    }),
  );
}

function queryOf(schema: z.ZodType | undefined, request: Request): unknown {
  const given = [...new URL(request.url).searchParams];
  const seen = new Set<string>();
  for (const [key] of given) {
    if (seen.has(key)) throw problem(400, 'invalid', `query.${key.slice(0, 60)}: given twice`);
    seen.add(key);
  }
  const parsed = (schema ?? z.strictObject({})).safeParse(Object.fromEntries(given));
  if (!parsed.success) throw invalid('query', parsed.error);
  return parsed.data;
}

async function bodyOf(
  { body: schema, isLarge, isExact }: Pick<Route['described'], 'body' | 'isLarge' | 'isExact'>,
  request: Request,
  { jsonBytes, largeJsonBytes }: ApiDeps['limits'],
): Promise<unknown> {
  if (schema === undefined || schema === 'bytes') return undefined;
  const parsed = schema.safeParse(await readJson(request, isLarge ? largeJsonBytes : jsonBytes, isExact));
  if (!parsed.success) throw invalid('body', parsed.error);
  return parsed.data;
}

/** Validates the answer and drops fields that the schema does not name. */
function respond(schema: z.ZodType | 'bytes', answer: Answer<unknown>): Response {
  if (answer instanceof Response) return answer;
  if (schema === 'bytes') throw new Error('a route of bytes gave JSON');
  return new Response(JSON.stringify(schema.parse(answer.body)), {
    status: answer.status ?? 200,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store', ...answer.headers },
  });
}
