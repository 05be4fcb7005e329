// The OpenAPI document: every route, under one id each, with what it takes, what it gives and how it fails; and the health routes.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { z } from 'zod';
import type { World } from './world.ts';
import { json, openWorld } from './world.ts';

/** A schema of the document as far as it is walked here. */
interface Field {
  readonly description?: string;
  readonly example?: unknown;
  readonly properties?: Record<string, Field>;
  readonly items?: Field;
  readonly additionalProperties?: Field | boolean;
  readonly anyOf?: readonly Field[];
  readonly oneOf?: readonly Field[];
}
type Content = Record<string, { readonly schema?: Field; readonly example?: unknown }>;
interface Parameter extends Field {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema?: Field;
}
interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly security: readonly unknown[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Record<string, { readonly $ref?: string; readonly content?: Content }>;
}
interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: Record<string, Record<string, unknown>>;
}

const state: { world?: World; document?: Document } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
const document = (): Document => {
  if (!state.document) throw new Error('no document');
  return state.document;
};
beforeAll(async () => {
  state.world = await openWorld();
  const answer = await json(world().ask(null, 'GET', '/v1/openapi.json'));
  state.document = answer as unknown as Document;
});
afterAll(() => state.world?.close());

test('is version 3.1 and describes exactly the existing routes', () => {
  expect(document().openapi).toBe('3.1.0');
  const described = Object.entries(document().paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => `${method} ${path} ${operationId}`),
  );
  const routes = world().api.routes.map((one) => `${one.method} ${one.path} ${one.described.operationId}`);
  expect(described.sort()).toEqual([...routes].sort());
  expect(new Set(routes.map((one) => one.split(' ')[2])).size).toBe(routes.length);
});

test('documents permission, input and failures of each route', () => {
  expect(document().components['securitySchemes']).toEqual({
    token: { type: 'http', scheme: 'bearer', description: expect.any(String) as unknown },
  });
  for (const one of world().api.routes) {
    const operation = document().paths[one.path]?.[one.method];
    if (!operation) throw new Error(one.path);
    const isPublic = one.actions === 'public';
    expect([one.path, operation.security]).toEqual([one.path, isPublic ? [] : [{ token: [] }]]);
    expect(operation.responses['default']?.$ref).toBe('#/components/responses/Problem');
    expect('401' in operation.responses).toBe(!isPublic);
    const names = [...one.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
    expect(inPath.map(({ name }) => name).sort()).toEqual(names.sort());
    expect(operation.requestBody !== undefined).toBe(one.described.body !== undefined);
    expect(operation.summary.length).toBeGreaterThan(5);
  }
});

/** Every field and parameter, with its location. */
function* fields(): Generator<readonly [where: string, Field]> {
  for (const operation of Object.values(document().paths).flatMap((methods) => Object.values(methods))) {
    const { operationId, parameters = [], requestBody, responses } = operation;
    for (const { schema, description, example, name } of parameters)
      yield [`${operationId} ?${name}`, { ...schema, ...(description !== undefined && { description }), example }];
    const described: Record<string, { readonly content?: Content }> = { body: requestBody ?? {}, ...responses };
    for (const [what, { content }] of Object.entries(described))
      for (const { schema } of Object.values(content ?? {})) yield* within(`${operationId} ${what}`, schema);
  }
  for (const [name, schema] of Object.entries(document().components['schemas'] ?? {}))
    yield* within(name, schema as Field);
}
function* within(where: string, schema: Field | boolean | undefined): Generator<readonly [string, Field]> {
  if (typeof schema !== 'object') return;
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    yield [`${where}.${name}`, field];
    yield* within(`${where}.${name}`, field);
  }
  for (const one of [schema.items, schema.additionalProperties, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])])
    yield* within(`${where}[]`, one);
}

test('describes each field and parameter', () => {
  const all = [...fields()];
  expect(all.length).toBeGreaterThan(1_000);
  expect(all.filter(([, { description }]) => !description?.trim()).map(([where]) => where)).toEqual([]);
  // A description that only repeats the name is not enough.
  const idle = all.filter(([where, { description = '' }]) =>
    where.toLowerCase().endsWith(`.${description.toLowerCase()}`),
  );
  expect(idle.map(([where]) => where)).toEqual([]);
});

test('has only examples that match its schemas', () => {
  const given = [...fields()].filter(([, { example }]) => example !== undefined);
  expect(given.length).toBeGreaterThan(500);
  for (const [where, { example, ...schema }] of given) {
    const { error } = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]).safeParse(example);
    expect([where, error?.issues]).toEqual([where, undefined]);
  }
});

test('has an example body for each operation that takes JSON, which the operation accepts', () => {
  const taking = world().api.routes.filter(({ described }) => described.body instanceof z.ZodType);
  expect(taking.length).toBeGreaterThan(15);
  for (const { path, method, described } of taking) {
    const example = document().paths[path]?.[method]?.requestBody?.content['application/json']?.example;
    const { error } = (described.body as z.ZodType).safeParse(example);
    expect([described.operationId, example !== undefined, error?.issues]).toEqual([
      described.operationId,
      true,
      undefined,
    ]);
  }
});

test('has no dangling references', () => {
  const text = JSON.stringify(document());
  for (const [, kind = '', name = ''] of text.matchAll(/"#\/components\/(\w+)\/(\w+)"/g))
    expect([kind, name, document().components[kind]?.[name] !== undefined]).toEqual([kind, name, true]);
  expect(text).toContain('application/problem+json');
});

test('is alive without other systems, and ready only with the workflow server and the database', async () => {
  expect((await world().ask(null, 'GET', '/healthz')).status).toBe(200);
  expect((await world().ask(null, 'GET', '/readyz')).status).toBe(200);
  world().deps.workflows.throws.ready = 'unavailable';
  const response = await world().ask(null, 'GET', '/readyz');
  expect([response.status, await json(response)]).toMatchObject([503, { missing: ['workflows'] }]);
  expect((await world().ask(null, 'GET', '/healthz')).status).toBe(200);
  delete world().deps.workflows.throws.ready;
});

test('is not ready while the database hangs', async () => {
  const { records } = world().deps;
  const principal = records.principal.bind(records);
  Object.assign(records, { principal: () => new Promise(() => undefined) });
  const response = await world().ask(null, 'GET', '/readyz');
  expect([response.status, await json(response)]).toMatchObject([503, { missing: ['records'] }]);
  Object.assign(records, { principal });
  expect((await world().ask(null, 'GET', '/readyz')).status).toBe(200);
});
