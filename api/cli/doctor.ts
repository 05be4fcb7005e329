// `ocdl doctor`: checks this machine and every configured system, and says how to fix problems.
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { ownerOf } from '../../deploy/local/home-lock.ts';
import { isFree } from '../../deploy/local/ports.ts';
import { embeddedPostgresVersion, runningPostgres } from '../../deploy/local/postgres.ts';
import { findPython } from '../../activities/adapters/local-process/python.ts';
import { messageOf } from '../../deploy/local/readable-lines.ts';
import { runProgram } from '../../deploy/local/run-program.ts';
import { readSettings, type Settings } from '../../deploy/local/settings.ts';
import { findOnPath, findTemporal } from '../../deploy/local/temporal-binary.ts';
import { atLeast } from '../../workers/server-version.ts';
import { parseFlags } from './flags.ts';

type Check = {
  readonly name: string;
  /** What was found; undefined if the check failed. */
  readonly found: string | undefined;
  /** How to install it, or why it is not usable. */
  readonly advice: string;
  /** The status shown if the check failed. */
  readonly otherwise: 'missing' | 'without' | 'wrong' | 'warning';
};

/** A first start writes under 1 GB (Temporal 0.2, PostgreSQL 0.05, a Python environment 0.6); models need the rest. */
const leastFreeBytes = 2 * 1024 ** 3;

/** Prints one line per check and per system; returns 1 if something is missing or wrong. */
export async function doctor(argv: readonly string[]): Promise<number> {
  if (parseFlags(argv, 'doctor', {}) === undefined) return 0;
  const settings = readSettings();
  const port = (name: string, variable: string, explicit: number | undefined, preferred: number, host: string) =>
    checkPort({ name, variable, explicit, preferred, host }, settings);
  const [checks, systems] = await Promise.all([
    Promise.all([
      checkNode(),
      checkGit(settings),
      checkPython(settings),
      settings.temporalAddress === undefined && checkTemporal(settings),
      settings.databaseUrl === undefined && checkDatabase(),
      checkDisk(settings),
      checkHome(settings),
      port('API port', 'OCDL_API_PORT', settings.apiPort, 8470, settings.apiHost),
      settings.temporalAddress === undefined && port('Web UI port', 'OCDL_UI_PORT', settings.uiPort, 8233, '127.0.0.1'),
      settings.temporalAddress === undefined &&
        port('Temporal port', 'OCDL_TEMPORAL_PORT', settings.temporalPort, 7233, '127.0.0.1'),
    ]),
    checkSystems(settings),
  ]);
  const all = [...checks.filter((check) => check !== false), ...systems];
  for (const { name, found, advice, otherwise } of all)
    console.log(`${(found === undefined ? otherwise : 'ok').padEnd(8)} ${name.padEnd(14)} ${found ?? advice}`);
  const named = (what: Check['otherwise']): string =>
    all
      .filter(({ found, otherwise }) => found === undefined && otherwise === what)
      .map(({ name }) => name)
      .join(', ');
  const [missing, wrong] = [named('missing'), named('wrong')];
  if (missing !== '') console.log(`\nMissing: ${missing}.`);
  if (wrong !== '') console.log(`\nWrong: ${wrong}.`);
  if (missing + wrong === '') console.log('\nThe platform can start here.');
  return missing + wrong === '' ? 0 : 1;
}

/** The embedded replacement of each system that is not configured. */
const embedded: Readonly<Record<string, string>> = {
  HDFS: 'areas on local disk',
  Alluxio: 'no cache',
  S3: 'releases on local disk',
  Kafka: 'a log on disk',
  'Git remote': 'repositories on disk',
};
const statesSchema = z.array(
  z.object({
    name: z.string(),
    found: z.string().optional(),
    warning: z.string().optional(),
    wrong: z.string().optional(),
    without: z.string().optional(),
  }),
);
/** Start of the program plus its limit for each system. */
const SYSTEMS_WITHIN_MS = 60_000;
const systemsProgram = fileURLToPath(new URL('../../workers/doctor.ts', import.meta.url));

/** Runs the workers' check of the systems, so that they are reached in the same way as by the platform. */
async function checkSystems({ env: given, databaseUrl, home }: Settings): Promise<readonly Check[]> {
  // For a running embedded database only its contents are checked here; `checkDatabase` checks its program.
  const env = { ...given, DATABASE_URL: databaseUrl ?? runningPostgres(join(home, 'postgres')) };
  const args = ['--import', import.meta.resolve('tsx'), systemsProgram];
  const { code, output } = await runProgram(process.execPath, args, { env, timeoutMs: SYSTEMS_WITHIN_MS });
  const line = output.split('\n').find((one) => one.startsWith('['));
  if (code !== 0 || line === undefined)
    return [{ name: 'Systems', found: undefined, advice: `could not be checked: ${output}`, otherwise: 'wrong' }];
  const states = statesSchema
    .parse(JSON.parse(line))
    .filter(({ name, wrong }) => name !== 'PostgreSQL' || databaseUrl !== undefined || wrong !== undefined);
  const absent = Object.entries(embedded).filter(([name]) => !states.some((state) => state.name === name));
  return [
    ...states.map(({ name, found, warning, wrong, without }): Check => ({
      name,
      found: warning === undefined ? found : undefined,
      advice: warning === undefined ? (wrong ?? without ?? '') : `${found}: ${warning}`,
      otherwise: warning !== undefined ? 'warning' : without === undefined ? 'wrong' : 'without',
    })),
    ...absent.map(([name, instead]): Check => ({
      name,
      found: `embedded: ${instead}`,
      advice: '',
      otherwise: 'wrong',
    })),
  ];
}

