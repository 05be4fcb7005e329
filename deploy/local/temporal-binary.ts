// Finds the Temporal server program: on the PATH, in the cache, or built with Go from the modules pinned in deploy/temporal/.
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { goSteps, madeOnce, runMaker } from './made-once.ts';
import { messageOf } from './readable-lines.ts';
import { runProgram } from './run-program.ts';

/** The version of Temporal's CLI that deploy/temporal/go.mod pins; part of the cache's path. */
export const temporalVersion = '1.5.1';

/** Workflows use what this server version brought (updates of search attributes with summaries among it). */
export const oldestServer = [1, 29] as const;
/** go.mod asks for more; from this version on Go fetches the toolchain that a module asks for. */
const oldestGo = [1, 24] as const;

const modules = new URL('../temporal/', import.meta.url);

export type FindTemporalOptions = {
  readonly cache: string;
  readonly onProgress: (line: string) => void;
  /** The PATH to search, and the environment Go runs in. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal;
  /** False: do not build, only say that a build could be made. */
  readonly build?: boolean;
};

/** Returns the path of a usable `temporal`, building one when there is none; throws with what to do when it cannot. */
export async function findTemporal(options: FindTemporalOptions): Promise<string> {
  const { cache, env, onProgress } = options;
  const onPath = findOnPath('temporal', env.PATH);
  if (onPath !== undefined) {
    const server = await versionOf(onPath, ['--version'], /Server (\d+)\.(\d+)/);
    if (server !== undefined && atLeast(server, oldestServer)) return onPath;
    onProgress(
      `${onPath} has ${server === undefined ? 'no server version that could be read' : `server ${server.join('.')}`}; ` +
        `${oldestServer.join('.')} or newer is needed. Going on without it.`,
    );
  }
  const cached = temporalCachePath(cache);
  if (isExecutable(cached)) return cached;

  const go = findOnPath('go', env.PATH);
  const goVersion = go === undefined ? undefined : await versionOf(go, ['version'], /go(\d+)\.(\d+)/);
  if (go !== undefined && goVersion !== undefined && atLeast(goVersion, oldestGo)) {
    if (options.build === false) return `to be built with ${go} at the first start (2 to 5 minutes, once)`;
    return await madeOnce(cached, (draft) => buildTemporal(go, draft, options));
  }
  throw new Error(
    `No Temporal server: there is no usable \`temporal\` on the PATH, none in ${cached}, and ` +
      `${goVersion === undefined ? 'no Go' : `only Go ${goVersion.join('.')}`} to build it with. ` +
      `Do one of: install the Temporal CLI ${temporalVersion} or newer (macOS: brew install temporal); ` +
      `install Go ${oldestGo.join('.')} or newer and start again (a build of 2 to 5 minutes, once); ` +
      'or set TEMPORAL_ADDRESS to a Temporal cluster you have.',
  );
}

/** Where the built program is kept, by version. */
export function temporalCachePath(cache: string): string {
  return join(cache, `temporal-${temporalVersion}`, 'temporal');
}

/** Returns the first executable file of that name on a PATH. */
export function findOnPath(name: string, path: string | undefined): string | undefined {
  return (path ?? '')
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find(isExecutable);
}

async function buildTemporal(go: string, draft: string, options: FindTemporalOptions): Promise<void> {
  const flags = ['-mod=readonly', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-v', '-o', draft];
  await runMaker(go, ['build', ...flags, 'github.com/temporalio/cli/cmd/temporal'], {
    ...options,
    env: { ...options.env, CGO_ENABLED: '0' },
    what: `the Temporal server ${temporalVersion}`,
    step: goSteps,
    cwd: modules,
  }).catch((error: unknown) => {
    throw new Error(`${messageOf(error)}\nOr install the Temporal CLI, or set TEMPORAL_ADDRESS.`, { cause: error });
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

/** Compares two versions by their first two numbers. */
export function atLeast(version: readonly [number, number], oldest: readonly [number, number]): boolean {
  return version[0] > oldest[0] || (version[0] === oldest[0] && version[1] >= oldest[1]);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
