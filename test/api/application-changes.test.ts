// Types added later, types of other projects, and changed applications: audited, and never removing a live type.
import { describe, expect, test } from '@jest/globals';
import { releaseSchema } from '../../api/schemas.ts';
import { worldOfThisFile } from './world-of.ts';
import { json, PROJECT, TYPE } from './world.ts';

const { world, machines, said, auditOf } = worldOfThisFile();
const types = `/v1/projects/${PROJECT}/types`;
const scanner = '/v1/applications/scanner';
const change = (who: string, body: object, path = scanner) => said(world().ask(who, 'PUT', path, body));

describe('types', () => {
  test('are added by an administrator, once, and then belong to the project', async () => {
    const added = await said(world().ask('admin', 'POST', types, { types: ['toxicity', TYPE] }));
    expect(added).toMatchObject([200, '', { types: [TYPE, 'sentiment', 'toxicity'] }]);
    expect((await world().ask('mia', 'POST', types, { types: ['more'] })).status).toBe(403);
    expect((await said(world().ask('admin', 'POST', types, { types: ['weather'] })))[1]).toContain(
      'belongs to project other',
    );
    const application = { application: 'moderator', types: ['toxicity'], gates: ['function'] };
    expect((await world().ask('dev', 'POST', `/v1/projects/${PROJECT}/applications`, application)).status).toBe(201);
    expect((await auditOf(PROJECT)).at(-1)).toMatchObject({ kind: 'project.types', actor: 'admin' });
  });

  test('of another project are consumed only by grant, until it is revoked', async () => {
    const { records } = world().deps;
    const grant = (method: string, who: string) => said(world().ask(who, method, `${types}/${TYPE}/consumers/other`));
    const foreign = { application: 'forecaster', types: ['weather', TYPE], gates: ['function'] };
    const create = () => said(world().ask('olga', 'POST', '/v1/projects/other/applications', foreign));
    expect((await create())[1]).toBe(`no-such-type: types: project other neither owns "${TYPE}" nor was granted it`);
    // The consumer's manager cannot grant it to themselves.
    expect((await grant('PUT', 'olga'))[0]).toBe(404);
    expect((await grant('PUT', 'dev'))[0]).toBe(403);
    expect(await grant('PUT', 'mia')).toMatchObject([200, '', { granted: true }]);
    expect((await create())[0]).toBe(201);
    expect(world().deps.workflows.started.has(`application/forecaster/${TYPE}`)).toBe(true);
    const { token } = await json(world().ask('olga', 'POST', '/v1/applications/forecaster/tokens', {}));
    const statusOf = async (path: string) => (await world().ask(String(token), 'GET', path)).status;
    const paths = [`/v1/types/${TYPE}/releases`, `/v1/releases/${TYPE}-1`, `/v1/releases/${TYPE}-1/files/model.onnx`];
    expect(await Promise.all(paths.map(statusOf))).toEqual([200, 200, 200]);
    const page = async () => (await json(world().ask('olga', 'GET', '/v1/applications/forecaster')))['subscriptions'];
    expect(await page()).toEqual([
      { type: 'weather', owner: 'other', granted: true },
      { type: TYPE, owner: PROJECT, granted: true },
    ]);
    const listed = async (who: string, project: string) =>
      ((await json(world().ask(who, 'GET', `/v1/projects/${project}/types`)))['rows'] as { type: string }[]).find(
        ({ type }) => type === TYPE,
      );
    expect(await listed('mia', PROJECT)).toEqual({ type: TYPE, owner: PROJECT, consumers: ['other'] });
    expect(await listed('olga', 'other')).toEqual({ type: TYPE, owner: PROJECT, consumers: [] });

    expect(await grant('DELETE', 'mia')).toMatchObject([200, '', { granted: false }]);
    expect(await Promise.all(paths.map(statusOf))).toEqual([404, 404, 404]);
    expect(await page()).toContainEqual({ type: TYPE, owner: null, granted: false });
    expect(await records.mayConsume('other', TYPE)).toBe(false);
    const kinds = (await auditOf(`${PROJECT}/types/${TYPE}`)).map(({ kind, actor, detail }) => [kind, actor, detail]);
    expect(kinds).toEqual([
      ['type.granted', 'mia', { consumer: 'other' }],
      ['type.grant-revoked', 'mia', { consumer: 'other' }],
    ]);
    // It can still be changed, and lets go of the type.
    const left = await change('olga', { revision: 0, types: ['weather'] }, '/v1/applications/forecaster');
    expect(left).toMatchObject([200, '', { types: ['weather'] }]);
  });

  test('are granted only by their project, to an existing project', async () => {
    const grant = async (type: string, consumer: string) =>
      (await said(world().ask('mia', 'PUT', `${types}/${type}/consumers/${consumer}`)))[0];
    expect([await grant(TYPE, 'nowhere'), await grant('weather', 'other'), await grant(TYPE, PROJECT)]).toEqual([
      404, 404, 400,
    ]);
  });
});

