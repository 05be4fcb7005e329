// The gateway of a download's sandbox reaches only the package index, and nothing else on this machine or the network.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareStep } from '../../activities/adapters/local-process/enclosure.ts';
import { openProgramLog } from '../../activities/adapters/local-process/program-log.ts';
import { startProgram } from '../../activities/adapters/local-process/program.ts';
import { detectSandbox } from '../../activities/adapters/local-process/sandbox.ts';
import { openIndexGateway, type IndexHost } from '../../activities/adapters/local-process/index-gateway.ts';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { sandboxForTests } from '../adapters/local-cluster.ts';
import { eventually } from '../contracts/cluster.ts';

const hasSandbox = await sandboxForTests('what a step that makes an environment can see and reach');

let folder: string;
const closing: (() => Promise<void>)[] = [];
beforeEach(() => (folder = mkdtempSync('/var/tmp/ocdl-gateway-')));
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  rmSync(folder, { recursive: true, force: true });
});

/** A web server; what it was asked for. */
async function web(body = 'the index'): Promise<{ port: number; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((question, response) => {
    asked.push(`${question.method} ${question.url}`);
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(
    () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return { port: (server.address() as AddressInfo).port, asked };
}

async function open(hosts: readonly IndexHost[], limitBytes = 1_000_000, patience = {}) {
  const socket = join(folder, 'socket');
  const gateway = await openIndexGateway({ socket, hosts, limitBytes, ...patience });
  closing.push(gateway.close);
  return { socket, gateway };
}
const straight = (port: number): IndexHost => ({ host: '127.0.0.1', port, proxy: null });

/** Asks through the gateway in the form of a proxy; the status, and what came. */
function ask(socketPath: string, path: string, method = 'GET'): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, method }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.once('error', reject);
    });
    asked.once('error', reject);
    asked.end();
  });
}

/** Asks for a tunnel and sends a request through it; all that came back. */
function tunnel(socketPath: string, authority: string): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket: Socket = connect(socketPath);
    socket.setEncoding('utf8').on('data', (text: string) => {
      if (said === '' && text.startsWith('HTTP/1.1 200')) socket.write('GET /x HTTP/1.0\r\n\r\n');
      said += text;
    });
    socket.once('close', () => resolve(said));
    socket.once('error', () => undefined);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });
}

test('the index is reached, by a request and by a tunnel', async () => {
  const index = await web();
  const { socket, gateway } = await open([straight(index.port)]);
  expect(await ask(socket, `http://127.0.0.1:${index.port}/simple/`)).toEqual({ status: 200, body: 'the index' });
  expect(await tunnel(socket, `127.0.0.1:${index.port}`)).toMatch(/^HTTP\/1.1 200 [^]*the index$/);
  expect(index.asked).toEqual(['GET /simple/', 'GET /x']);
  expect([...gateway.refused, ...gateway.unreachable]).toEqual([]);
});

test.each([
  ['another port of the same host', (other: number) => `127.0.0.1:${other}`],
  ['another name of the same machine', (other: number) => `localhost:${other}`],
  ['the metadata service of a cloud', () => '169.254.169.254:80'],
  ['loopback over IPv6', (other: number) => `[::1]:${other}`],
])('%s is not reached', async (_, authorityOf) => {
  const [index, other] = [await web(), await web('a secret')];
  const { socket, gateway } = await open([straight(index.port)]);
  const authority = authorityOf(other.port);
  expect(await tunnel(socket, authority)).toMatch(/^HTTP\/1.1 403 /);
  expect((await ask(socket, `http://${authority}/`)).status).toBe(403);
  expect(other.asked).toEqual([]);
  expect(gateway.refused.size).toBeGreaterThan(0);
});

test.each([
  ['a path without a host', 'GET', '/simple/'],
  ['another protocol', 'GET', 'ftp://127.0.0.1/'],
  ['an upload', 'POST', 'http://127.0.0.1:PORT/'],
])('%s is refused', async (_, method, path) => {
  const index = await web();
  const { socket } = await open([straight(index.port)]);
  expect((await ask(socket, path.replace('PORT', String(index.port)), method)).status).toBe(403);
  expect(index.asked).toEqual([]);
});

test('no more bytes pass than the limit', async () => {
  const index = await web('x'.repeat(3_000_000));
  const { socket, gateway } = await open([straight(index.port)]);
  await expect(ask(socket, `http://127.0.0.1:${index.port}/`)).rejects.toThrow();
  expect((await tunnel(socket, `127.0.0.1:${index.port}`)).length).toBeLessThan(1_500_000);
  expect(gateway.exceeded()).toBe(true);
});

test('an index that is down is reported by name, with the reason', async () => {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const { socket, gateway } = await open([straight(port)]);
  expect(await tunnel(socket, `127.0.0.1:${port}`)).toMatch(/^HTTP\/1.1 502 /);
  expect((await ask(socket, `http://127.0.0.1:${port}/`)).status).toBe(502);
  expect(gateway.unreachable.get(`127.0.0.1:${port}`)).toMatch(/ECONNREFUSED/);
});

