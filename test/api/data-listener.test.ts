// The listener for pods: it serves the data path of jobs and nothing else of the API, whoever asks.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createDataApp } from '../../api/app.ts';
import { apiConfig } from '../../api/config.ts';
import { documentOf } from '../../api/openapi.ts';
import { samples } from './grid-samples.ts';
import type { Machines } from './passage.ts';
import { MODEL_BYTES, populatePassage } from './passage.ts';
import type { World } from './world.ts';
import { openWorld, people } from './world.ts';

const dataPath = ['getJobInput', 'putJobOutput'];
const state: { world?: World; machines?: Machines; app?: ReturnType<typeof createDataApp>['app'] } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
beforeAll(async () => {
  state.world = await openWorld();
  state.machines = await populatePassage(state.world);
  state.app = createDataApp(state.world.deps).app;
});
afterAll(() => state.world?.close());

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly headers?: Record<string, string> | undefined;
}

async function ask({ method, path, token, body, headers }: Asked): Promise<Response> {
  if (!state.app) throw new Error('no application');
  const isBytes = body instanceof Uint8Array;
  return state.app.request(`http://localhost${path}`, {
    method: method.toUpperCase(),
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { 'content-type': isBytes ? 'application/octet-stream' : 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body: isBytes ? body : JSON.stringify(body) }),
  });
}

const everybody = (): readonly (readonly [name: string, token: string | undefined])[] => [
  ...Object.keys(people).map((name) => [name, world().tokens[name]] as const),
  ...Object.entries(state.machines ?? {}),
  ['nobody at all', undefined],
];

test('every route of the API: only the data path of jobs is there, and only for the job itself', async () => {
  const operations = Object.entries(documentOf(world().api.app).paths).flatMap(([, methods]) =>
    Object.entries(methods).map(([method, { operationId = '' }]) => ({ method, operationId })),
  );
  expect(operations.length).toBe(world().api.routes.length);
  const answers: string[] = [];
  for (const { method, operationId } of operations)
    for (const { path, body, headers } of samples[operationId] ?? [
      { path: world().api.routes.find(({ described }) => described.operationId === operationId)?.path ?? '' },
    ])
      for (const [name, token] of everybody()) {
        const { status } = await ask({ method, path, token, body, headers });
        if (!dataPath.includes(operationId)) {
          if (status !== 404) answers.push(`${name} ${method} ${path}: ${status}`);
          continue;
        }
        const expected = name === 'jobOne' ? 200 : name === 'jobTwo' ? 404 : token === undefined ? 401 : 403;
        if (status !== expected) answers.push(`${name} ${method} ${path}: ${status} instead of ${expected}`);
      }
  expect(answers).toEqual([]);
}, 120_000);

test('a job gets its bytes, and other methods and paths of a job are not there', async () => {
  const token = state.machines?.jobOne;
  const path = '/v1/jobs/job-1/inputs/model.onnx';
  expect(Buffer.from(await (await ask({ method: 'get', path, token })).arrayBuffer())).toEqual(MODEL_BYTES);
  expect((await ask({ method: 'delete', path, token })).status).toBe(405);
  for (const other of ['/', '/v1/jobs/job-1', '/v1/jobs/job-1/inputs', '/v1/openapi.json', '/healthz', '/console/'])
    expect((await ask({ method: 'get', path: other, token })).status).toBe(404);
});

test('the configuration names the listener and the host names that it answers to', () => {
  const given = { DATABASE_URL: 'postgresql://localhost/ocdl' };
  expect(apiConfig(given).data).toBeNull();
  expect(apiConfig({ ...given, OCDL_DATA_LISTEN: '10.1.2.3:8471' }).data).toMatchObject({
    ...{ host: '10.1.2.3', port: 8471 },
    limits: { hosts: 'any' },
  });
  const pods = {
    OCDL_KUBERNETES_IN_CLUSTER: 'true',
    OCDL_KUBERNETES_IMAGE: 'registry.example/ocdl-capsule:1',
    OCDL_KUBERNETES_PLATFORM_IMAGE: 'registry.example/ocdl-platform:1',
    OCDL_KUBERNETES_DATA_URL: 'https://Data.ocdl.example:8443',
  };
  expect(apiConfig({ ...given, ...pods, OCDL_DATA_LISTEN: '[::]:8471' }).data).toMatchObject({
    ...{ host: '::', port: 8471 },
    limits: { hosts: ['localhost', '127.0.0.1', '[::1]', 'data.ocdl.example'] },
  });
  for (const wrong of ['8471', '10.1.2.3', '::1:8471', '10.1.2.3:99999', 'http://10.1.2.3:8471'])
    expect(() => apiConfig({ ...given, OCDL_DATA_LISTEN: wrong })).toThrow(/OCDL_DATA_LISTEN/);
});
