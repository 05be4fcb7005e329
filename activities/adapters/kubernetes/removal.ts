// Removes a Job or a Deployment with its pods, and waits until they are gone.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { SystemUnavailable } from '../../failures.ts';
import { isRefused, type KubernetesClient } from './client.ts';

export interface RemovedOwner {
  readonly path: string;
  readonly namespace: string;
  readonly uid: string;
  /** Selects its pods. */
  readonly pods: string;
}

const POLL_MS = 500;
const LONGEST_POLL_MS = 2_000;
/** A pod whose machine answers is gone within its grace period; after this, it is removed without its machine. */
const FORCE_AFTER_MS = 60_000;

const ownerSchema = z.object({ metadata: z.object({ uid: z.string() }) });

/** Removes an object, its pods and whatever else it owns. Idempotent. */
export async function removeOwner(client: KubernetesClient, owner: RemovedOwner): Promise<void> {
  const { path, uid } = owner;
  const body = { propagationPolicy: 'Foreground', preconditions: { uid } };
  const isGone = await client.ask('DELETE', path, { body }).then(
    () => false,
    (error: unknown) => {
      // Gone, or another one of this name.
      if (isRefused(error, 404) || isRefused(error, 409)) return true;
      throw error;
    },
  );
  if (isGone) return;
  const began = Date.now();
  const state = { pauseMs: POLL_MS, forced: false };
  for (;;) {
    await sleep(state.pauseMs);
    state.pauseMs = Math.min(2 * state.pauseMs, LONGEST_POLL_MS);
    try {
      if (ownerSchema.parse(await client.ask('GET', path)).metadata.uid !== uid) return;
    } catch (error) {
      if (isRefused(error, 404)) return;
      // While the API server starts again, the removal goes on by itself.
      if (!(error instanceof SystemUnavailable) || Date.now() - began > 5 * FORCE_AFTER_MS) throw error;
    }
    if (state.forced || Date.now() - began < FORCE_AFTER_MS) continue;
    state.forced = true;
    const query = { labelSelector: owner.pods };
    const pods = `/api/v1/namespaces/${owner.namespace}/pods`;
    await client.ask('DELETE', pods, { query, body: { gracePeriodSeconds: 0 } });
  }
}
