// The digest of a workflow's input, sent with each activity; it equals the digest that Records compute.
import { defaultPayloadConverter } from '@temporalio/common';
import { inputDigest } from '../../activities/adapters/postgres/starts.ts';
import { interceptors, START_DIGEST, startDigest } from '../../workflows/start-digest.ts';

/** The digest that a workflow with these arguments sends to an activity. */
async function sentWith(args: readonly unknown[]): Promise<unknown> {
  const { inbound = [], outbound = [] } = interceptors();
  const sent: unknown[] = [];
  await inbound[0]?.execute?.({ args: [...args], headers: {} }, async () => undefined);
  await outbound[0]?.scheduleActivity?.({ headers: {} } as never, async ({ headers }) => {
    const payload = headers[START_DIGEST];
    sent.push(payload && defaultPayloadConverter.fromPayload(payload));
  });
  return sent[0];
}

const input = { project: 'p', scan: 's-1', of: [1, { b: null, a: 'ü' }] };

it('covers only the first argument, not the state that is carried over', async () => {
  expect(await sentWith([input])).toBe(startDigest(input));
  expect(await sentWith([input, { commands: [1] }])).toBe(startDigest(input));
  expect(await sentWith([{ ...input, scan: 's-2' }])).not.toBe(startDigest(input));
});

it('equals the digest that Records compute, whatever the order of fields', () => {
  expect(startDigest(input)).toBe(inputDigest(input));
  expect(startDigest({ of: input.of, scan: 's-1', project: 'p' })).toBe(inputDigest(input));
});

it('is empty for values without a canonical form', () => {
  const cyclic: Record<string, unknown> = {};
  cyclic.self = cyclic;
  for (const none of [cyclic, 1n, NaN]) expect(startDigest(none)).toBe('');
});
