// The checks before a delivery: an announced, approved release, intact bytes, an application that consumes the type.
import { createDeliveryActivities } from '../../activities/delivery.ts';
import { isFailure } from '../../activities/failures.ts';
import type { FailureType } from '../../workflows/domain/failures.ts';
import { inActivity } from './activity.ts';

const digest = 'd'.repeat(64);
const card = 'c'.repeat(64);
const release = (number: number, change: object = {}) => ({
  ...{ release: `kind-${number}`, type: 'kind', sequence: number, project: 'p', model: 'm', submission: `v-${number}` },
  ...{ version: number, digest, report: 'e'.repeat(64), approvedBy: ['mia'], releasedBy: 'mia', state: 'announced' },
  files: [
    { name: 'model.onnx', uri: 'store:model', sha256: digest, bytes: 1 },
    { name: 'model.json', uri: 'store:card', sha256: card, bytes: 1 },
  ],
  ...change,
});
const approved = { digest, decisions: [{ name: 'tag' }, { name: 'approve' }, { name: 'release' }] };
const shop = {
  ...{ application: 'shop', project: 'shops', owner: 'dan', types: ['kind', 'other'], gates: ['function', 'more'] },
  repository: 'p/app-shop',
};

interface Given {
  readonly row?: object;
  readonly version?: object;
  readonly app?: object;
  readonly isFenced?: boolean;
  readonly mayConsume?: boolean;
  readonly stored?: Readonly<Record<string, string>>;
  /** The answers of Records to moves of the pointer, in order. */
  readonly answers?: readonly object[];
  /** The live release at each read; the last entry answers all further reads. */
  readonly live?: readonly (string | null)[];
}

/** Delivery activities over records and stores in memory. Everything is valid except for the given changes. */
function deliveryOf(given: Given = {}) {
  const { stored = {}, answers = [], live = [null] } = given;
  const seen = { ended: [] as unknown[], moves: [] as object[], commits: [] as string[], gates: [] as string[] };
  const looks = [...live];
  const rows = [1, 2].map((number) => release(number, number === 2 ? given.row : {}));
  const records = {
    application: async () => ({ ...shop, ...given.app }),
    release: async (id: string) => rows.find((row) => row.release === id),
    fenced: async () => given.isFenced ?? false,
    mayConsume: async (project: string) => project === 'shops' && (given.mayConsume ?? true),
    versionStanding: async () => ({ version: { ...approved, ...given.version } }),
    missingGates: async () => ['more'],
    beginGates: async () => undefined,
    recordGate: async (_: object, result: { gate: string }) => (seen.gates.push(result.gate), result),
    livePointer: async (_: string, type: string) => {
      if (type !== 'kind') return { generation: 0, release: null };
      return { generation: seen.moves.length, release: (looks.length > 1 ? looks.shift() : looks[0]) ?? null };
    },
    moveLivePointer: async (move: object) => (seen.moves.push(move), answers[seen.moves.length - 1]),
    liveHistory: async ({ after }: { after: string }) => ({
      rows: [
        { generation: 5, release: 'kind-2' },
        { generation: 4, release: 'kind-1' },
        { generation: 3, release: 'kind-0' },
      ].filter(({ generation }) => generation < Number(after)),
    }),
    applicationStanding: async (id: string) => ({ of: id, moves: seen.moves.length }),
    concludeDelivery: async (of: object, ended: string) => void seen.ended.push([of, ended]),
    decidePointer: async (_: string, __: object, doubt: object | undefined) => doubt ?? 'no doubt',
  };
  const releases = {
    digest: async (uri: string) => stored[uri] ?? (uri === 'store:card' ? card : digest),
  };
  const code = {
    ensure: async () => undefined,
    commit: async ({ branch, files }: { branch: string; files: Record<string, string> }) => {
      seen.commits.push(`${branch} ${Object.keys(JSON.parse(files['model.lock'] ?? '{}') as object).join()}`);
      return { commit: String(seen.commits.length) };
    },
  };
  return { delivery: createDeliveryActivities({ records, releases, code, cluster: {} } as never), seen };
}

/** As a delivery of kind-2 into the shop. */
const as = <R>(work: () => Promise<R>, workflowId = 'delivery/shop/kind-2') => inActivity(work, { workflowId });
const receive = (given: Given, workflowId?: string) =>
  as(() => deliveryOf(given).delivery.receiveRelease({ release: 'kind-2' }), workflowId);
async function failsAs(type: FailureType, message: RegExp, work: Promise<unknown>): Promise<void> {
  const error = await work.then(
    () => 'it did not fail',
    (reason: unknown) => reason,
  );
  expect([type, String(error), isFailure(error, type)]).toEqual([type, expect.stringMatching(message), true]);
}

it('accepts a release that is announced, approved, not withdrawn and intact, and returns the gates that have not passed', async () => {
  expect(await receive({})).toEqual({ gates: ['function', 'more'], missing: ['more'] });
});

