// Keeps the rights in HDFS in step with a project's members, so that the NameNode holds people's own clients to the same rules.
import { setTimeout as sleep } from 'node:timers/promises';
import { isFailure } from '../activities/failures.ts';
import type { Member, Records } from '../activities/records.ts';
import type { StorePath } from '../workflows/domain/names.ts';
import { allowed, type Action } from '../workflows/domain/roles.ts';

/** Who may what in an area, as the store of the areas takes it. */
export type Admit = (
  folder: StorePath,
  access: { readonly owner?: string; readonly readers: readonly string[]; readonly writers: readonly string[] },
) => Promise<void>;

/** After a failure: a NameNode that starts again takes about as long. */
const AGAIN_AFTER_MS = 30_000;

/**
 * Returns the same records; whenever they get a project or a member, the rights of its areas follow, one project after the
 * other, also those that changed while nobody was there. The record does not wait: the API decides by it, HDFS is the second line.
 */
export function keepAdmitted(deps: {
  readonly records: Records;
  readonly admit: Admit;
  readonly onWarn: (message: string) => void;
}): { readonly records: Records; readonly stop: () => Promise<void> } {
  const { records, admit, onWarn } = deps;
  /** By project, those who may have left it: their own area is theirs no longer. */
  const due = new Map<string, Set<string>>();
  const state: { running: Promise<void> | undefined; readonly ending: AbortController } = {
    running: undefined,
    ending: new AbortController(),
  };

  function follow(project: string, user?: string): void {
    const left = due.get(project) ?? new Set();
    if (user !== undefined) left.add(user);
    due.set(project, left);
    state.running ??= work().finally(() => (state.running = undefined));
  }

  async function work(): Promise<void> {
    for (let [next] = due; next && !state.ending.signal.aborted; [next] = due) {
      const [project, users] = next;
      due.delete(project);
      try {
        for (const [folder, access] of areasOf(project, await records.members(project), users))
          await admit(folder, access);
      } catch (error) {
        onWarn(`the rights in HDFS do not follow the members of ${project} yet: ${String(error)}`);
        // Too many people for an ACL: trying again does not help.
        if (isFailure(error, 'InvalidInput')) continue;
        due.set(project, new Set([...(due.get(project) ?? []), ...users]));
        await sleep(AGAIN_AFTER_MS, undefined, { signal: state.ending.signal }).catch(() => undefined);
      }
    }
  }

  void records.projects(null).then(
    (projects) => projects.forEach(({ project }) => follow(project)),
    (error: unknown) => onWarn(`the rights in HDFS are not looked at: ${String(error)}`),
  );
  return {
    records: {
      ...records,
      async createProject(project, audit) {
        await records.createProject(project, audit);
        follow(project.project);
      },
      async setMember(project, member, audit) {
        await records.setMember(project, member, audit);
        follow(project, member.user);
      },
    },
    async stop() {
      state.ending.abort();
      await state.running;
    },
  };
}

/** The areas of a project and their people, by the very grid that the API asks. */
export function areasOf(
  project: string,
  members: readonly Member[],
  leftover: Iterable<string> = [],
): readonly (readonly [folder: StorePath, access: Parameters<Admit>[1]])[] {
  const who = (action: Action, own: boolean): readonly string[] =>
    members.filter(({ roles }) => allowed(action, roles, own)).map(({ user }) => user);
  const owners = who('private.write', true);
  return [
    [`common/${project}` as StorePath, { readers: who('common.read', false), writers: who('common.write', false) }],
    // The platform alone writes there.
    [`staging/${project}` as StorePath, { readers: who('staging.read', false), writers: [] }],
    ...[...new Set([...owners, ...leftover])].map((user) => {
      const access = { readers: [], writers: [], ...(owners.includes(user) && { owner: user }) };
      return [`private/${project}/${user}` as StorePath, access] as const;
    }),
  ];
}
