// A release workflow with a likely mistake: it announces before it publishes. Replay must detect it.
import { center, launcher } from '../../workflows/activities.ts';
import type { ReleaseInput } from '../../workflows/messages.ts';

/** The activities of the real workflow in another order. */
export async function release(input: ReleaseInput): Promise<void> {
  await launcher.announceRelease({ release: input.release });
  await launcher.publishRelease(input);
  await center.recordAnnounced({ release: input.release });
}
