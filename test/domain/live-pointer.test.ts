// The live pointer's rules: who may revert or clear it, and when.
import type { CommandBody } from '../../workflows/domain/command.ts';
import type { PointerStanding } from '../../workflows/domain/live-pointer.ts';
import { judgePointer } from '../../workflows/domain/live-pointer.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import { roles } from '../../workflows/domain/roles.ts';

const standing = (change: Partial<PointerStanding> = {}): PointerStanding => ({
  pointer: { application: 'shop', type: 'kind', generation: 4, release: 'kind-3', movedAt: '2026-01-02T00:00:00.000Z' },
  owner: 'dev',
  busy: null,
  ...change,
});
const empty = { pointer: { ...standing().pointer, release: null } };
const given = (name: string, change: Partial<CommandBody> = {}): CommandBody => ({
  ...{ v: 1, keyId: 'k1', workflowId: 'application/shop/kind', commandId: 'command-1', name, actor: 'mia' },
  args: { reason: 'it was better', release: 'kind-1' },
  ...{ roles: ['manager'], policyVersion: 1, revision: 4, digest: null, report: null },
  ...{ issuedAt: '2026-01-02T00:00:00.000Z', ...change },
});
const verdict = (of: PointerStanding, body: CommandBody, held: readonly Role[] = ['manager']) => {
  const found = judgePointer(of, body, held);
  return 'refused' in found ? found.refused : found;
};

it('is reverted to the named release, or cleared', () => {
  expect(verdict(standing(), given('revert'))).toEqual({ to: 'kind-1' });
  expect(verdict(standing(), given('take-down'))).toEqual({ to: null });
  expect(verdict(standing(), given('take-down', { args: { reason: 'it harms' } }))).toEqual({ to: null });
  // A revert is also possible when nothing is live.
  expect(verdict(standing(empty), given('revert'))).toEqual({ to: 'kind-1' });
  expect(verdict(standing(empty), given('take-down'))).toBe('wrong-state');
});

it.each(roles)('is moved by a manager, and by its owner as a developer: %s', (role) => {
  for (const name of ['revert', 'take-down']) {
    const of = (actor: string) => verdict(standing(), given(name, { actor }), [role]) !== 'not-authorized';
    expect([name, of('dev'), of('dan')]).toEqual([name, ['manager', 'developer'].includes(role), role === 'manager']);
  }
});

it('checks current roles, not the signed ones', () => {
  expect(verdict(standing(), given('revert', { roles: ['manager'] }), [])).toBe('not-authorized');
});

it.each(['revert', 'take-down'])(
  '%s requires the current generation, a reason, and no other running command',
  (name) => {
    expect(verdict(standing(), given(name, { revision: 3 }))).toBe('stale');
    expect(verdict(standing(), given(name, { revision: 5 }))).toBe('stale');
    expect(verdict(standing({ busy: 'command-0' }), given(name))).toBe('busy');
    expect(verdict(standing(), given(name, { args: { release: 'kind-1' } }))).toBe('invalid');
    expect(verdict(standing(), given(name, { args: { release: 'kind-1', reason: ' \n' } }))).toBe('invalid');
  },
);

it('is reverted only to a named release', () => {
  expect(verdict(standing(), given('revert', { args: { reason: 'r' } }))).toBe('invalid');
});

it.each(['approve', 'confirm', '', 'Revert', '__proto__'])('takes no command "%s"', (name) => {
  expect(verdict(standing(), given(name))).toBe('wrong-state');
});
