// The permission table by action. The API checks it on every route, workflows on every command.

/** Roles in a project; `admin` is platform-wide, `application` is the role of an application's token, `job` of a job's token. */
export const roles = ['scientist', 'manager', 'developer', 'engineer', 'admin', 'application', 'job'] as const;
export type Role = (typeof roles)[number];

/** `yes`; `own`: only the actor's own things; `no`. With several roles, the most permissive grant applies. */
export type Grant = 'yes' | 'own' | 'no';

const none: Record<Role, Grant> = {
  scientist: 'no',
  manager: 'no',
  developer: 'no',
  engineer: 'no',
  admin: 'no',
  application: 'no',
  job: 'no',
};
const grant = (some: Partial<Record<Role, Grant>>): Record<Role, Grant> => ({ ...none, ...some });
const members = { scientist: 'yes', manager: 'yes', developer: 'yes', engineer: 'yes' } as const;

/** The roles table: one row per action; every API route and every command names exactly one. */
export const grid = {
  'private.read': grant({ scientist: 'own', manager: 'own' }),
  'private.write': grant({ scientist: 'own', manager: 'own' }),
  'common.read': grant(members),
  'common.write': grant({ scientist: 'yes', manager: 'yes' }),
  'staging.read': grant({ manager: 'yes' }),
  'dataset.register': grant({ scientist: 'yes', manager: 'yes' }),
  'dataset.delete': grant({ scientist: 'own', manager: 'yes' }),
  'dataset.list': grant(members),
  'import.cancel': grant({ scientist: 'own', manager: 'yes' }),
  'node.manage': grant({ manager: 'yes' }),
  'testset.register': grant({ manager: 'yes' }),
  'testset.delete': grant({ manager: 'yes' }),
  'type.grant': grant({ manager: 'yes' }),
  'code.commit': grant({ scientist: 'yes', manager: 'yes' }),
  'version.start': grant({ scientist: 'yes', manager: 'yes' }),
  'version.see': grant({ scientist: 'own', manager: 'yes' }),
  'version.report': grant({ scientist: 'own', manager: 'yes' }),
  'version.author': grant({ scientist: 'own', manager: 'own' }),
  'version.decide': grant({ manager: 'yes' }),
  'evaluation.private': grant({ scientist: 'own', manager: 'own' }),
  'evaluation.staging': grant({ manager: 'yes' }),
  'evaluation.cancel': grant({ scientist: 'own', manager: 'yes' }),
  'release.read': grant({ manager: 'yes', developer: 'yes', application: 'own' }),
  'application.manage': grant({ manager: 'yes', developer: 'own' }),
  'application.see': grant({ ...members, application: 'own' }),
  'application.revert': grant({ manager: 'yes', developer: 'own' }),
  'finding.report': grant({ application: 'own' }),
  'finding.see': grant({ ...members, application: 'own' }),
  'finding.label': grant({ engineer: 'yes' }),
  'project.see': grant({ ...members, admin: 'yes' }),
  'project.create': grant({ admin: 'yes' }),
  'project.types': grant({ admin: 'yes' }),
  'project.compute': grant({ admin: 'yes' }),
  'project.members': grant({ manager: 'yes', admin: 'yes' }),
  'project.policy': grant({ manager: 'yes', admin: 'yes' }),
  'audit.read': grant({ manager: 'yes', admin: 'yes' }),
  'compute.manage': grant({ admin: 'yes' }),
  'users.manage': grant({ admin: 'yes' }),
  'platform.see': grant({ admin: 'yes' }),
  'platform.operate': grant({ admin: 'yes' }),
  'token.own': grant({ ...members, admin: 'yes' }),
  'job.data': grant({ job: 'own' }),
} as const satisfies Record<string, Record<Role, Grant>>;

export type Action = keyof typeof grid;

/** The most permissive grant of the held roles for an action. */
export function granted(action: Action, held: readonly Role[]): Grant {
  const grants = held.map((role) => grid[action][role]);
  return grants.includes('yes') ? 'yes' : grants.includes('own') ? 'own' : 'no';
}

/** Whether someone with these roles may perform an action; `own` says whether the thing is their own. */
export function allowed(action: Action, held: readonly Role[], own: boolean): boolean {
  const best = granted(action, held);
  return best === 'yes' || (best === 'own' && own);
}
