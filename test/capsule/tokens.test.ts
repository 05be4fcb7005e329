// The pre-processing is the same in Python, in TypeScript and in the training data.
import { createReadStream } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import { z } from 'zod';
import { javaTokens } from '../../deploy/examples/vulnerability/java-tokens.ts';
import { pythonEnvironment } from '../python.ts';
import { EXAMPLE, runProgram } from './programs.ts';

const TOKENISE = `
import json, sys
sys.path.insert(0, sys.argv[1])
from java_tokens import tokens
json.dump([tokens(source) for source in json.load(sys.stdin)], sys.stdout)
`;

async function tokensByPython(sources: readonly string[]): Promise<string[]> {
  const python = await pythonEnvironment();
  const ended = await runProgram(python, ['-c', TOKENISE, join(EXAMPLE, 'model')], { stdin: JSON.stringify(sources) });
  expect(ended.stderr).toBe('');
  return z.array(z.string()).parse(JSON.parse(ended.stdout));
}

async function sampleFiles(): Promise<{ id: string; source: string }[]> {
  const root = join(EXAMPLE, 'sample');
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.name.endsWith('.java'))
    .map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(
    paths
      .sort()
      .map(async (path) => ({ id: relative(root, path).replace('/', ':'), source: await readFile(path, 'utf8') })),
  );
}

function counts(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const token of text.split(' ')) found.set(token, (found.get(token) ?? 0) + 1);
  return found;
}

test('both tokenisers give the same tokens for every sample file', async () => {
  const files = await sampleFiles();
  expect(files).toHaveLength(60);
  const python = await tokensByPython(files.map((file) => file.source));
  files.forEach((file, index) => {
    expect(javaTokens(file.source)).toBe(python[index]);
    expect(javaTokens(file.source).length).toBeGreaterThan(0);
  });
}, 600_000);

test('both tokenisers give the same tokens where regular expressions differ between the languages', async () => {
  const sources = [
    '',
    '\uFEFFpackage a.b;\nclass A {}',
    'import a;\r\nimport b;\r\nclass A { String s = "x // y"; }\r\n',
    'class A { /* open\n * comment',
    'a\u0085import b;c\u2028import d;e',
    '\u001cimport x;\u00a0import\u00a0y;',
    'String s = "a\\"b\\\\"; String t = "unclosed\nint x;',
    '"\\\u2028" "a\rb"',
    'ünïcode \u{1F600} $dollar _under 0x1F 1e5',
    'import a\n.b\n.c ; x',
    '@interface A { char c = \'"\'; } // "',
  ];
  expect(sources.map(javaTokens)).toEqual(await tokensByPython(sources));
}, 600_000);

test('version 1 omits comments, imports and the contents of strings', () => {
  const source = 'package p;\nimport java.util.List; // list\n/* a\nb */ class A { String s = "secret"; }';
  expect(javaTokens(source)).toBe('class A { String s = STRLIT ; }');
});

test('the tokens of a sample file match its row of the held-out data', async () => {
  const rowSchema = z.object({
    id: z.string(),
    inputs: z.object({ source: z.string() }),
    label: z.enum(['YES', 'NO']),
  });
  const rows = new Map<string, Map<string, number>>();
  const vocabulary = new Set<string>();
  const lines = createInterface({
    input: createReadStream(join(EXAMPLE, 'data', 'heldout.jsonl.gz')).pipe(createGunzip()),
  });
  for await (const line of lines) {
    const row = rowSchema.parse(JSON.parse(line));
    rows.set(row.id, counts(row.inputs.source));
    for (const token of rows.get(row.id)?.keys() ?? []) vocabulary.add(token);
  }
  expect(rows.size).toBe(717);
  for (const { id, source } of await sampleFiles()) {
    const own = [...counts(javaTokens(source))].filter(([token]) => vocabulary.has(token));
    // Counts were kept in one byte.
    const kept = own.map(([token, count]) => [token, Math.min(count, 255)] as const);
    expect({ id, counts: Object.fromEntries(kept) }).toEqual({ id, counts: Object.fromEntries(rows.get(id) ?? []) });
  }
});
