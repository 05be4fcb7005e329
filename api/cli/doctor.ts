// `ocdl doctor`: checks what the embedded platform needs of this machine, and says how to get what is missing.
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ownerOf } from '../../deploy/local/home-lock.ts';
import { isFree } from '../../deploy/local/ports.ts';
import { checkPostgres } from '../../deploy/local/postgres.ts';
import { runProgram } from '../../deploy/local/run-program.ts';
import { checkSandbox } from '../../deploy/local/sandbox.ts';
import { readSettings, type Settings } from '../../deploy/local/settings.ts';
import { findOnPath, findTemporal } from '../../deploy/local/temporal-binary.ts';
import { parseFlags } from './flags.ts';

type Check = {
  readonly name: string;
  /** What was found; undefined where it is missing. */
  readonly found: string | undefined;
  /** How to get it, or why it does not do. */
  readonly advice: string;
  readonly required: boolean;
};

/** A first start writes under 1 GB (Temporal 0.2, PostgreSQL 0.05, a Python environment 0.6); models need the rest. */
const leastFreeBytes = 2 * 1024 ** 3;

/** Prints one line per check; returns 1 when something required is missing. */
export async function doctor(argv: readonly string[]): Promise<number> {
  if (parseFlags(argv, 'doctor', {}) === undefined) return 0;
  const settings = readSettings();
  const checks = await Promise.all([
    checkNode(),
    checkGit(settings),
    checkPython(settings),
    checkTemporal(settings),
    checkDatabase(settings),
    checkBubblewrap(settings),
    checkDisk(settings),
    checkHome(settings),
    checkPort('API port', 'OCDL_API_PORT', settings.apiPort, 8470, settings.apiHost, settings),
    checkPort('Web UI port', 'OCDL_UI_PORT', settings.uiPort, 8233, '127.0.0.1', settings),
    checkPort('Temporal port', 'OCDL_TEMPORAL_PORT', settings.temporalPort, 7233, '127.0.0.1', settings),
  ]);
  for (const check of checks) {
    const verdict = check.found !== undefined ? 'ok' : check.required ? 'missing' : 'without';
    console.log(`${verdict.padEnd(8)} ${check.name.padEnd(14)} ${check.found ?? check.advice}`);
  }
  const missing = checks.filter((check) => check.required && check.found === undefined).map((check) => check.name);
  console.log(missing.length === 0 ? '\nThe platform can start here.' : `\nMissing: ${missing.join(', ')}.`);
  return missing.length === 0 ? 0 : 1;
}

async function checkNode(): Promise<Check> {
  // An older one never comes this far: ocdl.js has refused it.
  return { name: 'Node', found: process.versions.node, advice: 'Node 20.19 or newer', required: true };
}

async function checkGit({ env }: Settings): Promise<Check> {
  const git = findOnPath('git', env.PATH);
  const end = git === undefined ? undefined : await runProgram(git, ['--version'], { env });
  return {
    name: 'Git',
    found: end?.code === 0 ? end.output.replace(/^git version /, '') : undefined,
    advice: 'Debian, Ubuntu: apt-get install git; macOS: xcode-select --install or brew install git',
    required: true,
  };
}

async function checkPython({ env }: Settings): Promise<Check> {
  const advice =
    'Python 3.10 or newer with venv and ensurepip. Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python';
  const check = { name: 'Python', required: true };
  const python = findOnPath('python3', env.PATH);
  if (python === undefined) return { ...check, found: undefined, advice };
  const version = await runProgram(python, ['-c', 'import sys; print("%d.%d.%d" % sys.version_info[:3])'], { env });
  const [major = 0, minor = 0] = version.output.split('.').map(Number);
  if (version.code !== 0) return { ...check, found: undefined, advice: `${python} does not run. ${advice}` };
  if (major < 3 || (major === 3 && minor < 10)) {
    return { ...check, found: undefined, advice: `${python} is ${version.output}. ${advice}` };
  }
  const modules = await runProgram(python, ['-c', 'import venv, ensurepip'], { env });
  return {
    ...check,
    found: modules.code === 0 ? `${version.output} (${python})` : undefined,
    advice: `${python} lacks venv or ensurepip. ${advice}`,
  };
}

async function checkTemporal({ cache, env, temporalAddress }: Settings): Promise<Check> {
  const check = { name: 'Temporal', required: true };
  if (temporalAddress !== undefined) return { ...check, found: `TEMPORAL_ADDRESS ${temporalAddress}`, advice: '' };
  try {
    // A build is what `start` does; here it is enough that there is a Go to do it.
    return {
      ...check,
      found: await findTemporal({ cache, env, onProgress: () => undefined, build: false }),
      advice: '',
    };
  } catch (error) {
    return { ...check, found: undefined, advice: messageOf(error) };
  }
}

async function checkDatabase({ databaseUrl }: Settings): Promise<Check> {
  const check = { name: 'PostgreSQL', required: true };
  if (databaseUrl !== undefined) return { ...check, found: `DATABASE_URL ${new URL(databaseUrl).host}`, advice: '' };
  try {
    return { ...check, found: await checkPostgres(), advice: '' };
  } catch (error) {
    return { ...check, found: undefined, advice: messageOf(error) };
  }
}

async function checkBubblewrap({ env }: Settings): Promise<Check> {
  const state = await checkSandbox(env);
  return {
    name: 'bubblewrap',
    found: state.works ? 'local jobs run sandboxed' : undefined,
    advice: state.works ? '' : `local jobs would run without a sandbox: ${state.why}`,
    required: false,
  };
}

async function checkDisk({ home }: Settings): Promise<Check> {
  const { bavail, bsize } = await statfs(nearestFolder(home));
  const free = bavail * bsize;
  const said = `${(free / 1024 ** 3).toFixed(1)} GB free at ${home}`;
  const advice = `${said}: at least 2 GB are needed; free some, or give another folder in OCDL_HOME`;
  return { name: 'Disk', found: free >= leastFreeBytes ? said : undefined, advice, required: true };
}

async function checkHome({ home }: Settings): Promise<Check> {
  const advice = `${home} cannot be written: give another folder in OCDL_HOME`;
  try {
    accessSync(nearestFolder(home), constants.W_OK | constants.X_OK);
    return { name: 'Home', found: home, advice, required: true };
  } catch {
    return { name: 'Home', found: undefined, advice, required: true };
  }
}

async function checkPort(
  name: string,
  variable: string,
  explicit: number | undefined,
  preferred: number,
  host: string,
  { home }: Settings,
): Promise<Check> {
  const port = explicit ?? preferred;
  if (await isFree(port, host)) return { name, found: `${port} is free`, advice: '', required: true };
  const owner = ownerOf(home);
  if (owner !== undefined) {
    return {
      name,
      found: `${port} is in use; a platform runs on this home (process ${owner.pid})`,
      advice: '',
      required: true,
    };
  }
  if (explicit === undefined) {
    return {
      name,
      found: `${port} is taken: the next free one will be used (${variable})`,
      advice: '',
      required: true,
    };
  }
  const advice = `${port} is taken: end the program that listens there, or give another port in ${variable}`;
  return { name, found: undefined, advice, required: true };
}

function nearestFolder(path: string): string {
  return existsSync(path) && statSync(path).isDirectory() ? path : nearestFolder(dirname(path));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