it.each<[string, FailureType, RegExp, Given]>([
  ['is not announced', 'Conflict', /kind-2 is not announced yet/, { row: { state: 'allotted' } }],
  ['was withdrawn', 'Fenced', /kind-2 was withdrawn/, { isFenced: true }],
  [
    'has another digest than the approved version',
    'NotAuthorized',
    /no approval of d{64}/,
    { version: { digest: 'a'.repeat(64) } },
  ],
  ['names no approver', 'NotAuthorized', /no approval of d{64}/, { row: { approvedBy: [] } }],
  [
    'is of a version without an approval',
    'NotAuthorized',
    /no approval of d{64}/,
    { version: { decisions: [{ name: 'tag' }, { name: 'release' }] } },
  ],
  ['has other bytes in the store', 'DigestMismatch', /model\.onnx of kind-2/, { stored: { 'store:model': card } }],
  ['has another card in the store', 'DigestMismatch', /model\.json of kind-2/, { stored: { 'store:card': digest } }],
  [
    'is of a type that the application does not consume',
    'InvalidInput',
    /does not consume/,
    { app: { types: ['other'] } },
  ],
  ['is of a type that the project may not consume', 'NotAuthorized', /ask its manager/, { mayConsume: false }],
])('does not accept a release that %s', async (_, type, message, given) => {
  await failsAs(type, message, receive(given));
});

it('delivers only the release of its own workflow', async () => {
  await failsAs('NotAuthorized', /does not deliver kind-2/, receive({}, 'delivery/shop/kind-1'));
  for (const other of ['release/kind-2', 'model/p/m/v-2', 'shop'])
    await failsAs('NotAuthorized', /may not do what a workflow of type application does/, receive({}, other));
});

it('refuses a gate that does not exist', async () => {
  const { delivery, seen } = deliveryOf();
  for (const gate of ['nowhere', 'constructor', '__proto__'])
    await failsAs(
      'GateUnavailable',
      /only function/,
      as(() => delivery.runGate({ gate, release: 'kind-2' })),
    );
  expect(seen.gates).toEqual([]);
});

describe('the live pointer', () => {
  const moved = { moved: true, pointer: { generation: 5 } };
  const moveIn = async (given: Given) => {
    const { delivery, seen } = deliveryOf(given);
    return { result: await as(() => delivery.moveLivePointer({ release: 'kind-2' }), 'application/shop/kind'), seen };
  };

  it('moves, and wakes the new and the previous live version', async () => {
    const { result, seen } = await moveIn({ answers: [moved] });
    expect(result).toEqual({
      ...{ why: null, wake: ['model/p/m/v-2', 'model/p/m/v-1'] },
      standing: { of: 'application/shop/kind', moves: 1 },
    });
    expect(seen.moves).toMatchObject([{ key: 'delivery/shop/kind-2/live', release: 'kind-2', revert: false }]);
  });

  it('moves again if a person moved it meanwhile', async () => {
    const { result, seen } = await moveIn({ answers: [{ moved: false, why: 'generation' }, moved] });
    expect(result.why).toBeNull();
    expect(seen.moves).toMatchObject([{ generation: 0 }, { generation: 1 }]);
    expect(seen.ended).toEqual([]);
  });

  it.each([
    ['fenced', 'kind-2 was withdrawn by a manager', 1],
    ['older', 'kind-2 is not newer than kind-1, which is live', 1],
    ['gates', 'gates that are configured now have not passed', 0],
  ])('stays, with the reason: %s', async (why, message, ended) => {
    const { result, seen } = await moveIn({ answers: [{ moved: false, why }], live: ['kind-1'] });
    expect(result).toMatchObject({ why: message, wake: [] });
    // With another gate the delivery starts again: it has not ended.
    const of = { application: 'shop', type: 'kind', release: 'kind-2' };
    expect(seen.ended).toEqual(Array.from({ length: ended }, () => [of, message]));
  });

  it('is reverted only to intact bytes; the problem is passed to Records', async () => {
    const decide = (given: Given, name = 'revert') =>
      as(
        () =>
          deliveryOf(given).delivery.decidePointer({
            command: { body: { name, args: { release: 'kind-1' } } } as never,
          }),
        'application/shop/kind',
      );
    expect(await decide({})).toBe('no doubt');
    expect(await decide({ stored: { 'store:card': digest } })).toMatchObject({
      ...{ reason: 'DigestMismatch', message: expect.stringContaining('model.json of kind-1') as string },
    });
    // A take-down does not check the bytes.
    expect(await decide({ stored: { 'store:card': digest } }, 'take-down')).toBe('no doubt');
  });

  it('is what the main branch shows in the end, even if it moves during the commit', async () => {
    const commit = async (live: readonly (string | null)[]) => {
      const { delivery, seen } = deliveryOf({ live });
      await as(() => delivery.commitLive({ application: 'shop', type: 'kind' }), 'application/shop/kind');
      return seen.commits;
    };
    expect(await commit(['kind-2'])).toEqual(['main kind']);
    expect(await commit(['kind-1', 'kind-2'])).toEqual(['main kind', 'main kind']);
    expect(await commit(['kind-2', null])).toEqual(['main kind', 'main ']);
  });
});
