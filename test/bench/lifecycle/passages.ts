// The passages that are timed, one for each type of workflow: through the platform's, and through a plain one with the same effects.
import { createDeliveryPassages } from './delivery-passages.ts';
import type { Passage } from './passage-scene.ts';
import { openPassageScene } from './passage-scene.ts';
import type { LifecycleStage } from './stage.ts';
import { createVersionPassages } from './version-passages.ts';

/** All of them. */
export async function createPassages(stage: LifecycleStage): Promise<readonly Passage[]> {
  const scene = openPassageScene(stage);
  const ofVersions = await createVersionPassages(stage, scene);
  return [...ofVersions, ...(await createDeliveryPassages(stage, scene))];
}
