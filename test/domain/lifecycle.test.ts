// The lifecycle's rules: each cell of the table (state × command × role), and the additional conditions.
import { readFileSync } from 'node:fs';
import type { CommandBody, LifecycleCommand } from '../../workflows/domain/command.ts';
import { lifecycleCommands } from '../../workflows/domain/command.ts';
import type { Standing, VersionState } from '../../workflows/domain/lifecycle.ts';
import { finalStates, judge, transitions, versionStates } from '../../workflows/domain/lifecycle.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import { roles } from '../../workflows/domain/roles.ts';

const digest = 'd'.repeat(64);
const standing = (change: Partial<Standing> = {}): Standing => ({
  state: 'new',
  revision: 5,
  author: 'sam',
  digest,
  approvals: [],
  quorum: 1,
  busy: null,
  failedDeliveries: 1,
  ...change,
});
const authors = ['retry', 'submit', 'withdraw'];
const given = (name: string, change: Partial<CommandBody> = {}): CommandBody => ({
  v: 1,
  keyId: 'k1',
  workflowId: 'model/p/m/s',
  commandId: 'c-00000001',
  name,
  args: { reason: 'because', to: 'sue', tags: ['good'] },
  actor: authors.includes(name) ? 'sam' : 'mia',
  roles: authors.includes(name) ? ['scientist'] : ['manager'],
  policyVersion: 1,
  revision: 5,
  digest,
  report: 'e'.repeat(64),
  issuedAt: '2026-11-23T18:00:00.000Z',
  ...change,
});
const verdict = (of: Standing, body: CommandBody, held: readonly Role[] = body.roles): string => {
  const found = judge(of, body, held);
  return 'refused' in found
    ? found.refused
    : `${found.transition.to ?? 'stays'}${found.completes ? '' : ', more needed'}`;
};

// Written by hand from the design, not from the code: valid commands per state, and the next state.
const valid: Readonly<Record<VersionState, Partial<Record<LifecycleCommand, string>>>> = {
  provisioning: { withdraw: 'withdrawn' },
  training: { withdraw: 'withdrawn' },
  failed: { retry: 'provisioning', withdraw: 'withdrawn' },
  trained: { submit: 'validating', withdraw: 'withdrawn' },
  validating: { withdraw: 'withdrawn' },
  invalid: {},
  new: { withdraw: 'withdrawn', approve: 'approved', reject: 'rejected', rollback: 'rolled-back', tag: 'stays' },
  approved: { reject: 'rejected', rollback: 'rolled-back', undo: 'new', release: 'released', tag: 'stays' },
  rejected: { undo: 'new', tag: 'stays' },
  'rolled-back': {},
  released: {
    reject: 'rejected',
    rollback: 'rolled-back',
    release: 'released',
    reassign: 'reassigned',
    retire: 'retired',
    tag: 'stays',
  },
  reassigned: {},
  retired: {},
  withdrawn: {},
};
const cells = versionStates.flatMap((state) => lifecycleCommands.map((name) => [state, name] as const));

it('has 14 states and 11 commands, and a row for each', () => {
  expect(cells).toHaveLength(14 * 11);
  expect(Object.keys(valid).sort()).toEqual([...versionStates].sort());
  expect(Object.keys(transitions).sort()).toEqual([...lifecycleCommands].sort());
});

it.each(cells)('in %s: %s', (state, name) => {
  expect(verdict(standing({ state }), given(name))).toBe(valid[state][name] ?? 'wrong-state');
});

it('accepts no command in a final state', () => {
  for (const state of finalStates) expect(valid[state]).toEqual({});
});

it('never gets stuck: in each state that is not final some command leads out', () => {
  for (const state of versionStates.filter((one) => !(finalStates as readonly string[]).includes(one)))
    expect(Object.values(valid[state]).some((to) => to !== 'stays')).toBe(true);
});

// Permissions for one's own versions and for those of others.
const may: Readonly<Record<string, { own: readonly Role[]; others: readonly Role[] }>> = {
  author: { own: ['scientist', 'manager'], others: [] },
  decide: { own: ['manager'], others: ['manager'] },
};
it.each(lifecycleCommands.flatMap((name) => roles.map((role) => [name, role] as const)))('%s by a %s', (name, role) => {
  const state = versionStates.find((one) => valid[one][name]) ?? 'invalid';
  const rule = may[authors.includes(name) ? 'author' : 'decide'];
  // Quorum two, so that the rule for authors has no effect here.
  const own = verdict(standing({ state, quorum: 2 }), given(name, { actor: 'sam', roles: [role] }));
  const others = verdict(standing({ state, quorum: 2 }), given(name, { actor: 'mia', roles: [role] }));
  expect(own !== 'not-authorized').toBe(rule?.own.includes(role));
  expect(others !== 'not-authorized').toBe(rule?.others.includes(role));
});

it('requires a role, and uses the most permissive of several', () => {
  expect(verdict(standing(), given('approve', { roles: [] }))).toBe('not-authorized');
  expect(verdict(standing(), given('approve', { roles: ['engineer', 'manager'] }))).toBe('approved');
});

