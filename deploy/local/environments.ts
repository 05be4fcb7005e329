// The Python environments of local jobs: one virtual environment for each (lock, Python version), made once and kept.
import { spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

/** A Python interpreter that can make virtual environments. */
export type Python = {
  readonly executable: string;
  /** Major and minor version, such as `3.11`. */
  readonly version: string;
  /** Where its standard library lies: a sandbox must show this folder to the environment's interpreter. */
  readonly prefix: string;
};

export type Environment = {
  /** The environment's own interpreter. */
  readonly python: string;
  /** SHA-256 of the lock's text: the environment's identity in a run's record. */
  readonly sha256: string;
  /** The folders a sandbox must show, read-only, for `python` to work. */
  readonly folders: readonly string[];
};

export type EnvironmentRequest = {
  /** Text of the requirements lock. */
  readonly lock: string;
  /** The folder that holds environments, each in a folder of its own. */
  readonly cache: string;
  readonly onProgress?: (line: string) => void;
  /** The interpreter to use (the setting `OCDL_PYTHON`); without it the first fitting one on the path. */
  readonly python?: string | undefined;
};

/** Gives the environment of a lock, making it first where it is not there; safe when several processes ask at once. */
export async function ensureEnvironment(request: EnvironmentRequest): Promise<Environment> {
  const text = Buffer.from(request.lock);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const base = await findPython(request.python);
  const cache = resolve(request.cache);
  const folder = join(cache, `${sha256}-${base.version}`);
  await mkdir(cache, { recursive: true });
  // pip reads our own copy: the caller's file may change while it is being installed.
  const lock = await keepLock(cache, sha256, text);
  const ended = await run(base.executable, ['-I', MAKER, folder, lock], request.onProgress ?? (() => undefined));
  if (ended.status !== 0) {
    throw new Error(
      `The Python environment of lock ${sha256.slice(0, 12)} could not be made in ${folder} (status ${ended.status}):\n${ended.lastLines.join('\n')}`,
    );
  }
  return { python: join(folder, 'bin', 'python'), sha256, folders: [folder, base.prefix] };
}

/** Finds a Python of 3.10 or newer that has venv and ensurepip; throws with what was tried and what to install. */
export async function findPython(named?: string): Promise<Python> {
  const tried: string[] = [];
  for (const candidate of named === undefined ? CANDIDATES : [named]) {
    const answer = await run(candidate, ['-I', '-c', PROBE], () => undefined).catch((error: unknown) => ({
      status: -1,
      lastLines: [error instanceof Error ? error.message : String(error)],
    }));
    const found = answer.status === 0 ? probeSchema.safeParse(parseJson(answer.lastLines.at(-1))) : undefined;
    if (found?.success === true && found.data.missing.length === 0 && isNewEnough(found.data.version)) {
      return { executable: found.data.executable, version: found.data.version.join('.'), prefix: found.data.prefix };
    }
    tried.push(`  ${candidate}: ${found?.success === true ? whyNot(found.data) : 'does not start'}`);
  }
  throw new Error(
    `No usable Python found. OCDL trains and evaluates models with Python ${OLDEST.join('.')} or newer with its modules venv and ensurepip ` +
      `(Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python), or set OCDL_PYTHON to one. Tried:\n${tried.join('\n')}`,
  );
}

const MAKER = fileURLToPath(new URL('../capsule/ocdl/environment.py', import.meta.url));
/** The lock's packages have wheels from this version on. */
const OLDEST = [3, 10] as const;
/** Versions for which every package of the lock has a wheel stand before ones that may be newer than the lock. */
const CANDIDATES = ['python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10'] as const;
/** Enough of pip's last words to tell why it failed. */
const KEPT_LINES = 12;

const PROBE = `
import importlib.util, json, sys
missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
print(json.dumps({"version": sys.version_info[:2], "executable": sys.executable, "prefix": sys.base_prefix, "missing": missing}))
`;

const probeSchema = z.object({
  version: z.tuple([z.number(), z.number()]),
  executable: z.string().min(1),
  prefix: z.string().min(1),
  missing: z.array(z.string()),
});

function isNewEnough([major, minor]: readonly [number, number]): boolean {
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

function whyNot(probe: z.infer<typeof probeSchema>): string {
  if (!isNewEnough(probe.version)) return `is Python ${probe.version.join('.')}, older than ${OLDEST.join('.')}`;
  return `lacks the modules ${probe.missing.join(' and ')}`;
}

function parseJson(line: string | undefined): unknown {
  try {
    return JSON.parse(line ?? '');
  } catch {
    return undefined;
  }
}

async function keepLock(cache: string, sha256: string, text: Buffer): Promise<string> {
  const path = join(cache, `${sha256}.txt`);
  const temporary = `${path}.${randomUUID()}`;
  await writeFile(temporary, text);
  await rename(temporary, path);
  return path;
}

type Ended = { readonly status: number; readonly lastLines: readonly string[] };

/** Runs a program, telling each line it prints; answers its status and its last lines. */
async function run(program: string, args: readonly string[], onLine: (line: string) => void): Promise<Ended> {
  const lastLines: string[] = [];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lastLines.push(line);
      if (lastLines.length > KEPT_LINES) lastLines.shift();
      onLine(line);
    });
  }
  return new Promise((resolveEnd, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (signal !== null) lastLines.push(`ended by ${signal}`);
      resolveEnd({ status: code ?? -1, lastLines });
    });
  });
}
