// Records on a server that is restarted, crashes, hangs, has no free connections, or uses TLS.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import pg from 'pg';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { isFailure } from '../../activities/failures.ts';
import { createScene, linkAll } from '../contracts/records.ts';
import { at, digestOf, setProject } from '../contracts/records/scene.ts';
import { postgresServer } from '../servers.ts';
import { makeCertificates, type Certificates } from './git-certificates.ts';
import { ownPostgres, type OwnPostgres } from './postgres-server.ts';
import { scratchFolder } from './scratch-folder.ts';

/** Servers start, and start again, on a slow machine. */
const SERVER_TIMEOUT_MS = 180_000;
/** Longer than any outage in these tests. */
const LONG_PATIENCE_MS = 120_000;

let remove = async (): Promise<void> => undefined;
let right: Certificates;
let wrong: Certificates;
let server: OwnPostgres;

beforeAll(async () => {
  const scratch = await scratchFolder();
  remove = scratch.remove;
  const folder = (name: string): string => join(scratch.path, name);
  await mkdir(folder('certificates'));
  right = await makeCertificates(folder('certificates'), 'right');
  wrong = await makeCertificates(folder('certificates'), 'wrong');
  const tls = ['ssl=on', `ssl_cert_file=${right.certFile}`, `ssl_key_file=${right.keyFile}`];
  server = await ownPostgres(folder('postgres'), tls);
}, SERVER_TIMEOUT_MS);
afterAll(async () => {
  await server.end();
  await remove();
}, SERVER_TIMEOUT_MS);

/** One statement on a separate connection. */
async function ask<Row extends pg.QueryResultRow>(text: string, url = server.url): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end();
  }
}

const withMode = (mode: string, url = server.url): string => `${url}?sslmode=${mode}`;

