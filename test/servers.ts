// Real servers for tests: one of each kind for a whole test run, started when first asked for.
import { randomInt, randomUUID } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { z } from 'zod';
import type { ChildSpec } from '../deploy/local/child.ts';
import { isFree } from '../deploy/local/ports.ts';
import { preparePostgres } from '../deploy/local/postgres.ts';
import { endProcess, identify, isAlive, processRecordSchema } from '../deploy/local/process-identity.ts';
import { readRunRecords, writeRunRecord } from '../deploy/local/run-records.ts';
import { findTemporal } from '../deploy/local/temporal-binary.ts';
import { temporalSpec } from '../deploy/local/temporal.ts';
import { alluxio } from '../deploy/stack/alluxio.ts';
import { hdfs } from '../deploy/stack/hdfs.ts';
import { kafka } from '../deploy/stack/kafka.ts';
import { fetchJava, fetchS3, missingFor, type FetchOptions, type StackServer } from '../deploy/stack/programs.ts';
import { s3 } from '../deploy/stack/s3.ts';
import { endRunsOfDeadOwners, runFolder, runOwner } from './servers-stop.ts';

/** How tests fetch the programs of servers: kept in the same cache as a person's own. */
export const programs: FetchOptions = {
  cache: process.env.OCDL_CACHE ?? join(homedir(), '.cache', 'ocdl'),
  env: process.env,
  onProgress: (line) => void process.stderr.write(`${line}\n`),
};

/**
 * A suite that needs real systems. With CI=true it runs in any case, and fails where one cannot be had; elsewhere it is
 * skipped without Java, Maven or Go, with a notice.
 */
export function describeWith(systems: readonly StackServer[], name: string, suite: () => void): void {
  const missing = [...new Set(systems.flatMap((system) => missingFor(system, programs) ?? []))];
  if (missing.length === 0 || process.env.CI === 'true') {
    describe(name, suite);
    return;
  }
  process.stderr.write(`SKIPPED: ${name} needs ${systems.join(', ')}; not installed: ${missing.join(', ')}.\n`);
  describe.skip(`${name} (skipped: no ${missing.join(', ')})`, suite);
}

/** Returns the test run's Temporal server (namespace `default`, the workflows' search attributes registered). */
export function temporalServer(): Promise<{ readonly address: string }> {
  return startedOnce('temporal', z.object({ address: z.string() }), async (folder) => {
    const binary = await findTemporal(programs);
    const [port, uiPort] = [await freePort(), await freePort()];
    const spec = temporalSpec({ binary, folder, port, uiPort, namespace: 'default' });
    return { specs: [spec], address: { address: `127.0.0.1:${port}` } };
  });
}

/** Returns the test run's PostgreSQL server, as the URL of its first database. */
export function postgresServer(): Promise<{ readonly url: string }> {
  return startedOnce('postgres', z.object({ url: z.string() }), async (folder) => {
    // A test's database need not outlive a power cut.
    const { spec, url } = await preparePostgres({ folder, settings: ['fsync=off', 'synchronous_commit=off'] });
    return { specs: [spec], address: { url } };
  });
}

/** Returns the test run's Kafka. */
export function kafkaServer(): Promise<{ readonly brokers: string }> {
  return startedOnce('kafka', z.object({ brokers: z.string() }), async (folder) => {
    const program = await fetchJava('kafka', programs);
    const { spec, brokers } = kafka({ program, folder, port: await freePort(), controllerPort: await freePort() });
    return { specs: [spec], address: { brokers } };
  });
}

const hdfsSchema = z.object({ url: z.string(), rpc: z.string(), conf: z.string() });

/** Returns the test run's HDFS: the superuser is `hdfs`, the platform's user `ocdl`; alice and bob are of group `staff`. */
export function hdfsServer(): Promise<z.infer<typeof hdfsSchema>> {
  return startedOnce('hdfs', hdfsSchema, async (folder) => {
    const program = await fetchJava('hdfs', programs);
    const users = { alice: ['alice', 'staff'], bob: ['bob', 'staff'], carol: ['carol'] };
    const ports = {
      rpc: await freePort(),
      http: await freePort(),
      data: await freePort(),
      dataHttp: await freePort(),
      dataIpc: await freePort(),
    };
    const { nameNode, dataNode, url, rpc, conf } = hdfs({ program, folder, ports, users });
    return { specs: [nameNode, dataNode], address: { url, rpc, conf } };
  });
}

const alluxioSchema = z.object({ url: z.string(), ports: z.record(z.string(), z.number()) });

/** Returns the proxy of the test run's Alluxio, which lies over `hdfsServer()`, and the ports of all its parts. */
export function alluxioServer(): Promise<z.infer<typeof alluxioSchema>> {
  return startedOnce('alluxio', alluxioSchema, async (folder) => {
    const program = await fetchJava('alluxio', programs);
    const ports = {
      master: await freePort(),
      masterWeb: await freePort(),
      worker: await freePort(),
      workerWeb: await freePort(),
      proxy: await freePort(),
    };
    const { master, worker, proxy, url } = alluxio({ program, folder, ports, hdfs: await hdfsServer() });
    return { specs: [master, worker, proxy], address: { url, ports } };
  });
}

