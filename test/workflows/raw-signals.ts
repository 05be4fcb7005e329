// Raw signals, as anyone with access to Temporal's port can send them: any name, any payload, without a client library.
import type { World } from './world.ts';

export interface RawPayload {
  readonly encoding?: string;
  readonly data: string | Uint8Array;
}

/** Sends one signal with exactly these payloads. */
export async function sendRaw(world: World, workflowId: string, signalName: string, payloads: readonly RawPayload[]) {
  await world.connection.workflowService.signalWorkflowExecution({
    namespace: world.namespace,
    workflowExecution: { workflowId },
    signalName,
    identity: 'a stranger',
    input: {
      payloads: payloads.map(({ encoding, data }) => ({
        metadata: { ...(encoding !== undefined && { encoding: Buffer.from(encoding) }) },
        data: typeof data === 'string' ? Buffer.from(data) : data,
      })),
    },
  });
}

export const jsonPayload = (value: unknown): RawPayload => ({ encoding: 'json/plain', data: JSON.stringify(value) });

/** Too deep for recursive parsers. */
const deep = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

/** Payloads of the signal `command` that are not commands, by their problem. */
export const junk: Readonly<Record<string, readonly RawPayload[]>> = {
  'no argument': [],
  'broken JSON': [{ encoding: 'json/plain', data: '{"body":' }],
  'bytes that are no UTF-8': [{ encoding: 'json/plain', data: Uint8Array.of(0xff, 0xfe, 0x00) }],
  'no encoding': [{ data: '{}' }],
  'an unknown encoding': [{ encoding: 'application/x-pickle', data: 'cos\nsystem\n' }],
  'an encrypted payload': [{ encoding: 'binary/encrypted', data: Uint8Array.of(1, 2, 3) }],
  'a protobuf payload': [{ encoding: 'binary/protobuf', data: Uint8Array.of(1, 2, 3) }],
  bytes: [{ encoding: 'binary/plain', data: 'bytes' }],
  null: [{ encoding: 'binary/null', data: '' }],
  'null in JSON': [jsonPayload(null)],
  'a number': [jsonPayload(7)],
  'a text': [jsonPayload('approve')],
  'a list': [jsonPayload([])],
  'an empty object': [jsonPayload({})],
  'no body': [jsonPayload({ signature: 'x' })],
  'a body of the wrong type': [jsonPayload({ body: 'approve', signature: 'x' })],
  'a poisoned prototype': [
    { encoding: 'json/plain', data: '{"__proto__":{"body":1},"body":{"__proto__":1},"signature":"x"}' },
  ],
  'deep JSON': [{ encoding: 'json/plain', data: `{"signature":"x","body":{"args":${deep(100_000)}}}` }],
  'a megabyte': [jsonPayload({ body: { name: 'x'.repeat(1_000_000) }, signature: 'x' })],
  'ten thousand fields': [
    jsonPayload({ body: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`f${i}`, i])), signature: 'x' }),
  ],
};
