// Certificates for tests of TLS, made by openssl: an authority, and a server's certificate for 127.0.0.1 signed by it.
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface Certificates {
  /** PEM of the authority. */
  readonly ca: string;
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

/** Makes them in the folder; `name` begins the files' names. */
export async function makeCertificates(folder: string, name: string): Promise<Certificates> {
  const file = (end: string): string => join(folder, `${name}-${end}`);
  const openssl = async (...args: string[]): Promise<unknown> => promisify(execFile)('openssl', args);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  // A day: longer than any run of the tests.
  const authority = ['-x509', '-days', '1', '-subj', `/CN=Authority ${name}`];
  await openssl('req', ...key, ...authority, '-keyout', file('ca.key'), '-out', file('ca.pem'));
  await openssl('req', ...key, '-subj', '/CN=127.0.0.1', '-keyout', file('server.key'), '-out', file('server.csr'));
  await writeFile(file('names'), 'subjectAltName = IP:127.0.0.1\n');
  const signed = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('names')];
  await openssl('x509', '-req', '-days', '1', '-in', file('server.csr'), ...signed, '-out', file('server.pem'));
  const ca = await readFile(file('ca.pem'), 'utf8');
  return { ca, caFile: file('ca.pem'), certFile: file('server.pem'), keyFile: file('server.key') };
}
