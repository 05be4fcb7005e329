// Keeps the rights in HDFS in step with a project's members, so that the NameNode holds people's own clients to the same rules.
import { setTimeout as sleep } from 'node:timers/promises';
import { isFailure } from '../activities/failures.ts';
import type { Member, Records } from '../activities/records.ts';
import type { StorePath } from '../workflows/domain/names.ts';
import { allowed, type Action } from '../workflows/domain/roles.ts';

/** What the store of the areas knows of people. */
export interface Admission {
  /** Gives exactly these people access to an area. `InvalidInput` for rights that the store cannot hold. */
  admit(
    folder: StorePath,
    access: { readonly owner?: string; readonly readers: readonly string[]; readonly writers: readonly string[] },
    signal?: AbortSignal,
  ): Promise<void>;
  /** Who has a private area in a project, as a member or from former times. */
  people(project: string): Promise<readonly string[]>;
}

type Access = Parameters<Admission['admit']>[1];

/** After a failure: a NameNode that starts again takes about as long. */
const AGAIN_AFTER_MS = 30_000;

/**
 * Returns the same records; whenever they get a project or a member, or a person is disabled or enabled, the rights of its areas follow, one project after the
 * other, also those that changed while nobody was there. The record does not wait: the API decides by it, HDFS is the second line.
 */
export function keepAdmitted(deps: {
  readonly records: Records;
  readonly store: Admission;
  readonly onWarn: (message: string) => void;
  readonly againAfterMs?: number;
}): { readonly records: Records; readonly stop: () => Promise<void> } {
  const { records, store, onWarn, againAfterMs = AGAIN_AFTER_MS } = deps;
  const due = new Set<string>();
  const state: { running: Promise<void> | undefined } = { running: undefined };
  const ending = new AbortController();
  const { signal } = ending;
  const pause = (): Promise<void> => sleep(againAfterMs, undefined, { signal }).catch(() => undefined);

  function follow(project: string): void {
    due.add(project);
    state.running ??= work().finally(() => (state.running = undefined));
  }

  async function work(): Promise<void> {
    for (let [project] = due; project !== undefined && !signal.aborted; [project] = due) {
      due.delete(project);
      const failed = await bring(project);
      if (failed === undefined || signal.aborted) continue;
      onWarn(`the rights in HDFS do not follow the members of ${project} yet: ${failed}`);
      due.add(project);
      await pause();
    }
  }

  /** Sets every area of a project, whatever becomes of another one; returns what must be tried again for. */
  async function bring(project: string): Promise<string | undefined> {
    let failed: string | undefined;
    try {
      const members = (await records.members(project)).filter(({ disabled }) => !disabled);
      const areas = areasOf(project, members, await store.people(project));
      for (const [folder, access] of areas)
        await set(folder, access).catch((error: unknown) => (failed ??= String(error)));
    } catch (error) {
      failed = String(error);
    }
    return failed;
  }

  async function set(folder: StorePath, access: Access): Promise<void> {
    try {
      await store.admit(folder, access, signal);
    } catch (error) {
      if (!isFailure(error, 'InvalidInput')) throw error;
      // Too many people for an ACL: who has left must not stay for that, so it opens to none of them.
      await store.admit(folder, { readers: [], writers: [] }, signal);
      onWarn(`in HDFS ${folder} is open to nobody but the platform: ${String(error)}`);
    }
  }

  async function begin(): Promise<void> {
    while (!signal.aborted)
      try {
        for (const { project } of await records.projects(null)) follow(project);
        return;
      } catch (error) {
        onWarn(`the rights in HDFS are not looked at yet: ${String(error)}`);
        await pause();
      }
  }

  void begin();
  return {
    records: {
      ...records,
      async createProject(project, audit) {
        await records.createProject(project, audit);
        follow(project.project);
      },
      async setMember(project, member, audit) {
        await records.setMember(project, member, audit);
        follow(project);
      },
      async changeUser(user, change, audit) {
        await records.changeUser(user, change, audit);
        for (const { project } of await records.projects(user)) follow(project);
      },
    },
    async stop() {
      ending.abort();
      await state.running;
    },
  };
}

/** The areas of a project and their people, by the very grid that the API asks; `present` have an area there already. */
export function areasOf(
  project: string,
  members: readonly Member[],
  present: readonly string[] = [],
): readonly (readonly [folder: StorePath, access: Access])[] {
  const who = (action: Action, own: boolean): readonly string[] =>
    members.filter(({ roles }) => allowed(action, roles, own)).map(({ user }) => user);
  const owners = who('private.write', true);
  return [
    // Whose area it is no longer must not wait for anything else.
    ...[...new Set([...present, ...owners])].map((user) => {
      const access = { readers: [], writers: [], ...(owners.includes(user) && { owner: user }) };
      return [`private/${project}/${user}` as StorePath, access] as const;
    }),
    [`common/${project}` as StorePath, { readers: who('common.read', false), writers: who('common.write', false) }],
    // The platform alone writes there.
    [`staging/${project}` as StorePath, { readers: who('staging.read', false), writers: [] }],
  ];
}