/** A server that answers nothing, or what `answer` writes; how many connections to it are open. */
async function silent(
  answer: (socket: Socket) => void = () => undefined,
): Promise<{ port: number; open: () => number }> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => undefined).resume();
    answer(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(() => resolve()));
  });
  return { port: (server.address() as AddressInfo).port, open: () => sockets.size };
}
const closed = ({ open: count }: { open: () => number }): Promise<void> =>
  eventually('no connection is left', () => Promise.resolve(count() === 0), 2_000);

describe('without an answer in time, the status is 504 and no connection is left:', () => {
  const patience = { answerWithinMs: 300, silentMs: 60_000 };

  test('an index that accepts connections', async () => {
    const index = await silent();
    const { socket, gateway } = await open([straight(index.port)], undefined, patience);
    expect((await ask(socket, `http://127.0.0.1:${index.port}/simple/`)).status).toBe(504);
    expect(gateway.unreachable.get(`127.0.0.1:${index.port}`)).toBe('no answer within 0.3 s');
    await closed(index);
  });

  test('an index that sends its answer byte by byte', async () => {
    const index = await silent((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nx: ');
        const timer = setInterval(() => socket.write('x'), 50);
        socket.once('close', () => clearInterval(timer));
      });
    });
    const { socket } = await open([straight(index.port)], undefined, patience);
    expect((await ask(socket, `http://127.0.0.1:${index.port}/`)).status).toBe(504);
    await closed(index);
  });

  test('a proxy, for a tunnel and for a request', async () => {
    const proxy = await silent();
    const far = { host: 'index.example', proxy: `http://127.0.0.1:${proxy.port}` };
    const hosts = [80, 443].map((port) => ({ ...far, port }));
    const { socket, gateway } = await open(hosts, undefined, patience);
    expect(await tunnel(socket, 'index.example:443')).toMatch(/^HTTP\/1.1 504 /);
    expect((await ask(socket, 'http://index.example/')).status).toBe(504);
    expect([...gateway.unreachable.keys()].sort()).toEqual(['index.example:443', 'index.example:80']);
    await closed(proxy);
  });
});

test('a tunnel that is silent for too long is closed', async () => {
  const index = await silent();
  const { socket } = await open([straight(index.port)], undefined, { silentMs: 300 });
  expect(await tunnel(socket, `127.0.0.1:${index.port}`)).toMatch(/^HTTP\/1.1 200 /);
  await closed(index);
});

test('a download that ends while its connection is made, and a refusing proxy, leave no connection', async () => {
  const proxy = await silent();
  const far = { host: 'index.example', port: 443, proxy: `http://127.0.0.1:${proxy.port}` };
  const { socket, gateway } = await open([far]);
  const near = connect(socket);
  near.write('CONNECT index.example:443 HTTP/1.1\r\n\r\n');
  await eventually('the proxy is asked', () => Promise.resolve(proxy.open() === 1), 2_000);
  near.destroy();
  await closed(proxy);
  expect([...gateway.unreachable]).toEqual([]);
  await gateway.close();
  closing.pop();

  const refusing = await silent((one) => void one.write('HTTP/1.1 407 No\r\nConnection: keep-alive\r\n\r\n'));
  const other = await open([{ ...far, proxy: `http://127.0.0.1:${refusing.port}` }]);
  expect(await tunnel(other.socket, 'index.example:443')).toMatch(/^HTTP\/1.1 502 /);
  await closed(refusing);
});

