// How a job stands on Kubernetes, judged from its Job and pod: the reasons told apart, in words for a scientist.
import type { JobFacts, PodFacts } from '../../activities/adapters/kubernetes/objects.ts';
import { readJob, readPod } from '../../activities/adapters/kubernetes/objects.ts';
import { outcomeOf, standingOf } from '../../activities/adapters/kubernetes/standing.ts';

const job: JobFacts = {
  ...{ namespace: 'n', object: 'o', name: 'train-1', uid: 'u', digest: 'd' },
  ...{ hasToken: true, isBeingRemoved: false, finished: undefined, seconds: 12 },
};
const pod: PodFacts = {
  ...{ namespace: 'n', pod: 'o-1', job: 'o', phase: 'Pending', image: 'r.example/capsule:1', reason: '', message: '' },
  ...{ isBeingRemoved: false, isGone: false, containers: [] },
};
const ended = (name: string, exitCode: number, message = '', reason = 'Error'): PodFacts => ({
  ...{ ...pod, phase: 'Failed' },
  containers: [{ name, isRunning: false, ended: { exitCode, reason, message } }],
});
const running: PodFacts = { ...pod, phase: 'Running', containers: [{ name: 'run', isRunning: true }] };
const said = (value: object): string => JSON.stringify(value);
const killed = { status: 'failed', reason: 'killed', exitCode: 143 } as const;

describe('a job that goes on', () => {
  test.each([
    ['no Job', undefined, undefined, { phase: 'missing' }],
    ['no pod yet', job, undefined, { phase: 'waiting', why: expect.stringContaining('is making') as unknown }],
    ['its program runs', job, running, { phase: 'running' }],
    [
      'it is removed while its pod ends',
      { ...job, isBeingRemoved: true },
      ended('run', 143, said(killed)),
      { phase: 'waiting', why: expect.stringContaining('removed') as unknown },
    ],
  ])('%s', (_, one, itsPod, expected) => expect(standingOf(one, itsPod)).toEqual(expected));

  test.each([
    [
      { unschedulable: '0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available' },
      'no machine of the cluster has room: not enough free GPUs (0/3 nodes are available: 3 Insufficient nvidia.com/gpu.)',
    ],
    [
      { containers: [{ name: 'fetch', isRunning: false, waiting: { reason: 'ErrImagePull', message: 'not found' } }] },
      'the image r.example/capsule:1 cannot be loaded: it does not exist, or the cluster may not read it (not found)',
    ],
    [
      { containers: [{ name: 'fetch', isRunning: false, waiting: { reason: 'PodInitializing', message: '' } }] },
      'its machine loads the image',
    ],
  ])('waits: %j', (facts, why) => expect(standingOf(job, { ...pod, ...facts })).toEqual({ phase: 'waiting', why }));

  test('waits for the quota', () => {
    const hindrance =
      'pods "o-1" is forbidden: exceeded quota: ocdl, requested: requests.cpu=100, limited: requests.cpu=8';
    const why =
      'the project uses all that its quota allows: it goes on when other jobs have ended (ocdl, requested: requests.cpu=100, limited: requests.cpu=8)';
    expect(standingOf(job, undefined, hindrance)).toEqual({ phase: 'waiting', why });
  });
});

describe('a job that has ended', () => {
  const fails = (reason: string, exitCode: number | null) => ({ status: 'failed', reason, exitCode });
  const failedJob: JobFacts = { ...job, finished: 'failed' };
  test.each<[string, JobFacts, PodFacts | undefined, object, RegExp | undefined]>([
    [
      'succeeded',
      job,
      ended('run', 0, said({ status: 'succeeded', seconds: 3 })),
      { status: 'succeeded', seconds: 3 },
      undefined,
    ],
    [
      'succeeded, without its pod',
      { ...job, finished: 'complete' },
      undefined,
      { status: 'succeeded', seconds: 12 },
      undefined,
    ],
    ['claims success, but did not exit with 0', job, ended('run', 3, 'x'), fails('exit', 3), undefined],
    ['its error', job, ended('run', 7, said(fails('exit', 7))), fails('exit', 7), undefined],
    ['deadline', job, ended('run', 124, said({ status: 'timed-out' })), { status: 'timed-out' }, undefined],
    ['out of memory, as the kernel says', job, ended('run', 137, '', 'OOMKilled'), fails('memory', 137), /more memory/],
    ['inputs', job, ended('fetch', 4, said(fails('inputs', 4))), fails('inputs', 4), undefined],
    ['fetch without a word', job, ended('fetch', 1), fails('fetch', 1), /not fetched/],
    [
      'a container that cannot start',
      job,
      ended('run', 128, 'no device', 'StartError'),
      fails('environment', 128),
      /no device/,
    ],
    [
      'deleted',
      job,
      { ...ended('run', 143, said(killed)), isBeingRemoved: true },
      killed,
      /was deleted on the cluster/,
    ],
    ['gone with all', failedJob, undefined, fails('killed', null), /gone: deleted, or lost with its machine/],
    [
      'lost machine',
      failedJob,
      { ...running, isGone: true, disruption: 'DeletionByTaintManager' },
      fails('killed', null),
      /stopped answering/,
    ],
    [
      'preempted',
      job,
      { ...ended('run', 143, said(killed)), disruption: 'PreemptionByScheduler' },
      fails('killed', null),
      /more important/,
    ],
    [
      'its own disk limit',
      job,
      {
        ...ended('run', 143, said(killed)),
        reason: 'Evicted',
        message: 'Usage of EmptyDir volume "work" exceeds the limit "320Mi".',
      },
      fails('exit', null),
      /wrote more than its disk holds/,
    ],
    [
      'a full machine',
      job,
      { ...ended('run', 143, said(killed)), reason: 'Evicted', message: 'The node was low on resource: memory.' },
      fails('killed', null),
      /its machine had no room left/,
    ],
  ])('%s', (_, one, itsPod, end, note) => {
    const standing = standingOf(one, itsPod);
    if (standing.phase !== 'ended') throw new Error(`it has not ended: ${JSON.stringify(standing)}`);
    const { log, ...rest } = outcomeOf(standing, 'last words');
    expect(rest).toEqual(end);
    if (note === undefined) expect(log).toBe('last words');
    else expect(log).toMatch(new RegExp(`^last words\nstopped: .*${note.source}.*\n$`));
  });

  test('an invalid result is ignored', () => {
    for (const message of ['{', '[]', '{"status":"succeeded"}', '{"status":"failed","reason":"luck","exitCode":1}'])
      expect(standingOf(job, ended('run', 1, message))).toMatchObject({ end: { status: 'failed', reason: 'exit' } });
  });
});

test('objects of others are not read', () => {
  const metadata = { name: 'a', namespace: 'b', uid: 'c' };
  expect(readJob({ metadata })).toBeUndefined();
  expect(readPod({ metadata, spec: { containers: [] }, status: {} })).toBeUndefined();
  for (const nonsense of [undefined, null, 'x', {}])
    expect([readJob(nonsense), readPod(nonsense)]).toEqual([undefined, undefined]);
});
