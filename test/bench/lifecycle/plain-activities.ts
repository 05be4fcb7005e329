// The same business effects without the platform's checks: each step writes its rows and does its outside work, and reads nothing.
import { createPlainDeliveries } from './plain-deliveries.ts';
import type { PlainDeps } from './plain-ground.ts';
import { openPlainGround } from './plain-ground.ts';
import { createPlainVersions } from './plain-versions.ts';

export type PlainActivities = ReturnType<typeof createPlainActivities>;

/** All of them, over one pool and the systems of this contender. */
export function createPlainActivities(deps: PlainDeps) {
  const ground = openPlainGround(deps);
  return { ...createPlainVersions(deps, ground), ...createPlainDeliveries(deps, ground) };
}
