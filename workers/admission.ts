// Keeps the HDFS permissions in sync with a project's members, so that the NameNode applies the same rules to people's own clients.
import { setTimeout as sleep } from 'node:timers/promises';
import { isFailure } from '../activities/failures.ts';
import type { Member, Records } from '../activities/records.ts';
import type { StorePath } from '../workflows/domain/names.ts';
import { allowed, type Action } from '../workflows/domain/roles.ts';

/** User permissions in the store of the areas. */
export interface Admission {
  /** Gives exactly these people access to an area. `InvalidInput` for rights that the store cannot hold. */
  admit(
    folder: StorePath,
    access: { readonly owner?: string; readonly readers: readonly string[]; readonly writers: readonly string[] },
    signal?: AbortSignal,
  ): Promise<void>;
  /** Current and former members who have a private area in a project. */
  people(project: string): Promise<readonly string[]>;
}

type Access = Parameters<Admission['admit']>[1];

/** Delay after a failure: about as long as a NameNode takes to restart. */
const AGAIN_AFTER_MS = 30_000;

/**
 * Wraps the records: when a project or a member is added or changed, or a person is disabled or enabled, the permissions of the
 * project's areas are updated, one project at a time. At the start all projects are updated, since they may have changed before.
 * Writing the records does not wait for HDFS: the API decides by the records, HDFS is the second line of defence.
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
      onWarn(`the HDFS permissions of project ${project} are not up to date: ${failed}; retrying`);
      due.add(project);
      await pause();
    }
  }

  /** Sets the permissions of every area of a project, even if one fails; returns the first retryable failure. */
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
      // Too many people for an ACL. Former members must not keep access, so no member gets any.
      await store.admit(folder, { readers: [], writers: [] }, signal);
      onWarn(`in HDFS only the platform can access ${folder}: ${String(error)}`);
    }
  }

  async function begin(): Promise<void> {
    while (!signal.aborted)
      try {
        for (const { project } of await records.projects(null)) follow(project);
        return;
      } catch (error) {
        onWarn(`the HDFS permissions could not be updated: ${String(error)}; retrying`);
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

/** The areas of a project and who may use them, by the same role table as the API; `present` are the people who already have an area. */
export function areasOf(
  project: string,
  members: readonly Member[],
  present: readonly string[] = [],
): readonly (readonly [folder: StorePath, access: Access])[] {
  const who = (action: Action, own: boolean): readonly string[] =>
    members.filter(({ roles }) => allowed(action, roles, own)).map(({ user }) => user);
  const owners = who('private.write', true);
  return [
    // Private areas come first: a former member's access is revoked before anything else can fail.
    ...[...new Set([...present, ...owners])].map((user) => {
      const access = { readers: [], writers: [], ...(owners.includes(user) && { owner: user }) };
      return [`private/${project}/${user}` as StorePath, access] as const;
    }),
    [`common/${project}` as StorePath, { readers: who('common.read', false), writers: who('common.write', false) }],
    // Only the platform writes to staging.
    [`staging/${project}` as StorePath, { readers: who('staging.read', false), writers: [] }],
  ];
}