/** Fails unless it ends with an ordinary error, which is retried, of these words. */
async function endsWith(words: RegExp, work: Promise<unknown>): Promise<Error> {
  const error = await work.then(
    () => assert.fail(`an error was expected: ${words.source}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Error && !('nonRetryable' in error), `not an ordinary error: ${String(error)}`);
  assert.match(error.message, words);
  return error;
}

describe('a PostgreSQL server', () => {
  it(
    'that restarts or crashes while in use loses no call and repeats none',
    async () => {
      const warnings: string[] = [];
      const records = await createPostgresRecords({
        url: server.url,
        poolSize: 4,
        patienceMs: LONG_PATIENCE_MS,
        onWarn: (message) => warnings.push(message),
      });
      try {
        const scene = createScene();
        const { entry } = scene;
        await setProject(records, scene);
        const before = (await records.verifyAudit()).rows;
        const numbers: number[] = [];
        let isOver = false;
        const write = async (writer: number): Promise<void> => {
          for (let n = 0; !isOver; n++) {
            const submission = `rf-${writer}-${n}`;
            const given = { type: scene.type, project: scene.project, model: 'forest', submission, version: 1 };
            const release = { ...given, digest: digestOf(submission), files: [], report: null, approvedBy: ['mia'] };
            const more = { releasedBy: 'mia', releasedAt: at(0) };
            numbers.push((await records.allotRelease(submission, { ...release, ...more })).sequence);
            await records.record([entry({ subject: submission })], []);
          }
        };
        const writing = Promise.all([0, 1, 2, 3].map(write));
        const another = async (count: number): Promise<void> => {
          const target = numbers.length + count;
          while (numbers.length < target)
            await Promise.race([new Promise((resolve) => setTimeout(resolve, 20)), writing]);
        };
        for (const signal of ['SIGINT', 'SIGKILL'] as const) {
          await another(20);
          await server.restart(signal);
        }
        await another(20);
        isOver = true;
        await writing;
        assert.deepEqual(
          [...numbers].sort((a, b) => a - b),
          numbers.map((_, index) => index + 1),
        );
        await linkAll(records);
        assert.deepEqual(await records.verifyAudit(), {
          ...{ rows: before + numbers.length, broken: null, unlinked: 0, overdue: 0 },
        });
        assert.ok(
          warnings.some((line) => line.includes('retrying the call')),
          'no call was disturbed',
        );
        const { password } = new URL(server.url);
        assert.ok(!warnings.join('\n').includes(password), 'the password was shown');
      } finally {
        await records.close();
      }
    },
    SERVER_TIMEOUT_MS,
  );

  it(
    'that hangs fails a call, and completes one with a longer timeout when it resumes',
    async () => {
      const impatient = await createPostgresRecords({ url: server.url, statementMs: 1_000, patienceMs: 1_000 });
      const patient = await createPostgresRecords({
        url: server.url,
        statementMs: 1_000,
        patienceMs: LONG_PATIENCE_MS,
      });
      try {
        const { project, entry } = createScene();
        const [lost, kept] = [entry(), entry()];
        await server.pause();
        const waiting = patient.record([kept], []);
        await endsWith(/does not answer|cannot be reached/, impatient.record([lost], []));
        await server.resume();
        await waiting;
        await impatient.record([lost], []);
        const keys = (await patient.audit({ project })).rows.map((row) => row.entry.key);
        assert.deepEqual(keys.sort(), [lost.key, kept.key].sort());
      } finally {
        await server.resume();
        await impatient.close();
        await patient.close();
      }
    },
    SERVER_TIMEOUT_MS,
  );

  it('without free connections is reported and waited for', async () => {
    await ask(`create role limited login password 'limited' connection limit 1`);
    await ask(`create database limited owner limited`);
    const url = new URL(server.url);
    [url.username, url.password, url.pathname] = ['limited', 'limited', '/limited'];
    const first = await createPostgresRecords({ url: url.href, poolSize: 1 });
    const second = createPostgresRecords({ url: url.href, poolSize: 1, patienceMs: 200 });
    await endsWith(/no free connections.*max_connections.*too many connections/, second);
    const third = createPostgresRecords({ url: url.href, poolSize: 1, patienceMs: LONG_PATIENCE_MS });
    await first.close();
    await (await third).close();
  });

  it('that refuses the password is reported immediately, without showing the password', async () => {
    const url = new URL(server.url);
    url.password = 'not-the-password';
    const warnings: string[] = [];
    const opening = createPostgresRecords({ url: url.href, onWarn: (message) => warnings.push(message) });
    const error = await endsWith(/refuses the user or the password.*"ocdl".*28P01/, opening);
    assert.ok(!inspect(error, { depth: null, showHidden: true }).includes(url.password));
    assert.deepEqual(warnings, []);
  });

  it('with a malformed URL is refused without showing the URL', async () => {
    for (const url of ['secret', 'http://u:secret@host/db', 'postgresql://u:secret@host:port/db']) {
      const error: unknown = await createPostgresRecords({ url }).catch((reason: unknown) => reason);
      assert.ok(isFailure(error, 'InvalidInput'), String(error));
      assert.ok(!inspect(error, { depth: null, showHidden: true }).includes('secret'));
    }
  });
});

describe('TLS to PostgreSQL', () => {
  it.each(['verify-full', 'verify-ca', 'require', undefined])(
    'with sslmode %s and its CA verifies the server',
    async (mode) => {
      const url = mode === undefined ? server.url : withMode(mode);
      const records = await createPostgresRecords({ url, ca: right.ca, poolSize: 1 });
      try {
        await records.users();
        const sessions = await ask<{ ssl: boolean }>(
          `select ssl from pg_stat_ssl join pg_stat_activity using (pid)
           where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
        );
        assert.deepEqual(sessions, [{ ssl: true }]);
        await ask(`select pg_terminate_backend(pid) from pg_stat_ssl where ssl and pid <> pg_backend_pid()`);
        await records.users();
        await assert.rejects(createPostgresRecords({ url, ca: wrong.ca }), /not signed by a trusted CA/);
      } finally {
        await records.close();
      }
    },
  );

  it('is refused if the certificate cannot be verified', async () => {
    await endsWith(/not signed by a trusted CA/, createPostgresRecords({ url: withMode('require') }));
    const elsewhere = withMode('verify-full', server.url.replace('127.0.0.1', 'localhost'));
    await endsWith(/for another host/, createPostgresRecords({ url: elsewhere, ca: right.ca }));
    await endsWith(/not signed by a trusted CA/, createPostgresRecords({ url: server.url, ca: 'no certificate' }));
  });

  it('is never silently dropped if it was requested', async () => {
    const { url } = await postgresServer();
    await endsWith(/does not support TLS/, createPostgresRecords({ url: withMode('require', url) }));
    await endsWith(/does not support TLS/, createPostgresRecords({ url, ca: right.ca }));
  });

  it.each(['prefer', 'allow', 'no-verify', 'disable&uselibpqcompat=true', 'verify-full&sslrootcert=/x', 'anything'])(
    'refuses sslmode=%s',
    async (mode) => {
      const error: unknown = await createPostgresRecords({ url: withMode(mode) }).catch((reason: unknown) => reason);
      assert.ok(isFailure(error, 'InvalidInput'), String(error));
    },
  );

  it('is recommended for a server on another machine', async () => {
    const warnings: string[] = [];
    const url = 'postgresql://u:secret@db.invalid/ocdl';
    const options = { url, patienceMs: 0, onWarn: (message: string) => void warnings.push(message) };
    await endsWith(/db\.invalid:5432\/ocdl: it cannot be reached/, createPostgresRecords(options));
    assert.match(warnings[0] ?? '', /db\.invalid.*not encrypted.*verify-full/);
    assert.ok(!warnings.join('\n').includes('secret'));
  });
});
