// The doctor's check of a reachable Temporal server: whether it answers clients without TLS or credentials.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { answersWithout, isLoopback } from '../../workers/doctor.ts';
import { makeCertificates, type Certificates } from '../adapters/git-certificates.ts';
import { temporalServer } from '../servers.ts';

const folder = mkdtempSync(join(tmpdir(), 'ocdl-openness-'));
const fronts: Server[] = [];
let own: Certificates;
let address: string;

beforeAll(async () => {
  own = await makeCertificates(folder, 'own');
  ({ address } = await temporalServer());
}, 600_000);

afterAll(() => {
  for (const server of fronts) server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A TLS proxy for the server; `mutual`: requires a client certificate of the same CA. */
async function front(mutual: boolean): Promise<string> {
  const keys = { ca: own.ca, cert: readFileSync(own.certFile), key: readFileSync(own.keyFile) };
  const asks = { requestCert: mutual, rejectUnauthorized: mutual };
  const server = createServer({ ...keys, ...asks, ALPNProtocols: ['h2'] }, (outside) => {
    const inside = connect(Number(address.split(':')[1]), '127.0.0.1');
    outside.pipe(inside).pipe(outside);
    outside.on('error', () => inside.destroy());
    inside.on('error', () => outside.destroy());
  });
  fronts.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const asked = (at: string, tls: boolean): ReturnType<typeof answersWithout> => {
  const pair = { crt: readFileSync(own.certFile), key: readFileSync(own.keyFile) };
  const given = tls && { tls: { serverRootCACertificate: readFileSync(own.caFile), clientCertPair: pair } };
  return answersWithout({ address: at, namespace: 'default', connection: { address: at, ...given } }, 5_000);
};

test('a server without TLS', async () => {
  expect(await asked(address, false)).toBe('without TLS');
});

test('a server with TLS that requires no credentials, even if the platform sends them', async () => {
  expect(await asked(await front(false), true)).toBe('without credentials');
});

test('a server that requires a client certificate', async () => {
  expect(await asked(await front(true), true)).toBeUndefined();
});

test.each([
  ['127.0.0.1:7233', true],
  ['127.8.8.8:7233', true],
  ['[::1]:7233', true],
  ['localhost:7233', true],
  ['192.0.2.1:7233', false],
  ['[2001:db8::1]:7233', false],
  ['temporal.invalid:7233', false],
])('%s is a loopback address: %s', async (given, expected) => {
  expect(await isLoopback(given)).toBe(expected);
});
