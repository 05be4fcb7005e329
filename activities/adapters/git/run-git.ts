// Runs git with arguments only: no configuration of the machine or user, no hooks, no prompts.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { codeOf, SystemUnavailable } from '../../failures.ts';

/** Largest output held in memory; larger files belong in an artifact store. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;
/** Chunks of at most 64 KiB each. */
const COMPLAINT_CHUNKS = 16;
/** Search path for git: the standard folders of Linux and macOS. The option `git` names a program elsewhere. */
const SEARCH_PATH = '/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin';
/** Objects and references are on disk before git returns; file modes in archives do not depend on the machine. */
const SETTINGS = ['core.hooksPath=/dev/null', 'core.fsync=committed,reference', 'tar.umask=0022', 'gc.auto=0'];

export interface GitCall {
  readonly gitDir: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  readonly signal?: AbortSignal | undefined;
  /** Configuration for this call, as `name=value`. Every user of the machine can see arguments: put no secrets here. */
  readonly settings?: readonly string[];
  /** Deadline in milliseconds, after which git and its child processes are killed: for calls to a remote. */
  readonly limitMs?: number;
}

/** Git's result. A status above 0 is git's negative answer, which the caller interprets. */
export interface GitAnswer {
  readonly status: number;
  readonly output: Buffer;
  readonly complaint: string;
}

export interface Git {
  /** Runs git to its end; rejects only if git could not run. */
  ask(call: GitCall): Promise<GitAnswer>;
  /** Runs git and rejects unless it succeeds; returns its output without the final newline. */
  tell(call: GitCall): Promise<string>;
  /** Streams git's output; rejects after the last chunk if git failed. */
  stream(call: GitCall): AsyncGenerator<Buffer>;
}

/** Creates a runner for the git program at a path. */
export function createGit(program: string): Git {
  const argv = ({ gitDir, args, settings = [] }: GitCall): string[] => [
    ...[...SETTINGS, ...settings].flatMap((setting) => ['-c', setting]),
    `--git-dir=${gitDir}`,
    ...args,
  ];

  const ask = (call: GitCall): Promise<GitAnswer> =>
    new Promise((resolve, reject) => {
      const { input = '', signal, limitMs } = call;
      signal?.throwIfAborted();
      // Git talks to a remote through a child, which would outlive git and continue a push: the whole group is killed.
      const isGroup = limitMs !== undefined;
      const child: ChildProcess = spawn(program, argv(call), { env: environment(call), cwd: '/', detached: isGroup });
      child.once('error', (error) => reject(notRun(program, error)));
      // Without free file descriptors the child has no pipes; its error arrives in the next turn.
      const { stdin, stdout, stderr } = child;
      if (!stdin || !stdout || !stderr) return;
      const [output, complaint]: [Buffer[], Buffer[]] = [[], []];
      let bytes = 0;
      let stopped: Error | undefined;
      const stop = (reason: Error): void => {
        stopped ??= reason;
        if (isGroup && child.pid !== undefined) endGroup(child.pid);
        else child.kill();
      };
      const onAbort = (): void => stop(signal?.reason as Error);
      signal?.addEventListener('abort', onAbort, { once: true });
      const late = `deadline exceeded: git ${call.args[0]} was killed after ${(limitMs ?? 0) / 1000} s`;
      const tooSlow = new SystemUnavailable({ system: 'Git', reason: 'it does not answer in time', message: late });
      const timer = isGroup ? setTimeout(() => stop(tooSlow), limitMs) : undefined;
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      child.once('error', end);
      stdout.on('data', (chunk: Buffer) => {
        bytes += chunk.byteLength;
        if (bytes > OUTPUT_LIMIT) return stop(notRun(program, { code: 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER' }));
        output.push(chunk);
      });
      stderr.on('data', (chunk: Buffer) => {
        // The first lines contain the reason; a remote may send endless output.
        if (complaint.length < COMPLAINT_CHUNKS) complaint.push(chunk);
      });
      // A git that exits before reading all input breaks the pipe; its status gives the reason.
      stdin.on('error', () => undefined);
      stdin.end(input);
      child.once('close', (status) => {
        end();
        if (stopped !== undefined) reject(stopped);
        else if (status === null) reject(notRun(program, undefined));
        else resolve({ status, output: Buffer.concat(output), complaint: Buffer.concat(complaint).toString().trim() });
      });
    });

  async function tell(call: GitCall): Promise<string> {
    const { status, output, complaint } = await ask(call);
    if (status !== 0) throw gitError(call, status, complaint);
    return output.toString().replace(/\n$/, '');
  }

  async function* stream(call: GitCall): AsyncGenerator<Buffer> {
    const stdio: StdioOptions = ['ignore', 'pipe', 'pipe'];
    const child: ChildProcess = spawn(program, argv(call), { env: environment(call), stdio, cwd: '/' });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', (error) => reject(notRun(program, error)));
      child.once('close', resolve);
    });
    ended.catch(() => undefined);
    let complaint = '';
    child.stderr?.on('data', (text: Buffer) => (complaint = (complaint + text.toString()).slice(-2000)));
    try {
      for await (const chunk of child.stdout ?? []) yield chunk as Buffer;
      const status = await ended;
      if (status !== 0) throw gitError(call, status, complaint.trim());
    } finally {
      child.kill();
    }
  }

  return { ask, tell, stream };
}

function endGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGTERM');
  } catch (error) {
    // The process just ended.
    if (codeOf(error) !== 'ESRCH') throw error;
  }
}

/** The environment is not inherited: the starter's configuration, credentials and locale have no influence. */
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

/** An unexpected failure of git, caused by the disk, permissions or objects of the repository. */
export function gitError(call: GitCall, status: number | null, complaint: string): SystemUnavailable {
  const message = `git ${call.args[0]} in ${call.gitDir} ended with ${status}: ${complaint || 'no reason given'}`;
  const isFull = FULL.test(complaint);
  const reason = isFull ? 'no disk space is left for its repositories' : `git ${call.args[0]} failed`;
  return new SystemUnavailable({ system: 'Git', reason, message, isFull });
}

/** System errors that git repeats; its messages are in English (LC_ALL=C). */
const FULL = /No space left on device|Disk quota exceeded/i;

const remedies: Readonly<Record<string, string>> = {
  ENOENT: 'install git (2.36 or later), or configure its path',
  EMFILE: 'too many files are open: raise the limit of open files (ulimit -n); will be retried',
  ENFILE: 'too many files are open on this machine: raise its limit (fs.file-max); will be retried',
  ERR_CHILD_PROCESS_STDIO_MAXBUFFER: `its output exceeds ${OUTPUT_LIMIT} bytes: store files of that size in an artifact store`,
};

function notRun(program: string, cause: unknown): SystemUnavailable {
  const reason = remedies[codeOf(cause) ?? ''] ?? 'it was killed from outside or could not be started; will be retried';
  return new SystemUnavailable({ system: 'Git', reason, message: `the program ${program}: ${reason}`, cause });
}
