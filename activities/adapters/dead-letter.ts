// The event that stands on a dead-letter topic, the same whichever bus carries it.
import type { CloudEvent, Received } from '../ports.ts';

/** Type of the CloudEvents on `<topic>.dead`. */
export const DEAD_LETTER_TYPE = 'ocdl.dead-letter';

/**
 * Wraps what no attempt could handle, as it came, with the reason. The id says which event and which group, so that a dead
 * letter written twice is known for one.
 */
export function deadLetter(topic: string, group: string, event: Received, error: unknown): CloudEvent {
  return {
    specversion: '1.0',
    id: `${topic}/${group}/${event.offset}`,
    source: `ocdl/topics/${topic}`,
    type: DEAD_LETTER_TYPE,
    subject: group,
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    data: {
      topic,
      group,
      offset: event.offset,
      key: event.key,
      attempts: event.attempt,
      reason: reasonOf(error),
      value: event.value,
    },
  };
}

/** Enough of an error to find its cause; cut, since an event has a largest size. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error || hasMessage(error) ? error.message : String(error);
  return text.slice(0, 2000);
}

/** Errors of Node itself may come from another realm, where `instanceof` does not know them. */
function hasMessage(error: unknown): error is { message: string } {
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string';
}
