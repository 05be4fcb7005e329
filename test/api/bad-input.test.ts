// What comes in wrong, by mistake or on purpose: refused kindly, with nothing of the inside in the answer.
import { once as event } from 'node:events';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { populatePassage } from './passage.ts';
import type { World } from './world.ts';
import { openWorld, PROJECT, TYPE } from './world.ts';

const state: { world?: World } = {};
const world = (): World => {
  if (!state.world) throw new Error('no world');
  return state.world;
};
beforeAll(async () => {
  state.world = await openWorld({ jsonBytes: 100_000 });
  await populatePassage(state.world);
});
afterAll(() => state.world?.close());

const inside = /node_modules|\/tmp\/|\.ts:|postgres|select |insert |ENOENT|at async|local:/i;

/** Asserts that it is a problem of that status and tells nothing of the inside. */
async function expectProblem(response: Response, status: number): Promise<Record<string, unknown>> {
  const text = await response.text();
  expect([response.status, text]).toEqual([status, expect.not.stringMatching(inside)]);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  const body = JSON.parse(text) as Record<string, unknown>;
  expect(body).toMatchObject({ status, type: expect.stringMatching(/^urn:ocdl:problem:/) as unknown });
  expect(String(body['detail']).length).toBeGreaterThan(5);
  expect(body['requestId']).toBe(response.headers.get('x-request-id'));
  return body;
}

/** Every route with every one of its path parameters in turn replaced by something. */
const places = (bad: string): { readonly method: string; readonly path: string }[] =>
  world()
    .api.routes.filter(({ actions }) => actions !== 'public')
    .flatMap(({ method, path }) =>
      [...path.matchAll(/\{\w+\}/g)].map(([chosen]) => ({
        method: method.toUpperCase(),
        path: path.replace(/\{(\w+)\}/g, (whole, name: string) =>
          whole === chosen ? bad : (sane[name] ?? 'some-name'),
        ),
      })),
    );
const sane: Readonly<Record<string, string>> = {
  ...{ project: PROJECT, model: 'random-forest', submission: 'rf-1', area: 'private', path: 'a/b', name: 'model.onnx' },
  ...{ commandId: 'command-1', release: `${TYPE}-1`, type: TYPE, application: 'scanner', scan: 'scan-1', job: 'job-1' },
  ...{ tokenId: 'f'.repeat(16), user: 'sam', dataset: 'training-1', evaluation: 'ev-1' },
};

describe('a name in a path', () => {
  test.each([
    ['an encoded slash', 'a%2Fb'],
    ['an encoded traversal', '%2e%2e%2f%2e%2e%2fetc%2fpasswd'],
    ['double encoding', '%252e%252e%252f'],
    ['an encoded backslash', '..%5c..%5cetc'],
    ['NUL', 'a%00b'],
    ['a newline', 'a%0d%0ab'],
    ['overlong UTF-8', '%c0%ae%c0%ae'],
    ['a broken escape', '%zz'],
    ['a percent alone', 'a%'],
    ['letters beyond ASCII', 'mod%C3%A9le'],
    ['a hidden file', '.env'],
    ['a leading hyphen', '-rf'],
    ['a quote', "a'b"],
    ['a wildcard', 'a*'],
    ['a dollar', 'a$b'],
    ['a colon', 'a:b'],
    ['too much', 'a'.repeat(600)],
  ])('may not hold %s', async (_, bad) => {
    for (const { method, path } of places(bad)) {
      const response = await world().ask('mia', method, path);
      const said = await response.text();
      expect([path, response.status, inside.test(said)]).toEqual([path, 400, false]);
    }
  });

  test('nor go up, over a socket that takes paths as they are written', async () => {
    const server = createAdaptorServer({ fetch: world().api.app.fetch });
    server.listen(0, '127.0.0.1');
    await event(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const raw = async (path: string, host = 'localhost'): Promise<string> => {
      const socket = connect(port, '127.0.0.1');
      const auth = `Authorization: Bearer ${world().tokens['sam'] ?? ''}`;
      socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${auth}\r\nConnection: close\r\n\r\n`);
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      return text;
    };
    try {
      expect(await raw('/v1/me')).toMatch(/^HTTP\/1.1 200 /);
      for (const path of [
        `/v1/projects/${PROJECT}/files/private/../../../../../../etc/passwd`,
        `/v1/projects/${PROJECT}/files/private/../mia/secret.txt`,
        `/v1/projects/${PROJECT}/files/private/..%2f..%2fetc/passwd`,
        `/v1/projects/${PROJECT}/files/private/..\\..\\etc\\passwd`,
        `/v1/projects/${PROJECT}/files/private//etc/passwd`,
        `/v1/projects/${PROJECT}/files/private/./x`,
        '//etc/passwd',
        '/..;/v1/users',
      ])
        expect([path, await raw(path)]).toEqual([path, expect.stringMatching(/^HTTP\/1.1 (400|404) /)]);
      // DNS rebinding: a page whose own name points here.
      for (const host of ['evil.example', 'evil.example:8470', 'localhost.evil.example', '127.0.0.1.evil.example', ''])
        expect([host, await raw('/v1/me', host)]).toEqual([host, expect.stringMatching(/^HTTP\/1.1 4(00|21) /)]);
      for (const host of ['localhost:1234', '127.0.0.1', '[::1]:8470', 'LOCALHOST'])
        expect([host, await raw('/v1/me', host)]).toEqual([host, expect.stringMatching(/^HTTP\/1.1 200 /)]);
    } finally {
      (server as unknown as { closeAllConnections(): void }).closeAllConnections();
      server.close();
    }
  });
});

