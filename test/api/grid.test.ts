// Every route × every role × one's own, another's and another project's resources: who has access.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Route } from '../../api/route.ts';
import { publicRoute, route } from '../../api/route.ts';
import { mountedPath } from '../../api/app.ts';
import { issueToken } from '../../api/tokens.ts';
import { grid } from '../../workflows/domain/roles.ts';
import { z } from 'zod';
import type { Machines } from './passage.ts';
import type { Sample } from './grid-samples.ts';
import { application, expected, letters, samples } from './grid-samples.ts';
import { MODEL_BYTES, populatePassage, recordVersion, versionRow } from './passage.ts';
import type { World } from './world.ts';
import { openWorld, people, PROJECT } from './world.ts';

/** Routes that anybody may call. */
const open = ['/healthz', '/readyz', '/v1/openapi.json'];

const machines = ['scanner', 'probe', 'jobOne', 'jobTwo'] as const;
const callers: readonly string[] = [...Object.keys(people), ...machines];

/** The letters of the roles that somebody holds where the sample's thing is. */
function lettersOf(caller: string, isGlobal: boolean): string {
  if (caller === 'scanner' || caller === 'probe') return letters.application;
  if (caller.startsWith('job')) return letters.job;
  const person = people[caller];
  const here = !isGlobal && person?.project === PROJECT ? person.roles.map((role) => letters[role]).join('') : '';
  return here + (caller === 'admin' ? letters.admin : '');
}

/** The expected result: access, 403, or 404 for hidden resources. */
function verdict(sample: Sample, caller: string): 'in' | 403 | 404 {
  const isGlobal = [
    ...[
      'users.manage',
      'compute.manage',
      'project.create',
      'platform.see',
      'platform.operate',
      'token.own',
      'job.data',
    ],
  ].includes(sample.action);
  // Also who has no role anywhere manages their own tokens.
  if (sample.action === 'token.own') return caller in people ? 'in' : 403;
  const held = lettersOf(caller, isGlobal);
  const row: string = expected[sample.action];
  const own = sample.owners === 'all' || (sample.owners?.includes(caller) ?? false);
  const isIn = [...held].some((letter) => row.includes(letter) || (own && row.includes(letter.toUpperCase())));
  if (isIn) return 'in';
  if (isGlobal) return sample.action === 'job.data' && caller.startsWith('job') ? 404 : 403;
  // A job's token opens no project; another application and another project's people know of nothing.
  if (held === '' || held === letters.job) return 404;
  const isOthers = held === letters.application && Array.isArray(sample.owners) && !own;
  // If the path names a project, a caller without any permission there gets 403 first.
  const isHidden = row.includes('P') || (caller === 'probe' && sample.path.startsWith(application));
  return isOthers && isHidden ? 404 : 403;
}

/** What is wrong with the routes of an application: mounted past the helper, or open without being meant to be. */
function openRoutes(
  mounted: readonly { readonly method: string; readonly path: string }[],
  routes: readonly Route[],
): string[] {
  const known = new Map(routes.map((one) => [`${one.method.toUpperCase()} ${mountedPath(one)}`, one]));
  return mounted.flatMap(({ method, path }) => {
    if (method === 'ALL' && path === '/*') return [];
    const one = known.get(`${method} ${path}`);
    if (!one) return [`${method} ${path} was not made by the helper`];
    if (one.actions === 'public') return open.includes(one.path) ? [] : [`${method} ${path} is open`];
    return one.actions.length > 0 && one.actions.every((action) => action in expected)
      ? []
      : [`${method} ${path} names no action`];
  });
}

const state: { world?: World; machines?: Machines } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};

beforeAll(async () => {
  state.world = await openWorld();
  state.machines = await populatePassage(state.world);
  await recordVersion(
    state.world,
    versionRow({ submission: 'rf-0', state: 'trained', keyId: state.world.deps.signer.newest }),
  );
  // Commands to ask about: what the record refuses is a command, too.
  for (const [who, operation, name] of [
    ['mia', 'getVersionCommand', 'undo'],
    ['mia', 'getApplicationCommand', 'take-down'],
    ['eng', 'getScanCommand', 'confirm'],
  ] as const) {
    const path = samples[operation]?.[0]?.path.replace('/some-command', '') ?? '';
    const args = name === 'confirm' ? { findings: ['f-1'] } : {};
    await state.world.ask(who, 'POST', path, { name, commandId: 'some-command', revision: 99, args });
  }
});
afterAll(() => state.world?.close());

/** The caller's token, and the caller's name in a sample. */
async function send(sample: Sample, method: string, caller: string): Promise<Response> {
  const tokens: Record<string, string> = { ...world().tokens, ...state.machines };
  const spare = async (): Promise<string> =>
    caller in people
      ? (await issueToken(world().deps.records, { kind: 'user', name: caller, actor: 'test' })).tokenId
      : 'f'.repeat(16);
  const ofApplication = async (): Promise<string> =>
    (await issueToken(world().deps.records, { kind: 'application', name: 'scanner', actor: 'test' })).tokenId;
  const path = sample.path.includes('SPARE')
    ? sample.path.replace('SPARE', await spare())
    : sample.path.includes('APPLICATION-TOKEN')
      ? sample.path.replace('APPLICATION-TOKEN', await ofApplication())
      : sample.path;
  const body =
    sample.body === undefined || sample.body instanceof Uint8Array
      ? sample.body
      : (JSON.parse(JSON.stringify(sample.body).replaceAll('CALLER', caller.toLowerCase())) as unknown);
  return world().ask(tokens[caller] ?? caller, method.toUpperCase(), path, body, sample.headers);
}

