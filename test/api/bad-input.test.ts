// Invalid and hostile input: refused with a clear problem document, without internals.
import { once as event } from 'node:events';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { describe, expect, test } from '@jest/globals';
import { PROJECT, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile({ jsonBytes: 100_000 });

const inside = /node_modules|\/tmp\/|\.ts:|postgres|select |insert |ENOENT|at async|local:/i;

/** Asserts a problem document with that status and without internals. */
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
    ['a lone percent sign', 'a%'],
    ['non-ASCII letters', 'mod%C3%A9le'],
    ['a hidden file', '.env'],
    ['a leading hyphen', '-rf'],
    ['a quote', "a'b"],
    ['a wildcard', 'a*'],
    ['a dollar', 'a$b'],
    ['a colon', 'a:b'],
    ['too many characters', 'a'.repeat(600)],
  ])('may not contain %s', async (_, bad) => {
    for (const { method, path } of places(bad)) {
      const response = await world().ask('mia', method, path);
      const said = await response.text();
      expect([path, response.status, inside.test(said)]).toEqual([path, 400, false]);
    }
  });

  test('may not contain parent segments, even if sent unnormalised over a socket', async () => {
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
    ['a content type similar to JSON', 'application/jsonp'],
  ])('with %s: 415', async (_, type) => {
    const bytes = new TextEncoder().encode('{"user":"zoe"}');
    await expectProblem(await post(bytes, type), 415);
  });

  test.each<[string, string | Uint8Array]>([
    ['broken JSON', '{"user":'],
    ['two values', '{} {}'],
    ['an array', '[]'],
    ['null', 'null'],
    ['a string', '"zoe"'],
    ['an unknown key', '{"user":"zoe","isAdmin":true}'],
    ['a prototype', '{"user":"zoe","__proto__":{"admin":true}}'],
    ['a constructor', '{"user":"zoe","constructor":{"prototype":{"admin":true}}}'],
    ['a wrong type', '{"user":7}'],
    ['NUL', '{"user":"zo\\u0000e"}'],
    ['half a surrogate pair', '{"user":"\\ud800"}'],
    ['a key with NUL', '{"user":"zoe","\\u0000":1}'],
    ['a name given twice', '{"user":"zoe","user":"zoe"}'],
    ['an escaped name given twice', '{"user":"zoe","admin":false,"\\u0061dmin":true}'],
    ['deep arrays', '['.repeat(50_000)],
    ['deep objects', '{"a":'.repeat(10_000) + '1' + '}'.repeat(10_000)],
    ['invalid UTF-8', new Uint8Array([0x7b, 0xff, 0xfe, 0x7d])],
    ['an invalid name', '{"user":"../../etc"}'],
  ])('of %s: 400', async (_, body) => {
    await expectProblem(await post(body), 400);
    expect((await world().deps.records.users()).some(({ user }) => user === 'zoe')).toBe(false);
  });

  test('brackets inside strings do not count as depth', async () => {
    const response = await world().ask('mia', 'POST', `/v1/projects/${PROJECT}/code/commits`, {
      ...{ branch: 'main', message: '[[[[{{{{'.repeat(20) + '"\\', files: { 'a.txt': '{'.repeat(500) } },
    });
    expect(response.status).toBe(201);
  });

  test('that is too large: 413, with or without Content-Length', async () => {
    await expectProblem(await post(JSON.stringify({ user: 'a'.repeat(100_001) })), 413);
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode(' '.repeat(10_000))),
    });
    const response = await world().ask('admin', 'POST', path, endless, { 'content-type': 'application/json' });
    await expectProblem(response, 413);
  });

  test.each(['operator', 'platform', 'unproven'])(
    '%s cannot be a user name: it is reserved in the audit',
    async (name) => {
      const user = await expectProblem(await world().ask('admin', 'POST', path, { user: name }), 400);
      expect(user['detail']).toContain(`"${name}" is reserved in the audit: choose another name`);
      const application = { application: name, types: [TYPE], gates: ['function'] };
      await expectProblem(await world().ask('mia', 'POST', `/v1/projects/${PROJECT}/applications`, application), 400);
    },
  );

  test('lists each problem with its location', async () => {
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
  ])('of a commit with an invalid %s: 400', async (_, change) => {
    const body = { branch: 'main', message: 'm', files: { 'a.txt': 'x' }, ...change };
    await expectProblem(await world().ask('sam', 'POST', `/v1/projects/${PROJECT}/code/commits`, body), 400);
  });

  test.each([
    ['an unknown command', { name: 'destroy' }],
    ['a command of another workflow', { name: 'revert' }],
    ['a negative revision', { revision: -1 }],
    ['a revision beyond safe integers', { revision: 2 ** 60 }],
    ['an invalid digest', { digest: 'abc' }],
    ['a short command id', { commandId: 'abc' }],
    ['a command id with a slash', { commandId: '../../../../x' }],
    ['a long reason', { args: { reason: 'x'.repeat(2_001) } }],
    ['half a surrogate pair', { args: { reason: '\ud800' } }],
    ['NUL', { args: { reason: 'a\0b' } }],
    ['unknown arguments', { args: { force: true } }],
  ])('of a command with %s: 400, and no signal is sent', async (_, change) => {
    const body = { name: 'reject', revision: 3, args: { reason: 'r' }, ...change };
    const path = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1/commands`;
    await expectProblem(await world().ask('mia', 'POST', path, body), 400);
    expect(world().deps.workflows.sent).toEqual([]);
  });
});

describe('a value that parsing would lose or change', () => {
  const submit = (parameters: string) =>
    world().ask(
      'sam',
      'POST',
      `/v1/projects/${PROJECT}/models/exact/submissions`,
      `{"submission":"exact-1","type":"${TYPE}","from":{"run":{"commit":"main","entrypoint":"train.py","lock":"lock.txt","data":[],"parameters":${parameters}}}}`,
    );
  const where = 'body.from.run.parameters.a';

  test.each(['1.0', '-0.0', '1e5', '12345678901234567890', '1e400'])(
    'the parameter %s: 400, with what to do',
    async (n) => {
      const { detail, errors } = await expectProblem(await submit(`{"a":${n}}`), 400);
      expect(errors).toEqual([{ where, message: expect.stringContaining(n) as unknown }]);
      expect(detail).toContain('a text');
    },
  );

  test('a parameter or file named __proto__: 400, and nothing is committed', async () => {
    const named = await expectProblem(await submit('{"__proto__":1}'), 400);
    expect(named['detail']).toContain('body.from.run.parameters.__proto__');
    const path = `/v1/projects/${PROJECT}/code/commits`;
    const body = '{"branch":"proto","message":"m","files":{"__proto__":"x","kept.txt":"y"}}';
    await expectProblem(await world().ask('sam', 'POST', path, body), 400);
    await world().deps.code.ensure(`${PROJECT}/code`);
    expect(await world().deps.code.resolve(`${PROJECT}/code`, 'proto')).toBeUndefined();
  });

  test('a threshold named __proto__: 400, and the thresholds stay', async () => {
    const before = await world().deps.records.project(PROJECT);
    const response = await world().ask(
      'mia',
      'PUT',
      `/v1/projects/${PROJECT}/policy`,
      '{"thresholds":{"__proto__":1}}',
    );
    await expectProblem(response, 400);
    expect(await world().deps.records.project(PROJECT)).toEqual(before);
  });

  test('an exact number elsewhere may have a fraction of zero, as Python writes it', async () => {
    const policy = '{"thresholds":{"roc_auc":1.0},"quorum":1.0}';
    expect((await world().ask('mia', 'PUT', `/v1/projects/${PROJECT}/policy`, policy)).status).toBe(200);
  });
});

test('a scan with the most findings is accepted', async () => {
  const findings = Array.from({ length: 5_000 }, (_, i) => ({
    ...{ finding: `finding-${i}`, name: 'n'.repeat(512), path: 'p'.repeat(1_024) },
    ...{ vulnerable: true, probability: 0.987654321, source: 'a'.repeat(64) },
  }));
  const scan = { scan: 'most', type: TYPE, release: `${TYPE}-1`, findings };
  const sent = await world().ask(machines().scanner, 'POST', '/v1/applications/scanner/scans', scan);
  expect([sent.status, (await sent.text()).slice(0, 200)]).toEqual([201, expect.any(String)]);
  const over = JSON.stringify({ ...scan, scan: 'over' }) + ' '.repeat(33 * 1024 ** 2);
  expect((await world().ask(machines().scanner, 'POST', '/v1/applications/scanner/scans', over)).status).toBe(413);
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

  test('an invalid time is refused; a time in another zone is accepted', async () => {
    const path = `/v1/applications/scanner/types/${TYPE}/live`;
    await expectProblem(await world().ask('mia', 'GET', `${path}?at=yesterday`), 400);
    for (const at of ['0000-01-01T00:00:00Z', '0001-01-01T00:00:00%2B14:00', '9999-12-31T23:59:59-14:00']) {
      const { detail } = await expectProblem(await world().ask('mia', 'GET', `${path}?at=${at}`), 400);
      expect(detail).toBe('query.at: a time lies in the years 1 to 9999 (UTC)');
    }
    expect((await world().ask('mia', 'GET', `${path}?at=9999-12-31T23:59:59Z`)).status).toBe(200);
    expect((await world().ask('mia', 'GET', `${path}?at=2026-01-01T00:00:00%2B02:00`)).status).toBe(200);
  });
});
