// A release workflow as somebody might change it by mistake: it announces before it publishes. Replay must notice.
import { center, launcher } from '../../workflows/activities.ts';
import type { ReleaseInput } from '../../workflows/messages.ts';

/** The activities of the real one in another order. */
export async function release(input: ReleaseInput): Promise<void> {
  await launcher.announceRelease({ release: input.release });
  await launcher.publishRelease(input);
  await center.recordAnnounced({ release: input.release });
}
