// CloudEvents on Kafka: writes the structured mode of the protocol binding, reads both modes, and passes other messages on unchanged.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
import type { IHeaders, KafkaMessage } from 'kafkajs';
import { failure } from '../../failures.ts';
import type { CloudEvent } from '../../ports.ts';

/** Largest event with its key, in bytes: a broker's default message limit (1,048,588) minus room for framing. */
export const EVENT_LIMIT = 1_000_000;
const STRUCTURED = 'application/cloudevents+json; charset=UTF-8';

export interface WireMessage {
  readonly key: string;
  readonly value: string;
  readonly headers: IHeaders;
}

/** Encodes an event as a message. */
export function encodeEvent(key: string, event: CloudEvent): WireMessage {
  return { key, value: JSON.stringify(event), headers: { 'content-type': STRUCTURED } };
}

/** Throws `InvalidInput` for an event that exceeds a broker's default limit. */
export function checkSize(topic: string, event: CloudEvent, { key, value }: WireMessage): void {
  const bytes = Buffer.byteLength(key) + Buffer.byteLength(value);
  if (bytes > EVENT_LIMIT)
    throw failure(
      'InvalidInput',
      `event ${event.id} for ${topic} has ${bytes} bytes; the limit is ${EVENT_LIMIT}: send a reference to the data`,
    );
}

/**
 * Decodes a message for a consumer: a binary-mode event, otherwise JSON, otherwise text, otherwise `{ base64 }`;
 * `null` for a message without a value. Never throws.
 */
export function decodeMessage({ key, value, headers = {} }: Pick<KafkaMessage, 'key' | 'value' | 'headers'>): {
  readonly key: string;
  readonly value: unknown;
} {
  const data = value === null ? null : parsed(value);
  return { key: key?.toString() ?? '', value: 'ce_specversion' in headers ? binaryEvent(headers, data) : data };
}

/** In binary mode, attributes are headers named `ce_…` and the value is the data. */
function binaryEvent(headers: IHeaders, data: unknown): Record<string, unknown> {
  const attributes = Object.entries(headers)
    .filter(([name]) => name.startsWith('ce_'))
    .map(([name, value]): [string, string] => [name.slice('ce_'.length), textOf(value)]);
  const type = headers['content-type'];
  return {
    ...Object.fromEntries(attributes),
    ...(type !== undefined && { datacontenttype: textOf(type) }),
    data,
  };
}

const textOf = (value: IHeaders[string]): string => String(Array.isArray(value) ? value[0] : value);

function parsed(value: Buffer): unknown {
  const text = value.toString();
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return Buffer.from(text).equals(value) ? text : { base64: value.toString('base64') };
  }
}
