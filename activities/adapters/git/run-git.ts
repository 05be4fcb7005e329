// Runs the git program: arguments only, nothing of the machine's or the user's configuration, no hooks, no questions.
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { codeOf, SystemUnavailable } from '../../failures.ts';

/** Largest output taken into memory; larger files are for the artifact stores. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;
/** Of at most 64 KiB each. */
const COMPLAINT_CHUNKS = 16;
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
  /** Configuration for this call alone, as `name=value`. Arguments are seen by everybody on the machine: nothing secret. */
  readonly settings?: readonly string[];
  /** After this many milliseconds it is ended, with all that it started: for calls that go to a remote. */
  readonly limitMs?: number;
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
  const argv = ({ gitDir, args, settings = [] }: GitCall): string[] => [
    ...[...SETTINGS, ...settings].flatMap((setting) => ['-c', setting]),
    `--git-dir=${gitDir}`,
    ...args,
  ];

  const ask = (call: GitCall): Promise<GitAnswer> =>
    new Promise((resolve, reject) => {
      const { input = '', signal, limitMs } = call;
      signal?.throwIfAborted();
      // What speaks to a remote is a child of git's, which outlives git and would go on pushing: it is ended with the group.
      const isGroup = limitMs !== undefined;
      const child: ChildProcess = spawn(program, argv(call), { env: environment(call), cwd: '/', detached: isGroup });
      child.once('error', (error) => reject(notRun(program, error)));
      // Where too many files are open a child has no pipes; its error comes at the next turn.
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
      const late = `git ${call.args[0]} was ended: it took longer than ${(limitMs ?? 0) / 1000} s`;
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
        // The first lines hold the reason; a remote may send without end.
        if (complaint.length < COMPLAINT_CHUNKS) complaint.push(chunk);
      });
      // A git that ends before it has read everything breaks the pipe; its status tells why.
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
    // It ended by itself just now.
    if (codeOf(error) !== 'ESRCH') throw error;
  }
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

/** Git's "no" as an error, where it was no answer: the repository's disk, its rights or its objects do not do. */
export function gitError(call: GitCall, status: number | null, complaint: string): SystemUnavailable {
  const message = `git ${call.args[0]} in ${call.gitDir} ended with ${status}: ${complaint || 'it gave no reason'}`;
  const isFull = FULL.test(complaint);
  const reason = isFull ? 'no disk space is left for its repositories' : `git ${call.args[0]} failed`;
  return new SystemUnavailable({ system: 'Git', reason, message, isFull });
}

/** What git repeats of the system's errors; its messages are in English (LC_ALL=C). */
const FULL = /No space left on device|Disk quota exceeded/i;

const remedies: Readonly<Record<string, string>> = {
  ENOENT: 'install git (2.36 or later), or give its path',
  EMFILE: 'too many files are open: raise the limit of open files (ulimit -n); it is tried again',
  ENFILE: 'too many files are open on this machine: raise its limit (fs.file-max); it is tried again',
  ERR_CHILD_PROCESS_STDIO_MAXBUFFER: `it answered more than ${OUTPUT_LIMIT} bytes: keep files of that size in an artifact store`,
};

function notRun(program: string, cause: unknown): SystemUnavailable {
  const reason =
    remedies[codeOf(cause) ?? ''] ?? 'it was ended from outside, or could not be started; it is tried again';
  return new SystemUnavailable({ system: 'Git', reason, message: `the program ${program}: ${reason}`, cause });
}
