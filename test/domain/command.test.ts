// The parser of commands: accepts every valid command, reports the problem of anything else, and never throws.
import type { CommandBody, SignedCommand } from '../../workflows/domain/command.ts';
import { COMMAND_LIMIT, isCommandId, parseSignedCommand, REASON_LIMIT } from '../../workflows/domain/command.ts';

const body: CommandBody = {
  v: 1,
  keyId: 'k1',
  workflowId: 'model/p/m/s-1',
  commandId: '6f1e1ba4-5b4c-4c7e-9d1e-111111111111',
  name: 'approve',
  args: {},
  actor: 'mia',
  roles: ['manager'],
  policyVersion: 1,
  revision: 3,
  digest: 'f'.repeat(64),
  report: null,
  issuedAt: '2026-11-23T18:00:00.000Z',
};
const command: SignedCommand = { body, signature: 'A'.repeat(86) };
const changed = (change: Record<string, unknown>): unknown => ({ ...command, body: { ...body, ...change } });
const problemOf = (raw: unknown): string | undefined => {
  const parsed = parseSignedCommand(raw);
  return 'problem' in parsed ? parsed.problem : undefined;
};

it.each<[string, Record<string, unknown>]>([
  ['as it is', {}],
  ['no roles', { roles: [] }],
  ['no digest', { digest: null }],
  ['a report', { report: 'a'.repeat(64) }],
  ['a long reason with lines', { args: { reason: `${'é\n\t'.repeat(600)}` } }],
  ['a reason of another script', { args: { reason: '漢字 😀 "quoted" \\u0000 \\' } }],
  ['an empty reason', { args: { reason: '' } }],
  ['a scientist', { args: { to: 'sue', reason: 'r' } }],
  ['tags', { args: { tags: ['a', 'b'] } }],
  ['no tags', { args: { tags: [] } }],
  ['a release', { args: { release: 'kind-1' } }],
  ['200 findings', { args: { findings: Array.from({ length: 200 }, () => 'f'.repeat(64)) } }],
])('takes a command with %s', (_, change) => {
  expect(parseSignedCommand(changed(change))).toEqual({ command: changed(change) });
});

it('passes on only signed fields', () => {
  expect(parseSignedCommand({ ...command, extra: 1 })).toEqual({ command });
});

it.each<[unknown, RegExp]>([
  [undefined, /not an object/],
  [null, /not an object/],
  [7, /not an object/],
  ['{}', /not an object/],
  [[], /not an object/],
  [[command], /not an object/],
  [{}, /no body/],
  [{ body }, /no signature/],
  [{ body, signature: 7 }, /no signature/],
  [{ body, signature: 'A'.repeat(129) }, /no signature/],
  [{ body: [], signature: '' }, /no body/],
  [{ body: null, signature: '' }, /no body/],
  [{ body: {}, signature: '' }, /fields must be/],
  [changed({ extra: 1 }), /fields must be/],
  [changed({ v: 2 }), /unknown version/],
  [changed({ v: '1' }), /unknown version/],
  [changed({ keyId: '' }), /malformed/],
  [changed({ keyId: 'k'.repeat(65) }), /malformed/],
  [changed({ workflowId: 7 }), /malformed/],
  [changed({ workflowId: 'w'.repeat(513) }), /malformed/],
  [changed({ name: 'n'.repeat(33) }), /malformed/],
  [changed({ actor: null }), /malformed/],
  [changed({ commandId: 'short' }), /commandId/],
  [changed({ commandId: '../../../etc/passwd' }), /commandId/],
  [changed({ commandId: 'a'.repeat(65) }), /commandId/],
  [changed({ issuedAt: '' }), /issuedAt/],
  [changed({ revision: 1.5 }), /number/],
  [changed({ revision: '3' }), /number/],
  [changed({ revision: Number.MAX_VALUE }), /number/],
  [changed({ policyVersion: null }), /number/],
  [changed({ digest: '' }), /digest/],
  [changed({ digest: 'f'.repeat(65) }), /digest/],
  [changed({ digest: undefined }), /digest/],
  [changed({ report: 7 }), /digest/],
  [changed({ roles: 'manager' }), /roles/],
  [changed({ roles: ['root'] }), /roles/],
  [changed({ roles: Array.from({ length: 8 }, () => 'manager') }), /roles/],
  [changed({ args: null }), /args/],
  [changed({ args: [] }), /args/],
  [changed({ args: { reason: 7 } }), /args\.reason/],
  [changed({ args: { reason: 'r'.repeat(REASON_LIMIT + 1) } }), /args\.reason/],
  [changed({ args: { to: '' } }), /args\.to/],
  [changed({ args: { release: 'r'.repeat(129) } }), /args\.release/],
  [changed({ args: { tags: 'a' } }), /args\.tags/],
  [changed({ args: { tags: [''] } }), /args\.tags/],
  [changed({ args: { tags: Array.from({ length: 21 }, () => 'a') } }), /args\.tags/],
  [changed({ args: { findings: Array.from({ length: 201 }, () => 'a') } }), /args\.findings/],
  [changed({ args: { findings: [7] } }), /args\.findings/],
  [changed({ args: { shell: 'rm' } }), /args\.shell/],
  [changed({ args: { 'a\u0000\ud800': 1 } }), /control characters/],
  [changed({ args: { schön: 1 } }), /args\.sch\?n/],
  [changed({ actor: 'a\u0000' }), /control characters/],
  [changed({ args: { reason: '\ud800' } }), /half a surrogate pair/],
  [changed({ args: { reason: 'bell \u0007' } }), /control characters/],
  [changed({ args: { x: 'x'.repeat(COMMAND_LIMIT) } }), /too large/],
])('says what is wrong with %#', (raw, problem) => {
  expect(problemOf(raw)).toMatch(problem);
  expect(problemOf(raw)?.length).toBeLessThan(300);
});