test('the gateway uses this machine’s proxy to reach the index, with its password', async () => {
  const index = await web();
  const heard: (string | undefined)[] = [];
  const proxy = createServer((question, response) => {
    heard.push(`${question.method} ${question.url} ${question.headers['proxy-authorization']}`);
    response.end('by proxy');
  });
  proxy.on('connect', (question, near: Socket) => {
    heard.push(`CONNECT ${question.url} ${question.headers['proxy-authorization']}`);
    const far = connect(index.port, '127.0.0.1', () => {
      near.write('HTTP/1.1 200 OK\r\n\r\n');
      near.pipe(far).pipe(near);
    });
    near.on('error', () => far.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  closing.push(() => new Promise((resolve) => proxy.close(() => resolve())));
  const address = `http://me:p%40ss@127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const { socket } = await open([
    { host: 'index.example', port: 443, proxy: address },
    { host: 'index.example', port: 80, proxy: address },
  ]);
  expect(await tunnel(socket, 'index.example:443')).toMatch(/the index$/);
  expect((await ask(socket, 'http://index.example/simple/')).body).toBe('by proxy');
  const secret = `Basic ${Buffer.from('me:p@ss').toString('base64')}`;
  expect(heard).toEqual([`CONNECT index.example:443 ${secret}`, `GET http://index.example/simple/ ${secret}`]);
});

(hasSandbox ? test : test.skip)(
  'a step sees its own folders, and nothing of the platform, its variables or its network',
  async () => {
    const platform = await web('the platform');
    const home = join(folder, 'home');
    const [seen, work] = [join(folder, 'seen'), join(folder, 'work')];
    for (const path of [home, seen, work]) mkdirSync(path);
    writeFileSync(join(home, 'key'), 'secret');
    writeFileSync(join(seen, 'input'), 'shown');
    for (const path of [folder, home, seen, work]) chmodSync(path, 0o777);
    const base = await findPython(process.env['OCDL_PYTHON']);
    const code = `
import os, socket
print("home", os.path.exists(${JSON.stringify(join(home, 'key'))}), "users", os.path.exists("/etc/passwd"), "root", os.path.exists("/root/.bashrc"))
print("input", open(${JSON.stringify(join(seen, 'input'))}).read(), "variables", sorted(os.environ))
try: socket.create_connection(("127.0.0.1", ${platform.port}), 3); print("reached the platform")
except OSError as error: print("refused", error.errno)
try: open(${JSON.stringify(join(seen, 'input'))}, "w"); print("written")
except OSError as error: print("read only", error.errno)
open("mine", "w").write("x")
print("user", os.getuid(), "others", len([p for p in os.listdir("/proc") if p.isdigit()]) > 6)
`;
    const step = (sandbox: Awaited<ReturnType<typeof detectSandbox>>) => {
      const prepared = prepareStep({
        ...{ sandbox, home, uid: 1_868_693_504, argv: [base.executable, '-I', '-c', code] },
        ...{ reads: [base.prefix, seen], writes: [work], temporary: work, memoryBytes: 2 ** 30, fileBytes: 2 ** 20 },
      });
      const log = openProgramLog({ path: join(folder, 'log') });
      return startProgram({ ...prepared, log }).ended.then(({ code: status }) => ({ status, said: log.tail() }));
    };
    const { status, said } = await step(await detectSandbox());
    expect(said).toMatch(/^home False users False root False$/m);
    expect(said).toMatch(
      /^input shown variables \['HOME', 'LANG', 'PATH', 'PWD', 'PYTHONDONTWRITEBYTECODE', 'TMPDIR'\]$/m,
    );
    expect(said).toMatch(/^refused 111$/m);
    expect(said).toMatch(/^read only 30$/m);
    expect(said).toMatch(/^user [1-9]\d* others False$/m);
    expect(status).toBe(0);
    expect(platform.asked).toEqual([]);
    // The probe is able to see: without the sandbox it does.
    expect((await step({ kind: 'none', why: 'a control' })).said).toMatch(/^home True[^]*^reached the platform$/m);
    // Mounting the platform's folder is refused.
    expect(() =>
      prepareStep({
        ...{ sandbox: { kind: 'own-user' }, home, uid: 1, argv: ['true'] },
        ...{ reads: [folder], writes: [], temporary: work, memoryBytes: 2 ** 30, fileBytes: 2 ** 20 },
      }),
    ).toThrow(/OCDL_HOME/);
  },
);

test('the configured index is read from pip itself', () => {
  const program = join(import.meta.dirname, '../../deploy/capsule/ocdl/index_settings.py');
  const conf = join(folder, 'pip.conf');
  writeFileSync(
    conf,
    '[global]\nindex-url = https://me:secret@one.example/simple\ncert = /nowhere.pem\n[download]\nindex-url = https://two.example:8443/simple\nextra-index-url =\n    http://three.example/simple\n    https://pypi.org/simple\n[list]\nindex-url = https://never.example/\n',
  );
  const settings = (given: object, env: Record<string, string> = {}): Record<string, unknown> => {
    const { stdout, stderr } = spawnSync('python3', ['-I', program], {
      input: JSON.stringify(given),
      encoding: 'utf8',
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: tmpdir(),
        PIP_CONFIG_FILE: conf,
        PIP_FIND_LINKS: `${folder} /nowhere https://four.example/l`,
        ...env,
      },
    });
    if (stdout === '') throw new Error(stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  const host = (name: string, port: number, proxy: string | null = null) => ({ host: name, port, proxy });
  expect(settings({ index: null, hosts: ['files.example', 'more.example:444'] })).toEqual({
    index: 'https://two.example:8443/simple',
    extra: ['http://three.example/simple', 'https://pypi.org/simple'],
    links: ['https://four.example/l'],
    folders: [folder],
    certificates: null,
    trusted: [],
    hosts: [
      ...[host('two.example', 8443), host('three.example', 80), host('pypi.org', 443), host('four.example', 443)],
      ...[host('files.pythonhosted.org', 443), host('files.example', 443), host('more.example', 444)],
    ],
  });
  // Only the index in the platform's own variable is used.
  expect(settings({ index: 'https://u:p@own.example/simple', hosts: [] })).toMatchObject({
    ...{ index: 'https://u:p@own.example/simple', extra: [], links: [], folders: [] },
    hosts: [host('own.example', 443)],
  });
  const behind = { HTTPS_PROXY: 'http://proxy.example:3128', NO_PROXY: 'own.example' };
  expect(settings({ index: 'https://own.example/', hosts: ['far.example'] }, behind)).toMatchObject({
    hosts: [host('own.example', 443), host('far.example', 443, 'http://proxy.example:3128')],
  });
  expect(settings({ index: null, hosts: [] }, { PIP_NO_INDEX: '1' })).toMatchObject({ index: null, extra: [] });
});