describe('approval', () => {
  const approve = (actor: string, of: Partial<Standing>) => verdict(standing(of), given('approve', { actor }));
  it.each([
    ['one of one', 'mia', { quorum: 1 }, 'approved'],
    ['the author alone', 'sam', { quorum: 1 }, 'not-authorized'],
    ['the first of two', 'mia', { quorum: 2 }, 'approved, more needed'],
    ['the second of two', 'max', { quorum: 2, approvals: ['mia'] }, 'approved'],
    ['the same twice', 'mia', { quorum: 2, approvals: ['mia'] }, 'wrong-state'],
    ['the author first of two', 'sam', { quorum: 2 }, 'approved, more needed'],
    ['the author second of two', 'sam', { quorum: 2, approvals: ['mia'] }, 'approved'],
    ['another after the author', 'mia', { quorum: 2, approvals: ['sam'] }, 'approved'],
    ['the author twice', 'sam', { quorum: 2, approvals: ['sam'] }, 'wrong-state'],
    ['more than are needed', 'max', { quorum: 1, approvals: ['mia', 'moe'] }, 'approved'],
    ['the second of three', 'max', { quorum: 3, approvals: ['mia'] }, 'approved, more needed'],
  ] as const)('%s', (_, actor, of, expected) => {
    expect(approve(actor, of)).toBe(expected);
  });
});

it('refuses commands for another revision, during another command, or for other bytes', () => {
  expect(verdict(standing(), given('approve', { revision: 4 }))).toBe('stale');
  expect(verdict(standing(), given('approve', { revision: 6 }))).toBe('stale');
  expect(verdict(standing({ busy: 'c-2' }), given('approve'))).toBe('busy');
  expect(verdict(standing(), given('approve', { digest: 'a'.repeat(64) }))).toBe('wrong-digest');
  expect(verdict(standing({ digest: null }), given('approve'))).toBe('wrong-digest');
  // The author's commands are about the submission, whatever its bytes.
  expect(verdict(standing(), given('withdraw', { digest: null }))).toBe('withdrawn');
});

it('reports the role first, then the revision, then other problems', () => {
  const all = { revision: 4, roles: [], digest: null, args: {} };
  expect(verdict(standing({ busy: 'c-2', state: 'retired' }), given('approve', all))).toBe('not-authorized');
  expect(verdict(standing({ busy: 'c-2', state: 'retired' }), given('approve', { ...all, roles: ['manager'] }))).toBe(
    'stale',
  );
  expect(verdict(standing({ busy: 'c-2', state: 'retired' }), given('approve'))).toBe('busy');
});

it.each<[LifecycleCommand, VersionState, Partial<CommandBody>]>([
  ['approve', 'new', { report: null }],
  ['approve', 'new', { digest: null }],
  ['reject', 'new', { args: {} }],
  ['reject', 'new', { args: { reason: '  \n' } }],
  ['reject', 'new', { digest: null }],
  ['rollback', 'approved', { args: {} }],
  ['undo', 'approved', { digest: null }],
  ['release', 'approved', { digest: null }],
  ['reassign', 'released', { args: { reason: 'r' } }],
  ['reassign', 'released', { args: { to: 'sue' } }],
  ['reassign', 'released', { args: { reason: 'r', to: '../sue' } }],
  ['reassign', 'released', { report: null }],
  ['retire', 'released', { digest: null }],
  ['tag', 'new', { args: {} }],
  ['tag', 'new', { args: { tags: ['Not a name'] } }],
])('%s needs all its arguments (%#)', (name, state, change) => {
  expect(verdict(standing({ state }), given(name, change))).toBe('invalid');
});

it('reassigns only versions with a failed delivery', () => {
  expect(verdict(standing({ state: 'released', failedDeliveries: 0 }), given('reassign'))).toBe('wrong-state');
  expect(verdict(standing({ state: 'released', failedDeliveries: 2 }), given('reassign'))).toBe('reassigned');
});

it.each(['', 'constructor', '__proto__', 'toString', 'revert', 'confirm', 'APPROVE', 'x'.repeat(500)])(
  'knows no command %s',
  (name) => {
    const found = judge(standing(), given(name), ['manager']);
    expect(found).toMatchObject({ refused: 'wrong-state' });
    expect('refused' in found && found.message.length).toBeLessThan(100);
  },
);

it('checks current roles, not the signed ones', () => {
  expect(verdict(standing(), given('approve', { roles: ['manager'] }), [])).toBe('not-authorized');
  expect(verdict(standing(), given('approve', { roles: ['manager'] }), ['scientist'])).toBe('not-authorized');
  expect(verdict(standing(), given('approve', { roles: [] }), ['manager'])).toBe('approved');
  expect(verdict(standing(), given('withdraw', { roles: ['scientist'] }), [])).toBe('not-authorized');
});

it("is drawn in the README's picture, every transition and no other", () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const [, picture = ''] = /```mermaid\nstateDiagram-v2\n(.*?)```/s.exec(readme) ?? [];
  const alias = new Map([...picture.matchAll(/state "(.+)" as (\w+)/g)].map(([, name = '', as = '']) => [as, name]));
  const statesOf = (drawn: string): readonly string[] =>
    (alias.get(drawn) ?? drawn).split(/, | or /).map((state) => state.replaceAll(' ', '-'));
  const drawn = [...picture.matchAll(/^ *(\S+) --> (\w+)/gm)].flatMap(([, from = '', to = '']) =>
    statesOf(from).map((state) => `${state} ${statesOf(to)[0]}`),
  );
  // Transitions by a start, a job and the validation, without a command.
  const byItself = [
    ...['[*] provisioning', '[*] validating', 'provisioning training', 'training trained', 'training failed'],
    ...['validating invalid', 'validating new'],
  ];
  const byCommand = Object.values(transitions).flatMap(({ from, to }) =>
    to === null ? [] : from.map((state) => `${state} ${to}`),
  );
  expect(new Set(drawn)).toEqual(new Set([...byItself, ...byCommand]));
});