test('the grid equals the one written here', () => {
  const shown = Object.fromEntries(
    Object.entries(grid).map(([action, row]) => [
      action,
      Object.entries(row)
        .map(([role, grant]) => ({ letter: letters[role as keyof typeof letters], grant }))
        .map(({ letter, grant }) => (grant === 'yes' ? letter : grant === 'own' ? letter.toUpperCase() : ''))
        .join(''),
    ]),
  );
  const sort = (row: string): string => [...row].sort().join('');
  expect(Object.fromEntries(Object.entries(shown).map(([a, row]) => [a, sort(row)]))).toEqual(
    Object.fromEntries(Object.entries(expected).map(([a, row]) => [a, sort(row)])),
  );
});

test('every route is made by the helper, has an action, and has a sample here for each of its actions', () => {
  const { app, routes } = world().api;
  expect(openRoutes(app.routes, routes)).toEqual([]);
  expect(
    routes
      .filter(({ actions }) => actions === 'public')
      .map(({ path }) => path)
      .sort(),
  ).toEqual([...open].sort());
  for (const one of routes) {
    if (one.actions === 'public') continue;
    const given = new Set((samples[one.described.operationId] ?? []).map(({ action }) => action));
    // Writing to staging has its own 403, tested with the files.
    if (one.described.operationId === 'putFile') given.add('staging.read');
    expect({ [one.described.operationId]: [...given].sort() }).toEqual({
      [one.described.operationId]: [...one.actions].sort(),
    });
  }
});

test.each<[string, (api: World['api']) => readonly Route[]]>([
  [
    'a route mounted without the helper',
    ({ app, routes }) => {
      app.get('/v1/planted', (context) => context.text('open'));
      return routes;
    },
  ],
  [
    'a route for all methods',
    ({ app, routes }) => {
      app.all('/v1/planted-for-all', (context) => context.text('open'));
      return routes;
    },
  ],
  [
    'a public route without a decision',
    ({ app, routes }) => {
      const planted = publicRoute({
        ...{ public: true, method: 'get', path: '/v1/planted-public', operationId: 'planted', summary: '' },
        response: z.object({}),
        handler: async () => ({ body: {} }),
      });
      app.get(planted.path, (context) => context.text('open'));
      return [...routes, planted];
    },
  ],
])('the walk finds %s', async (_, plant) => {
  const { createApp } = await import('../../api/app.ts');
  const api = createApp(world().deps);
  expect(openRoutes(api.app.routes, plant(api))).toEqual([expect.stringContaining('/v1/planted')]);
});

test.each([undefined, [], 'no.such'])('a route with the action %j cannot be made', (action) => {
  const spec = { method: 'get', path: '/v1/planted', operationId: 'planted', summary: '' } as const;
  const rest = { response: z.object({}), handler: async () => ({ body: {} }) };
  // @ts-expect-error nor does it compile
  expect(() => route({ ...spec, ...rest, action })).toThrow('names no action of the grid');
});

describe.each(Object.entries(samples))('%s', (operationId, given) => {
  const found = (): Route => {
    const one = world().api.routes.find(({ described }) => described.operationId === operationId);
    if (!one) throw new Error(`no route ${operationId}`);
    return one;
  };

  test.each(given.map((sample) => [sample.action, sample] as const))('as %s, by every caller', async (_, sample) => {
    const said: Record<string, unknown> = {};
    const wanted: Record<string, unknown> = {};
    for (const caller of callers) {
      wanted[caller] = verdict(sample, caller);
      if (sample.action === 'private.read' && wanted[caller] === 'in' && operationId === 'getFile')
        await world().ask(caller, 'PUT', sample.path, MODEL_BYTES);
      const response = await send(sample, found().method, caller);
      const isIn = response.status < 400;
      said[caller] = isIn ? 'in' : response.status;
      if (isIn || [403, 404].includes(response.status)) continue;
      const text = await response.text();
      // Whose version it is, the record judges; its refusal has another form than that of the grid.
      said[caller] = text.includes('"urn:ocdl:problem:command-not-authorized"') ? 403 : `${response.status} ${text}`;
    }
    expect(said).toEqual(wanted);
  });

  test('without a token, with junk, and with a revoked one', async () => {
    const { records } = world().deps;
    const { token, tokenId } = await issueToken(records, { kind: 'user', name: 'mia', actor: 'test' });
    const revoked = await world().ask(token, 'DELETE', `/v1/tokens/${tokenId}`);
    expect(revoked.status).toBe(200);
    for (const sample of given)
      for (const credential of [null, 'junk', token, `ocdl_${'0'.repeat(16)}_${'A'.repeat(43)}`]) {
        const body = sample.body instanceof Uint8Array ? sample.body : undefined;
        const response = await world().ask(credential, found().method.toUpperCase(), sample.path, body, sample.headers);
        expect(response.status).toBe(401);
        expect(response.headers.get('www-authenticate')).toMatch(/^Bearer realm="ocdl"/);
      }
  });
});
