// The API as one Hono application: mounts every route, gives each request an id, logs it, and answers every error in one format.
import { randomUUID } from 'node:crypto';
import { OpenAPIHono } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import { applicationSettingRoutes } from './application-settings.ts';
import { keepingDigests } from '../activities/chunk-digests.ts';
import { applicationRoutes } from './applications.ts';
import { auditRoutes } from './audit.ts';
import { computeRoutes } from './compute-profiles.ts';
import { codeRoutes } from './code.ts';
import { dataSetRoutes } from './data-sets.ts';
import { createSendBytes } from './byte-stream.ts';
import type { ApiDeps, RouteDeps } from './deps.ts';
import { evaluationRoutes } from './evaluations.ts';
import { fileRoutes } from './files.ts';
import { healthRoutes } from './health.ts';
import { importRoutes } from './imports.ts';
import { jobRoutes } from './jobs.ts';
import { nodeRoutes } from './nodes.ts';
import { describe, describeParts, documentOf, documentRoute } from './openapi.ts';
import { notFound, problem, problemOf, problemResponse } from './problems.ts';
import { operationRoutes } from './operations.ts';
import { projectRoutes } from './projects.ts';
import { releaseRoutes } from './releases.ts';
import { revertRoutes } from './reverts.ts';
import type { Env, Route } from './route.ts';
import { scanRoutes } from './scans.ts';
import { isTail } from './schemas.ts';
import { submissionRoutes } from './submissions.ts';
import { tokenRoutes } from './tokens.ts';
import { typeRoutes } from './model-types.ts';
import { userRoutes } from './users.ts';
import { versionRoutes } from './versions.ts';

/** The application, and its routes with their actions. */
export interface Api {
  readonly app: OpenAPIHono<Env>;
  readonly routes: readonly Route[];
}

/** Creates the API from its dependencies. Has no side effects until a request arrives. */
export function createApp(given: ApiDeps): Api {
  return createWith(given, (deps, app) => [
    ...[
      healthRoutes,
      tokenRoutes,
      userRoutes,
      projectRoutes,
      typeRoutes,
      computeRoutes,
      fileRoutes,
      dataSetRoutes,
      codeRoutes,
    ].flatMap((of) => of(deps)),
    ...[importRoutes, nodeRoutes].flatMap((of) => of(deps)),
    ...[submissionRoutes, versionRoutes, evaluationRoutes, releaseRoutes].flatMap((of) => of(deps)),
    ...[applicationRoutes, applicationSettingRoutes, revertRoutes, scanRoutes].flatMap((of) => of(deps)),
    ...[auditRoutes, jobRoutes, operationRoutes].flatMap((of) => of(deps)),
    documentRoute(() => documentOf(app)),
  ]);
}

/** Creates what jobs on a cluster may reach: only the data path of jobs, which takes only the tokens of jobs. */
export function createDataApp(given: ApiDeps): Api {
  return createWith(given, jobRoutes);
}

function createWith(given: ApiDeps, routesOf: (deps: RouteDeps, app: OpenAPIHono<Env>) => readonly Route[]): Api {
  const deps = withCheckedBytes(given);
  const app = new OpenAPIHono<Env>();
  app.use(observe(deps));
  app.use(addressedHere(deps.limits.hosts));
  app.use(plainPath);
  app.onError((error, context) => {
    const found = problemOf(error);
    if (found.status >= 500) deps.log.error({ requestId: context.get('requestId'), err: error }, 'request failed');
    return problemResponse(found, context.get('requestId'));
  });
  app.notFound((context) => {
    const allowed = methodsAt(routes, new URL(context.req.url).pathname);
    const found = allowed.length > 0 ? noMethod(context.req.method, allowed) : notFound('such address');
    return problemResponse(found, context.get('requestId'));
  });

  const routes = routesOf(deps, app);
  describeParts(app);
  for (const route of routes) {
    app.on(route.method.toUpperCase(), mountedPath(route), (context) => route.handle(context, deps));
    describe(app, route);
  }
  return { app, routes };
}

/** Adds stores that record the digests of written files, and the function that sends stored bytes. */
function withCheckedBytes(given: ApiDeps): RouteDeps {
  const { records, log } = given;
  const onWarn = (message: string): void => log.warn(message);
  const deps = {
    ...given,
    areas: keepingDigests(given.areas, records, onWarn),
    releases: keepingDigests(given.releases, records, onWarn),
  };
  const faults = { mismatch: 0, missing: 0 };
  return {
    ...deps,
    send: createSendBytes(deps, (kind) => (faults[kind] += 1)),
    counters: () => ({ bytes_mismatch: faults.mismatch, bytes_missing: faults.missing, ...given.counters() }),
  };
}

/** Converts `{name}` to Hono's syntax. Tail parameters match slashes, too. */
export const mountedPath = ({ path }: Pick<Route, 'path'>): string =>
  path.replace(/\{(\w+)\}/g, (_, name: string) => (isTail(name) ? `:${name}{.+}` : `:${name}`));

/** The methods of an address; HEAD goes with GET. */
function methodsAt(routes: readonly Route[], path: string): readonly string[] {
  const patternOf = (route: Route): RegExp =>
    new RegExp(
      `^${route.path.replaceAll('.', '\\.').replace(/\{(\w+)\}/g, (_, name: string) => (isTail(name) ? '.+' : '[^/]+'))}$`,
    );
  const methods = routes.filter((route) => patternOf(route).test(path)).map(({ method }) => method.toUpperCase());
  return methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
}

const noMethod = (method: string, allowed: readonly string[]) =>
  problem(
    405,
    'no-such-method',
    `this address takes ${allowed.join(', ')}, not ${method.slice(0, 20)}`,
    {},
    { allow: allowed.join(', ') },
  );

/** Gives each request an id and logs one line when it is answered. Tokens and bodies are never logged. */
function observe({ log }: ApiDeps): MiddlewareHandler<Env> {
  return async (context, next) => {
    const given = context.req.header('x-request-id') ?? '';
    const requestId = /^[A-Za-z0-9._-]{8,64}$/.test(given) ? given : randomUUID();
    context.set('requestId', requestId);
    const begun = performance.now();
    await next();
    context.header('x-request-id', requestId);
    context.header('x-content-type-options', 'nosniff');
    log.child({ requestId }).info(
      {
        method: context.req.method,
        route: context.req.matchedRoutes.at(-1)?.path ?? '',
        status: context.res.status,
        ms: Math.round(performance.now() - begun),
        principal: context.get('principal') ?? null,
      },
      'request',
    );
  };
}

/** Refuses requests with an unexpected host name: a web page may have pointed its own name here (DNS rebinding). */
function addressedHere(hosts: readonly string[] | 'any'): MiddlewareHandler<Env> {
  return async (context, next) => {
    const host = (context.req.header('host') ?? new URL(context.req.url).host).toLowerCase().replace(/:\d{1,5}$/, '');
    if (hosts !== 'any' && !hosts.includes(host))
      throw problem(
        421,
        'wrong-host',
        `this server accepts the host names ${hosts.join(', ')}, not "${host.slice(0, 100)}"`,
      );
    await next();
  };
}

/** No valid name or path needs an escape, so paths with escapes are refused: they could be read in two ways. */
const plainPath: MiddlewareHandler<Env> = async (context, next) => {
  const { pathname } = new URL(context.req.url);
  if (/%|\\|\/\/|[^\x21-\x7e]/.test(pathname))
    throw problem(
      400,
      'invalid',
      'path: names consist of letters, digits, ".", "_" and "-"; escapes and "//" are not allowed',
    );
  await next();
};
