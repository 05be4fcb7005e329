// One release: the approved bytes into the release store, then one event on the topic of the model's type.
import { getExternalWorkflowHandle, setCurrentDetails } from '@temporalio/workflow';
import { center, launcher } from './activities.ts';
import type { ReleaseInput } from './messages.ts';
import { wake } from './messages.ts';

/** Publishes and announces. Both may be tried many times: the store is create-only by digest, the event's id is the release id. */
export async function release(input: ReleaseInput): Promise<void> {
  setCurrentDetails(`**publishing** ${input.release}: to the release store, digest checked`);
  const { files } = await launcher.publishRelease(input);
  setCurrentDetails(`**announcing** ${input.release}`);
  await launcher.announceRelease({ release: input.release });
  const { wake: applications } = await center.recordAnnounced({ release: input.release });
  // An application that heard the event at once may have looked too early; one that is gone does not mind.
  for (const id of applications)
    await getExternalWorkflowHandle(id)
      .signal(wake)
      .catch(() => undefined);
  const lines = files.map(({ name, sha256, bytes }) => `- ${name}: ${bytes} bytes, sha256 \`${sha256}\``);
  setCurrentDetails([`**announced** ${input.release}`, ...lines].join('\n'));
}
