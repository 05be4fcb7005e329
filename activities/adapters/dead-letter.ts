// The event that all bus adapters write to a dead-letter topic.
import type { CloudEvent, Received } from '../ports.ts';

/** Type of the CloudEvents on `<topic>.dead`. */
export const DEAD_LETTER_TYPE = 'ocdl.dead-letter';

/**
 * Wraps an event that could not be handled, unchanged, with the reason. The id is made from topic, group and offset, so that
 * a dead letter that is written twice can be recognised.
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

/** The error message, truncated because the size of an event is limited. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error || hasMessage(error) ? error.message : String(error);
  return text.slice(0, 2000);
}

/** Errors from Node itself may come from another realm, where `instanceof` fails. */
function hasMessage(error: unknown): error is { message: string } {
  return typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string';
}
