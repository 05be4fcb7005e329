// Runs the git program: arguments only, nothing of the machine's or the user's configuration, no hooks, no questions.
import { execFile, spawn } from 'node:child_process';
import { codeOf } from '../durable-file.ts';

/** Largest output taken into memory; larger files are for the artifact stores. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;
/** Where git may be: the folders of Linux and macOS. A program elsewhere is named by the option `git`. */
const SEARCH_PATH = '/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin';
/** Objects and references reach the disk before git answers; file modes in archives do not depend on the machine. */
const SETTINGS = ['core.hooksPath=/dev/null', 'core.fsync=committed,reference', 'tar.umask=0022', 'gc.auto=0'];

export interface GitCall {
  readonly gitDir: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

/** What git answered. A number above 0 is git's own "no": the caller knows what it means. */
export interface GitAnswer {
  readonly status: number;
  readonly output: Buffer;
  readonly complaint: string;
}

export interface Git {
  /** Runs git to its end; rejects only if it could not run. */
  ask(call: GitCall): Promise<GitAnswer>;
  /** Runs git and rejects unless it succeeds; the output as text without the last newline. */
  tell(call: GitCall): Promise<string>;
  /** Streams what git writes; rejects after the last chunk if it failed. */
  stream(call: GitCall): AsyncGenerator<Buffer>;
}

/** Git by its program's path. */
export function createGit(program: string): Git {
  const argv = ({ gitDir, args }: GitCall): string[] => [
    ...SETTINGS.flatMap((setting) => ['-c', setting]),
    `--git-dir=${gitDir}`,
    ...args,
  ];

  const ask = (call: GitCall): Promise<GitAnswer> =>
    new Promise((resolve, reject) => {
      const child = execFile(
        program,
        argv(call),
        { env: environment(call), encoding: 'buffer', maxBuffer: OUTPUT_LIMIT, signal: call.signal, cwd: '/' },
        (error, output, complaint) => {
          const status = error ? error.code : 0;
          if (call.signal?.aborted) reject(call.signal.reason as Error);
          else if (typeof status === 'number') resolve({ status, output, complaint: complaint.toString().trim() });
          else reject(notRun(program, error));
        },
      );
      // A git that ends before it has read everything breaks the pipe; its status tells why.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(call.input ?? '');
    });

  async function tell(call: GitCall): Promise<string> {
    const { status, output, complaint } = await ask(call);
    if (status !== 0) throw gitError(call, status, complaint);
    return output.toString().replace(/\n$/, '');
  }

  async function* stream(call: GitCall): AsyncGenerator<Buffer> {
    const child = spawn(program, argv(call), { env: environment(call), stdio: ['ignore', 'pipe', 'pipe'], cwd: '/' });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', (error) => reject(notRun(program, error)));
      child.once('close', resolve);
    });
    ended.catch(() => undefined);
    let complaint = '';
    child.stderr.on('data', (text: Buffer) => (complaint = (complaint + text.toString()).slice(-2000)));
    try {
      for await (const chunk of child.stdout) yield chunk as Buffer;
      const status = await ended;
      if (status !== 0) throw gitError(call, status, complaint.trim());
    } finally {
      child.kill();
    }
  }

  return { ask, tell, stream };
}

/** Nothing is inherited: configuration, credentials and locale of whoever started the platform play no part. */
function environment(call: GitCall): Record<string, string> {
  return {
    PATH: SEARCH_PATH,
    LC_ALL: 'C',
    TZ: 'UTC',
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_ATTR_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_LITERAL_PATHSPECS: '1',
    ...call.env,
  };
}

const gitError = (call: GitCall, status: number | null, complaint: string): Error =>
  new Error(`git ${call.args[0]} in ${call.gitDir} ended with ${status}: ${complaint || 'it gave no reason'}`);

function notRun(program: string, cause: unknown): Error {
  const remedy =
    codeOf(cause) === 'ENOENT'
      ? 'install git (2.36 or later), or give its path'
      : codeOf(cause) === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER'
        ? `it answered more than ${OUTPUT_LIMIT} bytes: keep files of that size in an artifact store`
        : 'it was ended from outside, or could not be started';
  return new Error(`the program ${program}: ${remedy}`, { cause });
}
