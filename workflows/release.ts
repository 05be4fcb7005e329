// One release: copies the approved bytes to the release store, then publishes one event on the topic of the model's type.
import { patched, setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { begin, center, launcher } from './activities.ts';
import { attributePairs } from './found-by.ts';
import type { ReleaseInput } from './messages.ts';
import { wakeUp } from './wake-up.ts';

/** Publishes and announces. Both are idempotent: the store is create-only by digest, and the event's id is the release id. */
export async function release(input: ReleaseInput): Promise<void> {
  const begins = patched('the-record-decides');
  if (begins) await begin();
  setCurrentDetails(`**publishing** ${input.release}: to the release store, digest checked`);
  const { files } = await launcher.publishRelease(input);
  setCurrentDetails(`**announcing** ${input.release}`);
  await launcher.announceRelease({ release: input.release });
  const { wake: applications } = await center.recordAnnounced({ release: input.release });
  // An application that received the event quickly may have read the records too early.
  await wakeUp(applications);
  if (begins) upsertSearchAttributes(attributePairs({ State: 'announced' }));
  const lines = files.map(({ name, sha256, bytes }) => `- ${name}: ${bytes} bytes, sha256 \`${sha256}\``);
  setCurrentDetails([`**announced** ${input.release}`, ...lines].join('\n'));
}
