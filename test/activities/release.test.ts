// A release is published once, with the approved bytes, unless it was withdrawn; a withdrawal is announced.
import { createReleaseActivities } from '../../activities/release.ts';
import { isFailure } from '../../activities/failures.ts';
import { inActivity } from './activity.ts';

const digest = 'd'.repeat(64);
const row = {
  ...{ release: 'kind-1', type: 'kind', sequence: 1, project: 'p', model: 'm', submission: 'v-1', version: 3, digest },
  ...{ report: null, approvedBy: ['mia'], releasedBy: 'max', releasedAt: '2026-01-02T00:00:00Z', state: 'announced' },
  files: [{ name: 'model.onnx', uri: 'store:model', sha256: digest, bytes: 7 }],
};
const pending = {
  ...{ status: 'pending', at: '2026-01-03T00:00:00Z' },
  command: { body: { name: 'retire', actor: 'moe', args: { reason: 'it leaks' } } },
};

interface Given {
  readonly fenced?: readonly string[];
  readonly files?: readonly object[];
  readonly decision?: object | undefined;
  readonly rows?: readonly object[];
}

function releaseOf(given: Given = {}) {
  const { fenced = [], files = [{ name: 'model.onnx', uri: 'area:model' }], rows = [row] } = given;
  const seen = { written: [] as unknown[], events: [] as { id: string; type: string; data: object }[] };
  const records = {
    release: async (id: string) => (id === 'kind-1' ? row : undefined),
    fenced: async (id: string) => fenced.includes(id),
    versionStanding: async () => ({ version: { model: 'm', submission: 'v-1', files } }),
    decision: async () => ('decision' in given ? given.decision : pending),
    releasesOf: async () => rows,
    releaseCommand: async () => 'release-1',
    manifested: async (release: string) => void seen.written.push(`${release} has its manifest`),
  };
  const activities = createReleaseActivities({
    records,
    areas: { read: async (uri: string) => uri },
    releases: {
      path: (uri: string) => uri.replace('store:', 'releases/'),
      write: async (path: string, source: unknown, options?: { expect: object }) =>
        void seen.written.push(options ? [path, source, options.expect] : path),
    },
    bus: { publish: async (topic: string, key: string, event: never) => void seen.events.push(event) },
  } as never);
  return { activities, seen };
}
const as = <R>(work: () => Promise<R>, workflowId = 'release/kind-1') => inActivity(work, { workflowId });
const thrown = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'nothing was thrown',
    (error: unknown) => error,
  );

it('copies only the approved bytes of the version, checked by digest and size', async () => {
  const { activities, seen } = releaseOf();
  expect(await as(() => activities.publishRelease({}))).toEqual({ files: row.files });
  expect(seen.written).toEqual([
    'manifests/kind/000000001.json',
    'kind-1 has its manifest',
    ['releases/model', 'area:model', { sha256: digest, bytes: 7 }],
  ]);
  const other = releaseOf({ files: [] });
  expect(isFailure(await thrown(as(() => other.activities.publishRelease({}))), 'Corrupt')).toBe(true);
});

it('announces the release under its id, with its digest, approvers and releaser', async () => {
  const { activities, seen } = releaseOf();
  await as(() => activities.announceRelease({}));
  expect(seen.events).toMatchObject([
    {
      ...{ id: 'kind-1', type: 'io.ocdl.model.released.v1', subject: 'm/3', time: row.releasedAt },
      data: { release: 'kind-1', digest, approvedBy: ['mia'], releasedBy: 'max', files: [{ sha256: digest }] },
    },
  ]);
});

it('publishes nothing that was withdrawn, and works only for its own workflow', async () => {
  for (const work of ['publishRelease', 'announceRelease'] as const) {
    const { activities, seen } = releaseOf({ fenced: ['kind-1'] });
    expect([work, isFailure(await thrown(as<unknown>(() => activities[work]({}))), 'Fenced')]).toEqual([work, true]);
    for (const other of ['model/p/m/v-1', 'delivery/shop/kind-1', 'x'])
      expect(isFailure(await thrown(as<unknown>(() => activities[work]({}), other)), 'NotAuthorized')).toBe(true);
    expect(seen).toEqual({ written: [], events: [] });
  }
});

describe('a withdrawal', () => {
  const withdraw = async (given: Given) => {
    const { activities, seen } = releaseOf(given);
    const error = await thrown(as(() => activities.announceWithdrawal({ commandId: 'c-1' }), 'model/p/m/v-1'));
    return { error, seen };
  };

  it('is announced for each announced release once, with the decision', async () => {
    const rows = [
      { ...row, release: 'kind-1' },
      { ...row, release: 'kind-2', state: 'allotted' },
      { ...row, release: 'kind-3' },
      { ...row, release: 'kind-4' },
    ];
    const { seen } = await withdraw({ rows, fenced: ['kind-1', 'kind-2', 'kind-4'] });
    expect(seen.events.map(({ id }) => id)).toEqual(['kind-1-withdrawn', 'kind-4-withdrawn']);
    expect(seen.events[0]).toMatchObject({
      ...{ type: 'io.ocdl.model.withdrawn.v1', time: pending.at },
      data: { release: 'kind-1', decision: 'retire', withdrawnBy: 'moe', reason: 'it leaks' },
    });
  });

  it.each([undefined, { ...pending, status: 'complete' }, { ...pending, status: 'failed' }])(
    'is announced only for a pending decision: %j',
    async (decision) => {
      const { error, seen } = await withdraw({ decision, fenced: ['kind-1'] });
      expect(isFailure(error, 'NotAuthorized')).toBe(true);
      expect(seen.events).toEqual([]);
    },
  );
});