describe('an application', () => {
  test('is changed by its owner and by managers, from its current revision, with an audit of before and after', async () => {
    const { workflows } = world().deps;
    const seen = async () => (await json(world().ask('dev', 'GET', scanner)))['application'] as Record<string, unknown>;
    const before = await seen();
    expect(before).toMatchObject({ revision: 0, owner: 'dev', types: [TYPE] });
    const given = { revision: 0, types: [TYPE, 'sentiment'], repository: `${PROJECT}/app-scanner-two` };
    for (const who of ['dan', 'sam', 'eng']) expect((await change(who, given))[0]).toBe(403);
    expect((await change('olga', given))[0]).toBe(404);
    const made = await change('dev', given);
    expect(made).toMatchObject([200, '', { revision: 1, types: [TYPE, 'sentiment'], gates: ['function'] }]);
    expect(workflows.started.has('application/scanner/sentiment')).toBe(true);
    // The same again is fine, another change from there is not.
    expect(await change('dev', given)).toMatchObject([200, '', { revision: 1 }]);
    expect((await change('mia', { revision: 0, types: [TYPE] }))[1]).toMatch(
      /^stale: .* is at revision 1, the request has revision 0/,
    );
    expect(await change('mia', { revision: 1, owner: 'dan' })).toMatchObject([200, '', { owner: 'dan', revision: 2 }]);
    expect((await change('dev', { revision: 2, owner: 'dev' }))[0]).toBe(403);
    expect(await change('dan', { revision: 2, owner: 'dev' })).toMatchObject([200, '', { owner: 'dev' }]);
    const [first] = (await auditOf('applications/scanner')).filter(({ kind }) => kind === 'application.changed');
    expect(first).toMatchObject({ actor: 'dev', detail: { before, after: made[2] } });
  });

  test('refuses invalid gates, types, owners and repositories', async () => {
    const { revision } = (await world().deps.records.application('scanner')) ?? { revision: -1 };
    const refused = async (fields: object) => (await change('mia', { revision, ...fields }))[1];
    expect(await refused({ gates: ['functoin'] })).toContain('only function: did you mean "function"?');
    expect(await refused({ types: ['no-such-type'] })).toMatch(/^no-such-type/);
    expect(await refused({ types: [] })).toMatch(/^invalid/);
    expect(await refused({ owner: 'olga' })).toMatch(/^no-such-member/);
    for (const repository of [
      `${PROJECT}/code`,
      `${PROJECT}/labels`,
      'other/app-scanner',
      `${PROJECT}/app-x/../code`,
      `${PROJECT}/app-x/y`,
      'app-scanner',
      `${PROJECT}/app-`,
      `${PROJECT}/app-X`,
    ])
      expect(await refused({ repository })).toMatch(/^no-such-repository/);
    expect(await refused({ repository: `${PROJECT}/app-probe` })).toMatch(/^conflict: .* of application probe/);
    expect((await world().deps.records.application('scanner'))?.revision).toBe(revision);
    // Nor can a new application begin in a repository that another one has moved to.
    const taken = { application: 'scanner-two', types: [TYPE], gates: ['function'] };
    expect((await said(world().ask('mia', 'POST', `/v1/projects/${PROJECT}/applications`, taken)))[1]).toMatch(
      /^conflict: .* of application scanner/,
    );
  });

  test('keeps a type that is live', async () => {
    const { revision } = (await world().deps.records.application('scanner')) ?? { revision: -1 };
    expect((await change('mia', { revision, types: ['sentiment'] }))[1]).toBe(
      `conflict: ${TYPE}-1 is live in scanner: take ${TYPE} down there first, then remove the type`,
    );
    expect(await change('mia', { revision, types: [TYPE] })).toMatchObject([200, '', { types: [TYPE] }]);
    expect((await world().ask('mia', 'GET', `${scanner}/types/sentiment/live`)).status).toBe(404);
    // Its workflow runs on. It is woken when the type is consumed again.
    const { woken } = world().deps.workflows;
    woken.length = 0;
    const again = await change('mia', { revision: revision + 1, types: [TYPE, 'sentiment'] });
    expect(again).toMatchObject([200, '', { types: [TYPE, 'sentiment'] }]);
    expect(woken).toContain('application/scanner/sentiment');
    expect(await change('mia', { revision: revision + 2, types: [TYPE] })).toMatchObject([200, '', { types: [TYPE] }]);
  });
});

