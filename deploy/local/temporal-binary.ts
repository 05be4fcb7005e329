// Finds the Temporal server program in the cache, or builds it with Go from deploy/temporal/ and the modules pinned there.
import { createHash } from 'node:crypto';
import { accessSync, constants, readdirSync, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { madeOnce } from '../../activities/adapters/local-process/made-once.ts';
import { goSteps, runMaker } from './maker.ts';
import { messageOf } from '../../activities/failures.ts';
import { atLeast } from '../../workers/server-version.ts';
import { runProgram } from './run-program.ts';

/** go.mod requires a newer version; from this version on, Go downloads the toolchain that a module requires. */
const oldestGo = [1, 24] as const;

const sources = new URL('../temporal/', import.meta.url);

export type FindTemporalOptions = {
  readonly cache: string;
  readonly onProgress: (line: string) => void;
  /** The environment for Go, including the PATH on which it is found. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal;
  /** False: do not build, only report that a build is possible. */
  readonly build?: boolean;
};

/**
 * Returns the path of our Temporal server and builds it if it is missing; throws with the remedy if that is not possible. A
 * `temporal` on the PATH is never used: the development server of Temporal's CLI opens HTTP ports that any page in a
 * browser can reach.
 */
export async function findTemporal(options: FindTemporalOptions): Promise<string> {
  const { cache, env } = options;
  const cached = temporalCachePath(cache);
  if (isExecutable(cached)) return cached;

  const go = findOnPath('go', env.PATH);
  const goVersion = go === undefined ? undefined : await versionOf(go, ['version'], /go(\d+)\.(\d+)/);
  if (go !== undefined && goVersion !== undefined && atLeast(goVersion, oldestGo)) {
    if (options.build === false) return `to be built with ${go} at the first start (2 to 5 minutes, once)`;
    return await madeOnce(cached, (draft) => buildTemporal(go, draft, options));
  }
  throw new Error(
    `No Temporal server: ${cached} does not exist, and there is ` +
      `${goVersion === undefined ? 'no Go' : `only Go ${goVersion.join('.')}`} to build it with. ` +
      `Install Go ${oldestGo.join('.')} or newer (macOS: brew install go; others: go.dev/dl) and start again (a build of ` +
      '2 to 5 minutes, once), or set TEMPORAL_ADDRESS to an existing Temporal cluster.',
  );
}

/** Path of the built program, by the server version and a digest of all sources. */
export function temporalCachePath(cache: string): string {
  const { version, digest } = temporalSource();
  return join(cache, `temporal-${version}-${digest}`, 'temporal');
}

/** The server version pinned in go.mod, and a digest of the sources. */
export function temporalSource(folder = sources): { readonly version: string; readonly digest: string } {
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).sort()) hash.update(`${name}\0`).update(readFileSync(new URL(name, folder)));
  const version = /^\s*go\.temporal\.io\/server v(\S+)$/m.exec(readFileSync(new URL('go.mod', folder), 'utf8'))?.[1];
  if (version === undefined)
    throw new Error(`${new URL('go.mod', folder).pathname} does not pin a version of the server.`);
  return { version, digest: hash.digest('hex').slice(0, 12) };
}

/** Returns the first executable file with that name on a PATH. */
export function findOnPath(name: string, path: string | undefined): string | undefined {
  return (path ?? '')
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

async function buildTemporal(go: string, draft: string, options: FindTemporalOptions): Promise<void> {
  const flags = ['-mod=readonly', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-v', '-o', draft];
  await runMaker(go, ['build', ...flags, '.'], {
    ...options,
    env: { ...options.env, CGO_ENABLED: '0' },
    what: `the Temporal server ${temporalSource().version}`,
    step: goSteps,
    cwd: sources,
  }).catch((error: unknown) => {
    throw new Error(`${messageOf(error)}\nOr set TEMPORAL_ADDRESS to an existing Temporal cluster.`, { cause: error });
  });
}

async function versionOf(
  program: string,
  args: readonly string[],
  pattern: RegExp,
): Promise<readonly [number, number] | undefined> {
  const { code, output } = await runProgram(program, args);
  const match = code === 0 ? pattern.exec(output) : null;
  return match === null ? undefined : [Number(match[1]), Number(match[2])];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