const s3Schema = z.object({
  endpoint: z.string(),
  region: z.string(),
  accessKeyId: z.string(),
  secretAccessKey: z.string(),
});

/** Returns the test run's S3 server, with the keys of its owner. It has no bucket yet. */
export function s3Server(): Promise<z.infer<typeof s3Schema>> {
  return startedOnce('s3', s3Schema, async (folder) => {
    const { spec, ...address } = s3({ binary: await fetchS3(programs), folder, port: await freePort() });
    return { specs: [spec], address };
  });
}

/** Makes a new, empty database on the test run's PostgreSQL and returns its URL. */
export async function freshDatabase(): Promise<string> {
  const { url } = await postgresServer();
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(`create database ${name}`);
  } finally {
    await client.end();
  }
  const fresh = new URL(url);
  fresh.pathname = `/${name}`;
  return fresh.href;
}

/**
 * Returns a port nobody listens on, below those that the operating system gives out by itself (from 32768 on): a slow
 * server that is told it now still finds it free half a minute later.
 */
export async function freePort(): Promise<number> {
  const port = randomInt(10_240, 32_768);
  return (await isFree(port, '127.0.0.1')) ? port : await freePort();
}

type Startable<Address> = { readonly specs: readonly ChildSpec[]; readonly address: Address };

/** The first caller of any jest worker starts the server, the others wait for the address it writes. */
async function startedOnce<Address>(
  name: string,
  schema: z.ZodType<Address>,
  prepare: (folder: string) => Promise<Startable<Address>>,
): Promise<Address> {
  const run = runFolder();
  mkdirSync(run, { recursive: true, mode: 0o700 });
  const addressFile = join(run, `${name}.address`);
  const lockFile = join(run, `${name}.starting`);
  // Longer than a build with Go from nothing takes on a slow machine.
  const until = Date.now() + 600_000;
  while (Date.now() < until) {
    if (existsSync(addressFile)) return schema.parse(JSON.parse(readFileSync(addressFile, 'utf8')));
    if (madeLock(lockFile)) {
      try {
        // Started between the look above and the lock.
        if (existsSync(addressFile)) continue;
        await endRunsOfDeadOwners();
        const { specs, address } = await prepare(join(run, name));
        await launchAll(specs, run);
        writeFileSync(`${addressFile}.new`, JSON.stringify(address));
        renameSync(`${addressFile}.new`, addressFile);
        return address;
      } finally {
        rmSync(lockFile, { force: true });
      }
    }
    clearLockOfDeadWorker(lockFile);
    await sleep(50);
  }
  throw new Error(`The test server ${name} was still being started after 10 minutes: see ${run}.`);
}

/** Starts the processes of one server side by side; when one does not come up, none is left. */
async function launchAll(specs: readonly ChildSpec[], run: string): Promise<void> {
  const launches = await Promise.allSettled(specs.map((spec) => launch(spec, run)));
  const failed = launches.find((launched) => launched.status === 'rejected');
  if (failed === undefined) return;
  const names = new Set(specs.map((spec) => spec.name));
  const records = readRunRecords(join(run, 'run')).filter((record) => names.has(record.name));
  await Promise.all(records.map((record) => endProcess(record.child, record.stopSignal, 5_000)));
  throw failed.reason;
}

async function launch(spec: ChildSpec, run: string): Promise<void> {
  await spec.before?.();
  const logFile = join(run, `${spec.name}.log`);
  const log = openSync(logFile, 'a');
  // Detached and unreferenced: it serves the other jest workers when this one has ended.
  const child = spawn(spec.command, [...spec.args], {
    env: { ...spec.env },
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const failure: { error?: Error } = {};
  child.once('error', (error) => (failure.error = error));
  child.unref();
  const record = child.pid === undefined ? undefined : identify(child.pid);
  if (record !== undefined) {
    const { name, stopSignal } = spec;
    writeRunRecord(join(run, 'run'), { name, child: record, supervisor: runOwner(), stopSignal });
  }
  // Ten times what the slowest, Alluxio, takes on a quiet machine.
  const until = Date.now() + 180_000;
  while (record !== undefined && failure.error === undefined && isAlive(record) && Date.now() < until) {
    if (await spec.isReady?.(record.pid).catch(() => false)) return;
    await sleep(50);
  }
  const said = existsSync(logFile) ? readFileSync(logFile, 'utf8').slice(-2_000) : '';
  throw new Error(`The test server ${spec.name} did not come up (${failure.error?.message ?? 'see its log'}): ${said}`);
}

function madeLock(path: string): boolean {
  try {
    writeFileSync(path, JSON.stringify(identify(process.pid)), { flag: 'wx' });
    return true;
  } catch (error) {
    // Not by its class: in a test's own realm Node's errors are none of that realm.
    if (typeof error === 'object' && error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

function clearLockOfDeadWorker(path: string): void {
  try {
    const starter = processRecordSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
    if (!isAlive(starter)) rmSync(path, { force: true });
  } catch {
    // Being written just now, or gone: the next round sees.
  }
}