async function checkNode(): Promise<Check> {
  // ocdl.js refuses older versions.
  return { name: 'Node', found: process.versions.node, advice: 'Node 20.19 or newer', otherwise: 'missing' };
}

/** First version with `core.fsync`, which the platform uses. */
const oldestGit = [2, 36] as const;

async function checkGit({ env }: Settings): Promise<Check> {
  const git = findOnPath('git', env.PATH);
  const end = git === undefined ? undefined : await runProgram(git, ['--version'], { env });
  const said = end?.code === 0 ? end.output.replace(/^git version /, '') : undefined;
  const [major = 0, minor = 0] = (said ?? '').split('.').map(Number);
  const isOld = said !== undefined && !atLeast([major, minor], oldestGit);
  const get = 'Debian, Ubuntu: apt-get install git; macOS: xcode-select --install or brew install git';
  return {
    name: 'Git',
    found: isOld ? undefined : said,
    advice: isOld ? `${git} is ${said}; ${oldestGit.join('.')} or newer is needed. ${get}` : get,
    otherwise: 'missing',
  };
}

async function checkPython({ python }: Settings): Promise<Check> {
  const check = { name: 'Python', otherwise: 'missing' } as const;
  try {
    const { version, executable } = await findPython(python);
    return { ...check, found: `${version} (${executable})`, advice: '' };
  } catch (error) {
    return { ...check, found: undefined, advice: messageOf(error).replace(/\s*\n\s*/g, ' ') };
  }
}

async function checkTemporal({ cache, env }: Settings): Promise<Check> {
  const check = { name: 'Temporal', otherwise: 'missing' } as const;
  try {
    // `start` builds the server; here it is enough that Go is available.
    return {
      ...check,
      found: `embedded: ${await findTemporal({ cache, env, onProgress: () => undefined, build: false })}`,
      advice: '',
    };
  } catch (error) {
    return { ...check, found: undefined, advice: messageOf(error) };
  }
}

async function checkDatabase(): Promise<Check> {
  const check = { name: 'PostgreSQL', otherwise: 'missing' } as const;
  try {
    return { ...check, found: `embedded: ${await embeddedPostgresVersion()}`, advice: '' };
  } catch (error) {
    return { ...check, found: undefined, advice: messageOf(error) };
  }
}

async function checkDisk({ home }: Settings): Promise<Check> {
  const { bavail, bsize } = await statfs(nearestFolder(home));
  const free = bavail * bsize;
  const said = `${(free / 1024 ** 3).toFixed(1)} GB free at ${home}`;
  const advice = `${said}, but at least 2 GB are required: free some space, or set OCDL_HOME to another folder`;
  return { name: 'Disk', found: free >= leastFreeBytes ? said : undefined, advice, otherwise: 'missing' };
}

async function checkHome({ home }: Settings): Promise<Check> {
  const advice = `${home} is not writable: change its permissions, or set OCDL_HOME to another folder`;
  try {
    accessSync(nearestFolder(home), constants.W_OK | constants.X_OK);
    return { name: 'Home', found: home, advice, otherwise: 'missing' };
  } catch {
    return { name: 'Home', found: undefined, advice, otherwise: 'missing' };
  }
}

type PortCheck = {
  readonly name: string;
  readonly variable: string;
  readonly explicit: number | undefined;
  readonly preferred: number;
  readonly host: string;
};

async function checkPort({ name, variable, explicit, preferred, host }: PortCheck, { home }: Settings): Promise<Check> {
  const port = explicit ?? preferred;
  if (await isFree(port, host)) return { name, found: `${port} is free`, advice: '', otherwise: 'missing' };
  const owner = ownerOf(home);
  if (owner !== undefined) {
    return {
      name,
      found: `${port} is in use by the platform that is running on this home (process ${owner.pid})`,
      advice: '',
      otherwise: 'missing',
    };
  }
  if (explicit === undefined) {
    return {
      name,
      found: `${port} is in use: the next free port will be used (${variable})`,
      advice: '',
      otherwise: 'missing',
    };
  }
  const advice = `${port} is in use: stop the program that listens there, or set ${variable} to another port`;
  return { name, found: undefined, advice, otherwise: 'missing' };
}

function nearestFolder(path: string): string {
  return existsSync(path) && statSync(path).isDirectory() ? path : nearestFolder(dirname(path));
}
