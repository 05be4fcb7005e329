// Creates a requirements lock from a list of packages with uv: every package pinned, with the digests of its files.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { detectSandbox } from '../../activities/adapters/local-process/sandbox.ts';
import { lockMessage, parseLock } from '../../workflows/domain/lock.ts';
import { createEnvironments, packageIndex } from '../../activities/adapters/local-process/environments.ts';
import type { Settings } from './settings.ts';

export interface LockRequest {
  /** The list of packages, such as `requirements.in`. */
  readonly input: string;
  /** The lock to write; by default next to the input. Versions of an existing lock are kept where they still fit. */
  readonly output?: string | undefined;
  /** Oldest Python version that the lock supports. */
  readonly pythonVersion?: string | undefined;
  /** Uses the newest versions instead of those of an existing lock. */
  readonly upgrade?: boolean;
  readonly settings: Pick<Settings, 'home' | 'cache' | 'python' | 'environments' | 'env'>;
  readonly say: (line: string) => void;
}

/** The oldest version that the platform runs jobs with. */
const OLDEST_PYTHON = '3.10';
const TOOLS_LOCK = new URL('../capsule/tools.lock', import.meta.url);

/** Writes the lock and returns its path. Throws if uv does not produce a valid lock; an existing lock is then unchanged. */
export async function makeLock(request: LockRequest): Promise<string> {
  const { settings, say } = request;
  const input = resolve(request.input);
  if (!existsSync(input))
    throw new Error(`${input} does not exist: create it with the packages you need, one per line`);
  const output = resolve(request.output ?? `${input.replace(/\.(in|txt)$/, '')}.lock`);
  const pythonVersion = request.pythonVersion ?? OLDEST_PYTHON;
  const options = { ...settings.environments, ...settings, cache: join(settings.cache, 'environments') };
  const using = { sandbox: await detectSandbox(), onProgress: say };
  const tools = await createEnvironments(options)({
    ...using,
    lock: await readFile(TOOLS_LOCK, 'utf8'),
    owner: 'platform',
  });
  const index = await packageIndex(options, using);
  const draft = join(dirname(output), `.${basename(output)}.${randomUUID()}`);
  try {
    // uv keeps the versions that it finds in the draft.
    if (existsSync(output)) await copyFile(output, draft);
    await runUv(join(dirname(tools.python), 'uv'), {
      cwd: dirname(input),
      args: [
        ...['pip', 'compile', basename(input), '--output-file', draft, '--python', tools.base],
        ...['--generate-hashes', '--universal', '--python-version', pythonVersion, '--only-binary', ':all:'],
        ...['--no-config', '--no-python-downloads', '--no-emit-index-url', '--no-emit-find-links'],
        ...['--custom-compile-command', `npm run lock -- ${basename(input)}`],
        ...(request.upgrade ? ['--upgrade'] : []),
      ],
      env: {
        ...settings.env,
        UV_CACHE_DIR: join(settings.cache, 'uv'),
        ...(index.index === null ? { UV_NO_INDEX: '1' } : { UV_DEFAULT_INDEX: index.index }),
        UV_INDEX: index.extra.join(' '),
        UV_FIND_LINKS: [...index.folders, ...index.links].join(','),
        UV_INSECURE_HOST: index.trusted.join(' '),
        ...(index.certificates && { SSL_CERT_FILE: index.certificates[0] }),
      },
    });
    const { packages, problems } = parseLock(await readFile(draft, 'utf8'));
    if (packages === undefined) throw new Error(`no lock was written: ${lockMessage("uv's output", problems)}`);
    await rename(draft, output);
    const digests = packages.reduce((sum, { hashes }) => sum + hashes.length, 0);
    const from = index.index === null ? '' : `, from ${withoutPassword(index.index)}`;
    say(
      `Wrote ${output}: ${packages.length} packages with ${digests} digests, for Python ${pythonVersion} and newer${from}.`,
    );
    say('Commit it with your code, and name it as `lock` when you start a run.');
    return output;
  } finally {
    await rm(draft, { force: true });
  }
}

async function runUv(
  uv: string,
  { args, cwd, env }: { args: readonly string[]; cwd: string; env: Settings['env'] },
): Promise<void> {
  // uv reports results and conflicting requirements on standard error.
  const child = spawn(uv, [...args], { cwd, env: { ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-8_000)));
  const code = await new Promise<number | null>((done, reject) => {
    child.once('error', reject);
    child.once('close', done);
  });
  if (code !== 0) throw new Error(`no lock was written: uv failed (status ${code}):\n${said.trim()}`);
}

function withoutPassword(address: string): string {
  const url = new URL(address);
  url.username = url.password = '';
  return url.href;
}
