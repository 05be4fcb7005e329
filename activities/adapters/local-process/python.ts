// Finds this machine's Python interpreter, which creates environments and runs job wrappers.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { z } from 'zod';

/** A Python interpreter that can make virtual environments. */
export type Python = {
  /** The resolved program, not a symbolic link: a sandbox mounts only its folder. */
  readonly executable: string;
  /** Major and minor version, such as `3.11`. */
  readonly version: string;
  /** The folder of its standard library, which a sandbox must mount. */
  readonly prefix: string;
};

/** Finds Python 3.10 or newer with venv and ensurepip; if there is none, throws with the candidates tried and what to install. */
export async function findPython(named?: string): Promise<Python> {
  const tried: string[] = [];
  for (const candidate of named === undefined ? CANDIDATES : [named]) {
    const answer = await run(candidate, ['-I', '-c', PROBE]).catch((error: unknown) => ({
      status: -1,
      lastLines: [error instanceof Error ? error.message : String(error)],
    }));
    const found = answer.status === 0 ? probeSchema.safeParse(parseJson(answer.lastLines.at(-1))) : undefined;
    if (found?.success === true && found.data.missing.length === 0 && isNewEnough(found.data.version)) {
      return { executable: found.data.executable, version: found.data.version.join('.'), prefix: found.data.prefix };
    }
    tried.push(`  ${candidate}: ${found?.success === true ? whyNot(found.data) : 'could not be started'}`);
  }
  throw new Error(
    `No usable Python found. OCDL trains and evaluates models with Python ${OLDEST.join('.')} or newer with its modules venv and ensurepip ` +
      `(Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python), or set OCDL_PYTHON to one. Tried:\n${tried.join('\n')}`,
  );
}

/** The oldest version for which the lock's packages have wheels. */
const OLDEST = [3, 10] as const;
/** Versions for which every package of the lock has a wheel come before versions that may be newer than the lock. */
const CANDIDATES = ['python3', 'python3.13', 'python3.12', 'python3.11', 'python3.10'] as const;
/** A Python answers with one line; more are kept to report a program that is not Python. */
const KEPT_LINES = 12;

const PROBE = `
import importlib.util, json, os, sys
missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
print(json.dumps({"version": sys.version_info[:2], "executable": os.path.realpath(sys.executable), "prefix": sys.base_prefix, "missing": missing}))
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
  return `does not have the modules ${probe.missing.join(' and ')}`;
}

function parseJson(line: string | undefined): unknown {
  try {
    return JSON.parse(line ?? '');
  } catch {
    return undefined;
  }
}

type Ended = { readonly status: number; readonly lastLines: readonly string[] };

/** Runs a program; returns its status and its last lines. */
async function run(program: string, args: readonly string[]): Promise<Ended> {
  const lastLines: string[] = [];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lastLines.push(line);
      if (lastLines.length > KEPT_LINES) lastLines.shift();
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
