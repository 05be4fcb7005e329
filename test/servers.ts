// Real servers for tests: one Temporal and one PostgreSQL for a whole test run, started when first asked for.
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { z } from 'zod';
import type { ChildSpec } from '../deploy/local/child.ts';
import { anyFreePort } from '../deploy/local/ports.ts';
import { preparePostgres } from '../deploy/local/postgres.ts';
import { identify, isAlive, processRecordSchema } from '../deploy/local/process-identity.ts';
import { writeRunRecord } from '../deploy/local/run-records.ts';
import { findTemporal } from '../deploy/local/temporal-binary.ts';
import { temporalSpec } from '../deploy/local/temporal.ts';
import { endRunsOfDeadOwners, runFolder, runOwner } from './servers-stop.ts';

const addressSchema = z.object({ address: z.string() });

/** Returns the test run's Temporal server (namespace `default`, the workflows' search attributes registered). */
export async function temporalServer(): Promise<{ readonly address: string }> {
  const address = await startedOnce('temporal', async (folder) => {
    const cache = process.env.OCDL_CACHE ?? join(homedir(), '.cache', 'ocdl');
    const binary = await findTemporal({
      cache,
      env: process.env,
      onProgress: (line) => process.stderr.write(`${line}\n`),
    });
    const [port, uiPort] = [await anyFreePort('127.0.0.1'), await anyFreePort('127.0.0.1')];
    const spec = temporalSpec({ binary, folder, port, uiPort, namespace: 'default' });
    return { spec, address: `127.0.0.1:${port}` };
  });
  return { address };
}

/** Returns the test run's PostgreSQL server, as the URL of its first database. */
export async function postgresServer(): Promise<{ readonly url: string }> {
  const url = await startedOnce('postgres', async (folder) => {
    // A test's database need not outlive a power cut.
    const postgres = await preparePostgres({ folder, settings: ['fsync=off', 'synchronous_commit=off'] });
    return { spec: postgres.spec, address: postgres.url };
  });
  return { url };
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

type Startable = { readonly spec: ChildSpec; readonly address: string };

/** The first caller of any jest worker starts the server, the others wait for the address it writes. */
async function startedOnce(name: string, prepare: (folder: string) => Promise<Startable>): Promise<string> {
  const run = runFolder();
  mkdirSync(run, { recursive: true, mode: 0o700 });
  const addressFile = join(run, `${name}.address`);
  const lockFile = join(run, `${name}.starting`);
  // Longer than a Temporal build from nothing takes on a slow machine.
  const until = Date.now() + 600_000;
  while (Date.now() < until) {
    if (existsSync(addressFile)) return addressSchema.parse(JSON.parse(readFileSync(addressFile, 'utf8'))).address;
    if (madeLock(lockFile)) {
      try {
        await endRunsOfDeadOwners();
        const { spec, address } = await prepare(join(run, name));
        await launch(spec, run);
        writeFileSync(`${addressFile}.new`, JSON.stringify({ address }));
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
  const until = Date.now() + 60_000;
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
  } catch {
    return false;
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