/** A small seeded generator (mulberry32), so that a failure can be reproduced. */
function seeded(seed: number): () => number {
  const state = { at: seed };
  return () => {
    state.at = (state.at + 0x6d2b79f5) | 0;
    let t = Math.imul(state.at ^ (state.at >>> 15), 1 | state.at);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const throwing = new Proxy(
  {},
  {
    ownKeys: () => {
      throw new Error('no');
    },
    get: () => {
      throw new Error('no');
    },
  },
);
const cyclic: Record<string, unknown> = { signature: 'x' };
cyclic.body = cyclic;
const oddities: readonly unknown[] = [
  undefined,
  null,
  true,
  0,
  -0,
  NaN,
  Infinity,
  10n,
  '',
  'x'.repeat(20_000),
  '\u0000',
  '\udfff',
  Symbol.iterator,
  () => command,
  new Date(NaN),
  new Map([['body', body]]),
  new Error('x'),
  throwing,
  cyclic,
  Object.create(null),
  Object.create(body),
  {
    toJSON: () => {
      throw new Error('no');
    },
  },
  { toJSON: () => command },
  JSON.parse('{"__proto__":{"body":1}}'),
  JSON.parse(`${'['.repeat(50_000)}${']'.repeat(50_000)}`),
  [[[[]]]],
  new Uint8Array(3),
];

it('is total: it returns a result for 20,000 odd values', () => {
  const seed = 20_261_123;
  const next = seeded(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)] as T;
  const fields = [...Object.keys(body), 'constructor', '__proto__', 'extra'];
  const args = ['reason', 'to', 'tags', 'release', 'findings', 'x'];
  let taken = 0;
  for (let i = 0; i < 20_000; i += 1) {
    const strange: Record<string, unknown> = { ...body };
    for (let n = Math.floor(next() * 3); n > 0; n -= 1) {
      if (next() < 0.5) strange[pick(fields)] = pick(oddities);
      else strange.args = { [pick(args)]: next() < 0.3 ? [pick(oddities)] : pick(oddities) };
    }
    if (next() < 0.1) delete strange[pick(fields)];
    const raw =
      next() < 0.1
        ? pick(oddities)
        : { body: next() < 0.1 ? pick(oddities) : strange, signature: next() < 0.9 ? 'x' : pick(oddities) };
    const parsed = parseSignedCommand(raw);
    if ('command' in parsed) {
      taken += 1;
      // An accepted command is plain, small and survives a JSON round trip.
      const text = JSON.stringify(parsed.command);
      expect(text.length).toBeLessThanOrEqual(COMMAND_LIMIT);
      expect(isCommandId(parsed.command.body.commandId)).toBe(true);
    } else expect(parsed.problem).toMatch(/^[\x20-\x7e]{1,300}$/);
  }
  // Some values must be accepted and some refused.
  expect(taken).toBeGreaterThan(1_000);
  expect(taken).toBeLessThan(19_000);
});
