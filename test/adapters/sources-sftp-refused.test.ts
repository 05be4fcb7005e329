// A private node that accepts a login but does not speak SFTP: every attempt closes its connection.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { createSources } from '../../activities/adapters/sources/sources.ts';

const { Server, utils } = ssh2;

it('leaves no open connection, and no listener on the signal', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ocdl-sftp-refused-'));
  const [host, user] = [utils.generateKeyPairSync('ed25519'), utils.generateKeyPairSync('ed25519')];
  const lines = { opened: 0, open: 0 };
  const server = new Server({ hostKeys: [host.private] }, (client) => {
    lines.opened += 1;
    lines.open += 1;
    client.on('close', () => (lines.open -= 1));
    client.on('error', () => undefined);
    client.on('authentication', (context) => context.accept());
    client.on('session', (accept) => accept().on('sftp', (_, reject) => reject()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await mkdir(join(folder, 'p'));
  await writeFile(join(folder, 'p/lab'), user.private);
  const blob = Buffer.from(host.public.split(' ')[1] ?? '', 'base64');
  const hostKey = `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
  const sources = createSources({
    guard: {},
    github: { apiUrl: 'https://api.github.test', downloadHosts: [] },
    maven: { url: 'https://maven.test' },
    https: { hosts: [] },
    sftp: { hosts: [`127.0.0.1:${port}`], secrets: folder, entries: 10 },
  });
  const { signal } = new AbortController();
  const heard = { listeners: 0 };
  const [add, remove] = [signal.addEventListener.bind(signal), signal.removeEventListener.bind(signal)];
  signal.addEventListener = (...given: Parameters<typeof add>) => {
    heard.listeners += 1;
    add(...given);
  };
  signal.removeEventListener = (...given: Parameters<typeof remove>) => {
    heard.listeners -= 1;
    remove(...given);
  };
  try {
    for (const _ of [1, 2, 3]) {
      const node = { project: 'p', node: 'lab', host: '127.0.0.1', port, user: 'reader', hostKey, secret: 'lab' };
      const nodes = [{ ...node, kind: 'sftp' as const }];
      const session = sources.connect({ kind: 'sftp', node: 'lab', path: '/data' }, { project: 'p', nodes, signal });
      await expect(session).rejects.toThrow(/node lab: 127\.0\.0\.1:\d+ does not speak SFTP/);
    }
    for (const until = Date.now() + 10_000; lines.open > 0 && Date.now() < until;)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect({ ...lines, ...heard }).toEqual({ opened: 3, open: 0, listeners: 0 });
  } finally {
    server.close();
    await rm(folder, { recursive: true, force: true });
  }
}, 60_000);
