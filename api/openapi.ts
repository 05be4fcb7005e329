// Describes every route as OpenAPI 3.1, from the schemas that validate requests and responses.
import type { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import type { DescribedDocument } from './document-fields.ts';
import { describeFields } from './document-fields.ts';
import { problemSchema } from './problems.ts';
import type { Env, Route } from './route.ts';
import { publicRoute } from './route.ts';
import { parameterSchema } from './schemas.ts';

type SchemaObject = Parameters<OpenAPIHono['openAPIRegistry']['registerComponent']>[2];

const version = '0.1.0';

const said: Readonly<Record<number, string>> = {
  200: 'As asked',
  201: 'Created by this request',
  202: 'Recorded, and being carried out',
  206: 'The requested range',
  304: 'Not changed',
};

/** Adds a route to the application's OpenAPI registry. */
export function describe(app: OpenAPIHono<Env>, route: Route): void {
  const { described, path, method, actions } = route;
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name);
  const { response, body } = described;
  const success =
    response === 'bytes'
      ? { 'application/octet-stream': { schema: z.string().meta({ format: 'binary' }) } }
      : { 'application/json': { schema: response } };
  const statuses = described.statuses ?? [200];
  const open = actions === 'public';
  app.openAPIRegistry.registerPath({
    method,
    path,
    operationId: described.operationId,
    summary: described.summary,
    tags: [path.split('/').findLast((part) => part !== '' && !part.startsWith('{')) ?? 'platform'],
    security: open ? [] : [{ token: [] }],
    ...(!open && { description: `Needs: ${actions.join(' or ')}` }),
    request: {
      ...(names.length > 0 && {
        params: z.object(Object.fromEntries(names.map((name) => [name, parameterSchema(name)]))),
      }),
      ...(described.query instanceof z.ZodObject && { query: described.query }),
      ...(body === 'bytes' && {
        body: {
          required: true,
          content: { 'application/octet-stream': { schema: z.string().meta({ format: 'binary' }) } },
        },
      }),
      ...(body instanceof z.ZodType && { body: { required: true, content: { 'application/json': { schema: body } } } }),
    },
    responses: {
      ...Object.fromEntries(
        statuses.map((status) => [
          status,
          { description: said[status] ?? 'As asked', ...(status !== 304 && { content: success }) },
        ]),
      ),
      ...(!open && {
        401: { $ref: '#/components/responses/Problem' },
        403: { $ref: '#/components/responses/Problem' },
        404: { $ref: '#/components/responses/Problem' },
      }),
      default: { $ref: '#/components/responses/Problem' },
    },
  });
}

/** The route that returns the document. `whole` is called on request, when all routes are registered. */
export function documentRoute(whole: () => DescribedDocument): Route {
  return publicRoute({
    public: true,
    method: 'get',
    path: '/v1/openapi.json',
    operationId: 'getOpenApi',
    summary: 'This document',
    response: z.looseObject({ openapi: z.string() }),
    handler: async () => ({ body: { ...whole() } }),
  });
}

/** The complete document. */
export function documentOf(app: OpenAPIHono<Env>): DescribedDocument {
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'OCDL',
      version,
      description: 'Takes machine-learning models from training to production, with a human decision at each step.',
      license: { name: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
  });
  // Convert to plain JSON, as it is sent.
  return describeFields(JSON.parse(JSON.stringify(document)) as DescribedDocument);
}

/** Registers the components that routes refer to. */
export function describeParts(app: OpenAPIHono<Env>): void {
  app.openAPIRegistry.registerComponent('securitySchemes', 'token', {
    type: 'http',
    scheme: 'bearer',
    description: 'ocdl_<token id>_<secret>',
  });
  const { $schema: _, ...problem } = z.toJSONSchema(problemSchema);
  app.openAPIRegistry.registerComponent('schemas', 'Problem', JSON.parse(JSON.stringify(problem)) as SchemaObject);
  app.openAPIRegistry.registerComponent('responses', 'Problem', {
    description: 'What was wrong, where, what to do (RFC 9457)',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  });
}