describe('a scan', () => {
  const report = (release: string, scan: string) =>
    said(
      world().ask(machines().scanner, 'POST', `${scanner}/scans`, {
        ...{ scan, type: TYPE, release: releaseSchema.parse(release), findings: [] },
      }),
    );

  test('names only a release that is or was live there', async () => {
    const { records } = world().deps;
    const first = await records.release(`${TYPE}-1`);
    if (!first) throw new Error('no release');
    const { release: _, sequence: __, state: ___, ...given } = first;
    const next = await records.allotRelease('command-next', given);
    await records.announced(next.release);
    expect((await report(next.release, 'early'))[1]).toMatch(
      new RegExp(`^never-live: release: "${next.release}" was never live in scanner`),
    );
    expect(await records.scan(PROJECT, 'early')).toBeUndefined();
    const { auditEntry } = await import('../../api/audit-entry.ts');
    await records.recordGate(
      { application: 'scanner', type: TYPE, release: next.release },
      { gate: 'function', passed: true, detail: '', seconds: 0 },
    );
    const move = { key: 'live-2', application: 'scanner', type: TYPE, generation: 1, release: next.release };
    await records.moveLivePointer(
      { ...move, revert: false },
      auditEntry({ key: 'live-2', kind: 'test', actor: 'test', subject: 'test' }),
    );
    expect((await report(next.release, 'of-now'))[0]).toBe(201);
    expect((await report(first.release, 'of-before'))[0]).toBe(201);
    expect((await report(`${TYPE}-99`, 'of-nothing'))[1]).toMatch(/^no-such-release/);
  });
});

test('concurrent changes of one policy all apply, each as a version of its own', async () => {
  const policy = `/v1/projects/${PROJECT}/policy`;
  const { records } = world().deps;
  const before = (await records.project(PROJECT))?.policy.version ?? 0;
  const bodies = [{ thresholds: { f1: 0.6 } }, { undoWithinSeconds: 77 }, { quorum: 2 }, { thresholds: { f1: 0.6 } }];
  const answers = await Promise.all(bodies.map((body) => said(world().ask('mia', 'PUT', policy, body))));
  expect(answers.map(([status]) => status)).toEqual([200, 200, 200, 200]);
  const versions = answers.map(([, , body]) => (body as { version: number }).version);
  expect([...versions].sort((a, b) => a - b)).toEqual([1, 2, 3, 4].map((n) => before + n));
  const wanted = { version: before + 4, thresholds: { f1: 0.6 }, undoWithinSeconds: 77, quorum: 2 };
  expect((await records.project(PROJECT))?.policy).toMatchObject(wanted);
});

describe('an unknown name', () => {
  const policy = `/v1/projects/${PROJECT}/policy`;
  const set = (thresholds: object) => said(world().ask('mia', 'PUT', policy, { thresholds }));

  test('of a gate is refused when the application is created', async () => {
    const application = { application: 'nogate', types: [TYPE], gates: ['performance'] };
    const answer = await said(world().ask('mia', 'POST', `/v1/projects/${PROJECT}/applications`, application));
    expect(answer.slice(0, 2)).toEqual([400, 'invalid: body.gates.0: there is no gate "performance", only function']);
    expect(await world().deps.records.application('nogate')).toBeUndefined();
  });

  test('of a metric is refused wherever thresholds are given, and so is an unreachable minimum', async () => {
    expect((await set({ auc: 0.7 }))[1]).toBe(
      'invalid: body.thresholds.auc: there is no metric "auc", only accuracy, precision, recall, f1, roc_auc, average_precision: did you mean "roc_auc"?',
    );
    expect((await set({ f1: 70 }))[1]).toContain('write 0.7, not 70');
    const project = { project: 'fourth', types: ['fourth-type'], policy: { thresholds: { AUC: 0.5 } } };
    expect((await world().ask('admin', 'POST', '/v1/projects', project)).status).toBe(400);
    const evaluation = {
      evaluation: 'ev-auc',
      model: 'random-forest',
      dataset: 'test-1',
      subject: { submission: 'rf-1' },
    };
    const evaluations = `/v1/projects/${PROJECT}/evaluations`;
    expect((await world().ask('mia', 'POST', evaluations, { ...evaluation, thresholds: { auc: 0.7 } })).status).toBe(
      400,
    );
  });

  test('in an existing policy stops evaluations with the reason, and the policy can be corrected', async () => {
    const { records } = world().deps;
    const { auditEntry } = await import('../../api/audit-entry.ts');
    const before = (await records.project(PROJECT))?.policy;
    if (!before) throw new Error('no policy');
    const entry = auditEntry({ key: 'old-policy', kind: 'test', actor: 'test', subject: 'test' });
    await records.setPolicy(PROJECT, { ...before, version: 7, thresholds: { auc: 0.7 } }, entry);
    const asked = { evaluation: 'ev-old', model: 'random-forest', dataset: 'test-1', subject: { submission: 'rf-1' } };
    const evaluate = () => said(world().ask('mia', 'POST', `/v1/projects/${PROJECT}/evaluations`, asked));
    expect((await evaluate())[1]).toMatch(
      /^wrong-policy: .* there is no metric "auc".* must correct the policy first$/,
    );
    expect(await set({ roc_auc: 0.7 })).toMatchObject([200, '', { version: 8, thresholds: { roc_auc: 0.7 } }]);
    expect((await evaluate())[0]).toBe(201);
  });
});
