// The roles table: general consistency, and its most important restrictions.
import type { Action, Role } from '../../workflows/domain/roles.ts';
import { allowed, granted, grid, roles } from '../../workflows/domain/roles.ts';

const actions = Object.keys(grid) as Action[];

it('has yes, own or no for every role and action, and grants each action to some role', () => {
  for (const action of actions) {
    expect(Object.keys(grid[action]).sort()).toEqual([...roles].sort());
    for (const role of roles) expect(['yes', 'own', 'no']).toContain(grid[action][role]);
    expect(Object.values(grid[action]).some((grant) => grant !== 'no')).toBe(true);
  }
});

it('grants nothing without a role, and the most permissive grant of several roles', () => {
  for (const action of actions) {
    expect(granted(action, [])).toBe('no');
    expect(allowed(action, [], true)).toBe(false);
    const all = granted(action, roles);
    expect(roles.map((role) => grid[action][role]).includes('yes') ? 'yes' : 'own').toBe(all);
  }
});

it.each<[Action, readonly Role[]]>([
  ['version.decide', ['manager']],
  ['staging.read', ['manager']],
  ['testset.register', ['manager']],
  ['evaluation.staging', ['manager']],
  ['finding.label', ['engineer']],
  ['project.create', ['admin']],
  ['users.manage', ['admin']],
  ['platform.see', ['admin']],
  ['audit.read', ['manager', 'admin']],
])('%s: only %j', (action, only) => {
  expect(roles.filter((role) => grid[action][role] !== 'no')).toEqual(only);
});

it('keeps private areas private: only the owner has access, not even an admin', () => {
  for (const action of ['private.read', 'private.write'] as const) {
    for (const role of roles) expect(grid[action][role]).not.toBe('yes');
    expect(allowed(action, ['admin'], true)).toBe(false);
    expect(allowed(action, ['scientist', 'manager'], false)).toBe(false);
  }
});

it('gives a platform admin no access to a project’s models', () => {
  const given = actions.filter((action) => grid[action].admin !== 'no');
  expect(
    given.filter((action) => /^(private|common|staging|version|evaluation|release|finding)\./.test(action)),
  ).toEqual([]);
});

it('limits jobs and applications to their own things', () => {
  for (const action of actions) {
    expect(grid[action].job).not.toBe('yes');
    expect(grid[action].application).not.toBe('yes');
  }
  expect(actions.filter((action) => grid[action].job !== 'no')).toEqual(['job.data']);
});
