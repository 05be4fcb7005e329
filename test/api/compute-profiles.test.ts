// Compute profiles over the API: administrators make and offer them; whoever starts work names one that is offered.
import { describe, expect, test } from '@jest/globals';
import { json, PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, said, auditOf } = worldOfThisFile();
const GIB = 2 ** 30;
const large = { cpus: 8, memoryBytes: 32 * GIB, diskBytes: 64 * GIB, gpus: 1, deadlineSeconds: 600 };
const image = `registry.example/torch:2@sha256:${'a'.repeat(64)}`;
const put = (name: string, body: object, who = 'admin') =>
  said(world().ask(who, 'PUT', `/v1/compute-profiles/${name}`, body));
const offer = (profiles: readonly string[]) =>
  said(world().ask('admin', 'PUT', `/v1/projects/${PROJECT}/compute-profiles`, { profiles }));
const names = async (who: string, path: string) =>
  ((await json(world().ask(who, 'GET', path)))['rows'] as { name: string }[]).map(({ name }) => name);

describe('a compute profile', () => {
  test('is made, listed, replaced and deleted by an administrator, each with an audit entry', async () => {
    const full = {
      ...{ ...large, image, pools: ['cloud'], nodeSelector: { accelerator: 'h200' } },
      tolerations: [{ key: 'nvidia.com/gpu', operator: 'Exists', effect: 'NoSchedule' }],
    };
    expect(await put('full', full)).toMatchObject([200, '', { name: 'full', ...full }]);
    expect((await put('full', large, 'mia'))[0]).toBe(403);
    expect(await names('admin', '/v1/compute-profiles')).toEqual(['cpu', 'gpu', 'full']);
    expect((await put('full', large))[0]).toBe(200);
    expect((await put('cpu', large))[1]).toMatch(/^conflict: .* is built in and cannot be changed/);
    const remove = () => said(world().ask('admin', 'DELETE', '/v1/compute-profiles/full'));
    expect((await remove())[0]).toBe(200);
    expect((await remove())[0]).toBe(404);
    const kinds = (await auditOf('compute-profiles/full')).map(({ kind }) => kind);
    expect(kinds).toEqual(['compute.profile', 'compute.profile', 'compute.deleted']);
  });

  test.each<[string, object, string]>([
    ['no processors', { cpus: 0 }, 'cpus'],
    ['too little memory', { memoryBytes: 1 }, 'memoryBytes'],
    ['half a byte', { diskBytes: GIB + 0.5 }, 'diskBytes'],
    ['too many GPUs', { gpus: 65 }, 'gpus'],
    ['a deadline beyond a week', { deadlineSeconds: 604_801 }, 'deadlineSeconds'],
    ['an image without a digest', { image: 'registry.example/torch:2' }, 'image'],
    ['an image with an option', { image: `--x/y@sha256:${'a'.repeat(64)} ` }, 'image'],
    ['a selector of one node', { nodeSelector: { 'kubernetes.io/hostname': 'n' } }, 'nodeSelector'],
    ['an empty selector', { nodeSelector: {} }, 'nodeSelector'],
    ['a toleration of everything', { tolerations: [{ operator: 'Exists' }] }, 'tolerations'],
    ['a pool that is no name', { pools: ['../x'] }, 'pools'],
    ['a path of the host', { hostPath: '/' }, 'hostPath'],
    ['privileges', { privileged: true }, 'privileged'],
    ['a service account', { serviceAccountName: 'admin' }, 'serviceAccountName'],
    ['a node', { nodeName: 'n' }, 'nodeName'],
    ['another name in the body', { name: 'other' }, 'name'],
  ])('with %s: 400, by name', async (_, change, field) => {
    const [status, detail] = await put('bad', { ...large, ...change });
    expect([status, detail]).toEqual([400, expect.stringContaining(field)]);
    expect(await names('admin', '/v1/compute-profiles')).not.toContain('bad');
  });

  test('that a project is offered is not deleted; the project sees what it is offered', async () => {
    const path = `/v1/projects/${PROJECT}/compute-profiles`;
    expect(await names('sam', path)).toEqual(['cpu', 'gpu']);
    expect((await offer(['large']))[1]).toContain('there is no compute profile "large": there are cpu, gpu');
    await put('large', large);
    expect((await offer(['cpu', 'large']))[0]).toBe(200);
    expect(await names('sam', path)).toEqual(['cpu', 'large']);
    expect((await said(world().ask('admin', 'DELETE', '/v1/compute-profiles/large')))[1]).toContain(
      `is offered to ${PROJECT}`,
    );
    expect((await said(world().ask('mia', 'PUT', path, { profiles: ['cpu'] })))[0]).toBe(403);
  });
});

describe('who starts work names a profile that the project is offered:', () => {
  const run = { commit: 'main', entrypoint: 'train.py', lock: 'lock.txt', data: [] };
  const submit = (submission: string, own: object) =>
    said(
      world().ask('sam', 'POST', `/v1/projects/${PROJECT}/models/forest/submissions`, {
        ...{ submission, type: TYPE, from: { run: { ...run, ...own } } },
      }),
    );

  test('another one is refused at once, with those that are offered, and so is a longer deadline', async () => {
    await put('large', large);
    await offer(['cpu', 'large']);
    const files = { 'train.py': 'pass\n', 'lock.txt': `numpy==2.2.6 --hash=sha256:${'a'.repeat(64)}\n` };
    const commit = { branch: 'main', message: 'm', files };
    await said(world().ask('sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, commit));
    expect((await submit('s-1', { compute: 'gpu' })).slice(0, 2)).toEqual([
      422,
      `no-such-profile: from.run.compute: project ${PROJECT} is not offered the compute profile "gpu": use cpu, large`,
    ]);
    expect((await submit('s-1', { compute: 'large', deadlineSeconds: 601 }))[1]).toContain('allows at most 600 s');
    expect((await submit('s-1', { compute: '../x' }))[0]).toBe(400);
    expect((await submit('s-1', { compute: 'large' }))[0]).toBe(201);
    const started = world().deps.workflows.started.get(`model/${PROJECT}/forest/s-1`);
    // By default an hour, here the profile's limit.
    expect(started).toMatchObject({ beginning: { run: { compute: 'large', deadlineSeconds: 600 } } });
  });

  test('an evaluation and a retry, too', async () => {
    await offer(['cpu', 'gpu']);
    const evaluation = { evaluation: 'ev-p', model: 'forest', dataset: 'training-1', subject: { directory: 'runs' } };
    const ask = (own: object) =>
      said(world().ask('sam', 'POST', `/v1/projects/${PROJECT}/evaluations`, { ...evaluation, ...own }));
    expect((await ask({ compute: 'large' }))[1]).toMatch(/^no-such-profile: compute: .*: use cpu, gpu$/);
    const path = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1/commands`;
    const retry = (compute: string) =>
      said(world().ask('sam', 'POST', path, { name: 'retry', revision: 3, args: { compute } }));
    expect((await retry('large'))[1]).toMatch(/^no-such-profile: args\.compute: /);
    expect((await retry('gpu'))[0]).not.toBe(422);
  });
});
