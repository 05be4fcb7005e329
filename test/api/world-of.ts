// Opens one world with one resource of every kind for the tests of a file.
import { afterAll, beforeAll } from '@jest/globals';
import type { Machines } from './passage.ts';
import { populatePassage } from './passage.ts';
import type { World } from './world.ts';
import { json, openWorld } from './world.ts';

/** Registers opening and closing of the world. `world()` and `machines()` may be called only in tests. */
export function worldOfThisFile(limits?: Parameters<typeof openWorld>[0]) {
  const state: { world?: World; machines?: Machines } = {};
  beforeAll(async () => {
    state.world = await openWorld(limits);
    state.machines = await populatePassage(state.world);
  });
  afterAll(() => state.world?.close());
  const world = (): World => {
    if (!state.world) throw new Error('no world');
    return state.world;
  };
  return {
    world,
    machines: (): Machines => {
      if (!state.machines) throw new Error('no machines');
      return state.machines;
    },
    /** Status, type and detail of a problem, and the body. */
    said: async (
      response: Response | Promise<Response>,
    ): Promise<readonly [number, string, Record<string, unknown>]> => {
      const answer = await response;
      const body = await json(answer);
      const { type, detail } = body as { readonly type?: string; readonly detail?: string };
      return [answer.status, answer.status < 400 ? '' : `${type?.replace('urn:ocdl:problem:', '')}: ${detail}`, body];
    },
    /** The audit's entries of a subject. */
    auditOf: async (subject: string) =>
      (await world().deps.records.audit({ subject, limit: 500 })).rows.map(({ entry }) => entry),
  };
}
