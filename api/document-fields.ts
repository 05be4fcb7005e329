// Adds a description and an example to each field and parameter of the OpenAPI document whose schema has none.
import { bodyExamples } from './body-examples.ts';
import { meaningOf } from './glossary.ts';

/** The parts of a schema that are read or changed here. All else is kept. */
interface Field {
  description?: string;
  example?: unknown;
  enum?: unknown[];
  properties?: Record<string, Field>;
  items?: Field;
  additionalProperties?: Field | boolean;
  anyOf?: Field[];
  oneOf?: Field[];
}
type Content = Record<string, { schema?: Field; example?: unknown }>;
interface Operation {
  operationId: string;
  tags?: string[];
  parameters?: { name: string; description?: string; example?: unknown; schema?: Field }[];
  requestBody?: { content?: Content };
  responses?: Record<string, { content?: Content }>;
}
export interface DescribedDocument {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Field> };
}

/** Lists contain rows, so a row's field takes the context of its list. */
const LISTS = ['rows'];

/** A copy of the document with every field described. */
export function describeFields(document: DescribedDocument): DescribedDocument {
  const copy = structuredClone(document);
  for (const operation of Object.values(copy.paths).flatMap((methods) => Object.values(methods))) {
    const where = operation.tags?.[0] ?? '';
    for (const parameter of operation.parameters ?? []) describeParameter(where, parameter);
    for (const [content, isBody] of contentsOf(operation)) {
      walk(where, content.schema);
      if (isBody && Object.hasOwn(bodyExamples, operation.operationId))
        content.example = bodyExamples[operation.operationId];
    }
  }
  for (const [name, schema] of Object.entries(copy.components.schemas)) walk(name, schema);
  return copy;
}

function* contentsOf({ requestBody, responses = {} }: Operation): Generator<[Content[string], boolean]> {
  for (const content of Object.values(requestBody?.content ?? {})) yield [content, true];
  for (const response of Object.values(responses))
    for (const content of Object.values(response.content ?? {})) yield [content, false];
}

function describeParameter(where: string, parameter: NonNullable<Operation['parameters']>[number]): void {
  const { description, example } = parameter.schema ?? {};
  const own = { ...(description !== undefined && { description }), ...(example !== undefined && { example }) };
  Object.assign(parameter, own);
  explain(where, parameter.name, parameter);
}

function walk(where: string, schema: Field | boolean | undefined): void {
  if (typeof schema !== 'object') return;
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    explain(where, name, field);
    walk(LISTS.includes(name) ? where : name, field);
  }
  walk(where, schema.items);
  walk(where, schema.additionalProperties);
  for (const one of [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]) walk(where, one);
}

/** A schema's own description is kept. Fields with subfields or enumerated values need no example. */
function explain(where: string, name: string, field: Field): void {
  const meaning = meaningOf(where, name);
  if (meaning === undefined || field.description !== undefined) return;
  const [description, example] = typeof meaning === 'string' ? [meaning] : meaning;
  field.description = description;
  if (example !== undefined && !field.properties && !field.enum) field.example ??= example;
}
