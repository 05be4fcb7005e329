// deploy/compose.yaml against Compose's own schema (compose-spec.json, of github.com/compose-spec/compose-spec) and against deploy/stack.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import { parse } from 'yaml';
import { z } from 'zod';
import { defaultPorts, portTable } from '../../deploy/stack/ports.ts';
import { processTable, servers } from '../../deploy/stack/servers.ts';

const composeSchema = z.looseObject({
  'x-platform': z.record(z.string(), z.string()),
  services: z.record(
    z.string(),
    z.looseObject({
      image: z.string(),
      ports: z.array(z.string()).default([]),
      environment: z.record(z.string(), z.union([z.string(), z.number()])).default({}),
      healthcheck: z.looseObject({ test: z.array(z.string()) }),
    }),
  ),
});

const text = readFileSync('deploy/compose.yaml', 'utf8');
// Compose files share common settings of services with `<<`.
const raw: unknown = parse(text, { merge: true });
const compose = composeSchema.parse(raw);

/** Replaces a variable by its default, or by its name if it has none. */
const filled = (value: string): string =>
  value.replaceAll(/\$\{(\w+)(?::-(\d+)|:\?[^}]+)\}/g, (_, name: string, preferred?: string) => preferred ?? name);

function schemaErrors(document: unknown): readonly string[] {
  const schema = z
    .looseObject({ $schema: z.string() })
    .parse(JSON.parse(readFileSync(join(import.meta.dirname, 'compose-spec.json'), 'utf8')));
  // The schema's draft name is written with https, which the validator does not recognise.
  const { $schema: _, ...rules } = schema;
  const ajv = new Ajv({ strict: false, allErrors: true });
  addFormats.default(ajv);
  const check = ajv.compile(rules);
  return check(document) ? [] : (check.errors ?? []).map((error) => `${error.instancePath} ${error.message ?? ''}`);
}

test('is valid by the schema, which refuses invalid files', () => {
  expect(schemaErrors(raw)).toEqual([]);
  const wrong = parse(text.replace('start_period:', 'start_perod:'), { merge: true }) as unknown;
  expect(schemaErrors(wrong)).toContainEqual(expect.stringContaining('/services/kafka/healthcheck'));
});

test('has the same names as deploy/stack, each pinned and with a health check', () => {
  expect(Object.keys(compose.services).sort()).toEqual([...Object.keys(processTable), 'temporal-ui'].sort());
  for (const [name, { image }] of Object.entries(compose.services)) {
    expect([name, image]).toEqual([name, expect.stringMatching(/^[a-z]+(\/[a-z-]+)?:v?\d+\.\d+(\.\d+)?$/)]);
  }
});

test('opens ports only on the loopback, with the variables and defaults of deploy/stack', () => {
  const published = Object.values(compose.services).flatMap(({ ports }) => ports);
  const known = new Map<string, number>(
    Object.values(portTable).map(({ variable, preferred }) => [variable, preferred]),
  );
  expect(published.length).toBeGreaterThan(0);
  for (const port of published) {
    const [, variable = '', preferred] = /^127\.0\.0\.1:\$\{(\w+):-(\d+)\}:/.exec(port) ?? [];
    expect([port, Number(preferred)]).toEqual([port, known.get(variable)]);
  }
});

test('connects the platform with the same variables as deploy/stack', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-compose-'));
  try {
    const program = { java: '', jars: '' };
    const programs = { kafka: program, hdfs: program, alluxio: program, s3: '', temporal: '' };
    const { variables } = servers(folder, defaultPorts, programs);
    const configured = Object.fromEntries(
      Object.entries(compose['x-platform']).map(([key, value]) => [key, filled(value)]),
    );
    expect(configured).toEqual({
      ...variables,
      // Secrets are set by the operator.
      OCDL_S3_ACCESS_KEY_ID: 'OCDL_S3_ACCESS_KEY_ID',
      OCDL_S3_SECRET_ACCESS_KEY: 'OCDL_S3_SECRET_ACCESS_KEY',
      DATABASE_URL: 'postgresql://ocdl:OCDL_STACK_DATABASE_PASSWORD@127.0.0.1:5432/ocdl',
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('contains no password', () => {
  const secrets = Object.values(compose.services).flatMap(({ environment }) =>
    Object.entries(environment).filter(([name]) => /PASSWORD|PWD|SECRET|ACCESS_KEY/.test(name)),
  );
  expect(secrets.length).toBeGreaterThan(0);
  for (const [name, value] of secrets) expect([name, value]).toEqual([name, expect.stringMatching(/^\$\{\w+:\?.+\}$/)]);
});
