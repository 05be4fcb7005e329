// Systems behind TLS with a private CA: `ocdl doctor` reaches them with variables only, and reports untrusted ones.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../deploy/local/run-program.ts';
import { makeCertificates, type Certificates } from '../adapters/git-certificates.ts';
import { freshBucket, type Bucket } from '../adapters/s3-bucket.ts';
import { describeWith, hdfsServer, s3Server, temporalServer } from '../servers.ts';

const ocdl = fileURLToPath(new URL('../../api/cli/ocdl.js', import.meta.url));

describeWith(['hdfs', 's3'], 'systems behind TLS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-certificates-'));
  const fronts: Server[] = [];
  let own: Certificates;
  let bucket: Bucket;
  let env: Record<string, string>;

  /** A TLS proxy for a plain server; returns its HOST:PORT. `mutual`: requires a client certificate of the same CA. */
  async function front(target: string, mutual = false): Promise<string> {
    const [host = '', port = ''] = target.split(':');
    const server = createServer(
      {
        ca: own.ca,
        cert: readFileSync(own.certFile),
        key: readFileSync(own.keyFile),
        ALPNProtocols: ['h2', 'http/1.1'],
        requestCert: mutual,
        rejectUnauthorized: mutual,
      },
      (outside) => {
        const inside = connect(Number(port), host);
        outside.pipe(inside).pipe(outside);
        outside.on('error', () => inside.destroy());
        inside.on('error', () => outside.destroy());
      },
    );
    fronts.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  beforeAll(async () => {
    own = await makeCertificates(folder, 'own');
    const [hdfs, temporal, s3] = await Promise.all([hdfsServer(), temporalServer(), s3Server()]);
    bucket = await freshBucket(s3);
    env = {
      OCDL_HOME: join(folder, 'home'),
      TEMPORAL_ADDRESS: await front(temporal.address, true),
      TEMPORAL_TLS_CA_FILE: own.caFile,
      TEMPORAL_TLS_CERT_FILE: own.certFile,
      TEMPORAL_TLS_KEY_FILE: own.keyFile,
      OCDL_HDFS_URL: `https://${await front(new URL(hdfs.url).host)}`,
      OCDL_HDFS_ROOT: '/behind-tls',
      OCDL_S3_ENDPOINT: `https://${await front(new URL(s3.endpoint).host)}`,
      OCDL_S3_BUCKET: bucket.bucket,
      OCDL_S3_REGION: s3.region,
      OCDL_S3_ACCESS_KEY_ID: s3.accessKeyId,
      OCDL_S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
      NODE_EXTRA_CA_CERTS: own.caFile,
    };
  });

  afterAll(async () => {
    await bucket.close();
    for (const server of fronts) server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function doctor(changed: Record<string, string>): Promise<string> {
    const given = { ...process.env, ...env, ...changed };
    return (await runProgram(process.execPath, [ocdl, 'doctor'], { env: given, timeoutMs: 120_000 })).output;
  }

  it('are reached', async () => {
    const output = await doctor({});
    for (const name of ['Temporal', 'HDFS', 'S3'])
      expect(output).toMatch(new RegExp(`^ok +${name} .*127\\.0\\.0\\.1`, 'm'));
  });

  it('are distinguished from those of another CA, and a missing certificate from a valid one', async () => {
    const other = await makeCertificates(folder, 'other');
    const output = await doctor({
      NODE_EXTRA_CA_CERTS: other.caFile,
      TEMPORAL_TLS_CERT_FILE: '',
      TEMPORAL_TLS_KEY_FILE: '',
    });
    for (const name of ['Temporal', 'HDFS', 'S3']) expect(output).toMatch(new RegExp(`^(?!ok)\\w+ +${name} `, 'm'));
    expect(output).toMatch(/HDFS .*certificate/);
    expect(output).toMatch(/S3 .*certificate/);
  });
});