describe('a body', () => {
  const path = '/v1/users';
  const post = (body: string | Uint8Array, type: string | null = 'application/json') =>
    Promise.resolve(
      world().api.app.request(`http://localhost${path}`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${world().tokens['admin'] ?? ''}`,
          ...(type !== null && { 'content-type': type }),
        },
        body: body as string,
      }),
    );

  test.each([
    ['no content type', null],
    ['a form', 'application/x-www-form-urlencoded'],
    ['plain text', 'text/plain'],
    ['several', 'text/plain, application/json'],
    ['nearly JSON', 'application/jsonp'],
  ])('with %s: 415', async (_, type) => {
    const bytes = new TextEncoder().encode('{"user":"zoe"}');
    await expectProblem(await post(bytes, type), 415);
  });

  test.each<[string, string | Uint8Array]>([
    ['broken JSON', '{"user":'],
    ['two values', '{} {}'],
    ['an array', '[]'],
    ['null', 'null'],
    ['a text', '"zoe"'],
    ['an unknown key', '{"user":"zoe","isAdmin":true}'],
    ['a prototype', '{"user":"zoe","__proto__":{"admin":true}}'],
    ['a constructor', '{"user":"zoe","constructor":{"prototype":{"admin":true}}}'],
    ['a wrong type', '{"user":7}'],
    ['NUL', '{"user":"zo\\u0000e"}'],
    ['half a surrogate pair', '{"user":"\\ud800"}'],
    ['a key with NUL', '{"user":"zoe","\\u0000":1}'],
    ['deep arrays', '['.repeat(50_000)],
    ['deep objects', '{"a":'.repeat(10_000) + '1' + '}'.repeat(10_000)],
    ['bytes that are no UTF-8', new Uint8Array([0x7b, 0xff, 0xfe, 0x7d])],
    ['a name that is none', '{"user":"../../etc"}'],
  ])('of %s: 400', async (_, body) => {
    await expectProblem(await post(body), 400);
    expect((await world().deps.records.users()).some(({ user }) => user === 'zoe')).toBe(false);
  });

  test('brackets inside texts are not depth', async () => {
    const response = await world().ask('mia', 'POST', `/v1/projects/${PROJECT}/code/commits`, {
      ...{ branch: 'main', message: '[[[[{{{{'.repeat(20) + '"\\', files: { 'a.txt': '{'.repeat(500) } },
    });
    expect(response.status).toBe(201);
  });

  test('that is too large: 413, announced or streamed', async () => {
    await expectProblem(await post(JSON.stringify({ user: 'a'.repeat(100_001) })), 413);
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode(' '.repeat(10_000))),
    });
    const response = await world().ask('admin', 'POST', path, endless, { 'content-type': 'application/json' });
    await expectProblem(response, 413);
  });

  test.each(['operator', 'platform', 'unproven'])(
    '%s is nobody’s name: the audit means somebody else',
    async (name) => {
      const user = await expectProblem(await world().ask('admin', 'POST', path, { user: name }), 400);
      expect(user['detail']).toContain(`"${name}" is what the audit calls somebody else: choose another name`);
      const application = { application: name, types: [TYPE], gates: ['function'] };
      await expectProblem(await world().ask('mia', 'POST', `/v1/projects/${PROJECT}/applications`, application), 400);
    },
  );

  test('says each thing that is wrong, and where', async () => {
    const body = { submission: 'UPPER', type: TYPE, from: { directory: '../up' } };
    const response = await world().ask('sam', 'POST', `/v1/projects/${PROJECT}/models/rf/submissions`, body);
    const problem = await expectProblem(response, 400);
    expect(problem['errors']).toEqual([
      { where: 'body.submission', message: expect.stringContaining('a name has lower-case') as unknown },
      { where: expect.stringMatching(/^body\.from/) as unknown, message: expect.any(String) as unknown },
    ]);
  });

  test.each([
    ['branch', { branch: '../main' }],
    ['branch', { branch: 'a.lock' }],
    ['branch', { branch: '--upload-pack=x' }],
    ['files', { files: { '../up': 'x' } }],
    ['files', { files: { '.git/config': 'x' } }],
    ['files', { files: { '/etc/passwd': 'x' } }],
    ['files', { files: {} }],
    ['files', { files: { 'a.bin': { base64: '%%%' } } }],
    ['message', { message: 'a\u0007b' }],
  ])('of a commit with a wrong %s: 400', async (_, change) => {
    const body = { branch: 'main', message: 'm', files: { 'a.txt': 'x' }, ...change };
    await expectProblem(await world().ask('sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, body), 400);
  });

  test.each([
    ['an unknown command', { name: 'destroy' }],
    ['a command of another workflow', { name: 'revert' }],
    ['a negative revision', { revision: -1 }],
    ['a revision beyond integers', { revision: 2 ** 60 }],
    ['a digest that is none', { digest: 'abc' }],
    ['a short command id', { commandId: 'abc' }],
    ['a command id with a slash', { commandId: '../../../../x' }],
    ['a long reason', { args: { reason: 'x'.repeat(2_001) } }],
    ['half a surrogate pair', { args: { reason: '\ud800' } }],
    ['NUL', { args: { reason: 'a\0b' } }],
    ['unknown arguments', { args: { force: true } }],
  ])('of a command with %s: 400 and nothing sent', async (_, change) => {
    const body = { name: 'reject', revision: 3, args: { reason: 'r' }, ...change };
    const path = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1/commands`;
    await expectProblem(await world().ask('mia', 'POST', path, body), 400);
    expect(world().deps.workflows.sent).toEqual([]);
  });
});

describe('a query', () => {
  test.each([
    'limit=0',
    'limit=501',
    'limit=1e3',
    'limit=-1',
    'unknown=1',
    'limit=1&limit=2',
    'after=x%00',
    'state=gone',
    'author=..%2f',
  ])('%s: 400', async (query) => {
    await expectProblem(await world().ask('mia', 'GET', `/v1/projects/${PROJECT}/versions?${query}`), 400);
  });

  test.each(['folder=..', 'folder=../mia', 'folder=/etc', 'after=../x', 'folder=a%2F..%2F..'])(
    '%s of a listing: 400',
    async (query) => {
      await expectProblem(await world().ask('sam', 'GET', `/v1/projects/${PROJECT}/files/private?${query}`), 400);
    },
  );

  test('a time that is none, or one in another zone', async () => {
    const path = `/v1/applications/scanner/types/${TYPE}/live`;
    await expectProblem(await world().ask('mia', 'GET', `${path}?at=yesterday`), 400);
    expect((await world().ask('mia', 'GET', `${path}?at=2026-01-01T00:00:00%2B02:00`)).status).toBe(200);
  });
});
