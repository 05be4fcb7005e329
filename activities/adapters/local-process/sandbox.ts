// Builds the command that runs a program in bubblewrap with limits, and tests whether bubblewrap works here.
import { spawn } from 'node:child_process';
import { readlinkSync, realpathSync } from 'node:fs';
import { sep } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { failure } from '../../failures.ts';
import { readIfThere } from '../process-start.ts';
import { systemCallFilter } from './seccomp.ts';

/**
 * How programs are isolated here. `own-user`: the worker is root and each program runs as a separate user. `namespace`:
 * the worker is an ordinary user and the program is `nobody` in a user namespace.
 */
export type Sandbox =
  | { readonly kind: 'own-user' }
  | { readonly kind: 'namespace'; readonly nesting: boolean }
  | { readonly kind: 'none'; readonly why: string };

/** Everything that one program can see and use. Paths in `from` are the machine's, in `to` the program's. */
export interface Enclosure {
  readonly readOnly: readonly Mount[];
  readonly writable: readonly Mount[];
  /** Read-only parts inside writable folders. */
  readonly readOnlyOver: readonly Mount[];
  /** Device files, such as those of a GPU. */
  readonly devices: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly limits: ProgramLimits;
  /** The program's user when the worker is root. */
  readonly uid: number;
  readonly argv: readonly string[];
}

export interface Mount {
  readonly from: string;
  readonly to: string;
}

export interface ProgramLimits {
  /** Limit of a process's data memory. Not of its address space: numpy and V8 reserve far more than they use. */
  readonly memoryBytes: number;
  readonly fileBytes: number;
  readonly processes: number;
}

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  /** The filter of allowed system calls, which bubblewrap reads on `FILTER_DESCRIPTOR`. */
  readonly filter?: Buffer;
}

/** The program's user inside a user namespace: nobody, by convention. */
export const NOBODY = 65_534;
/** File descriptor on which bubblewrap reports the id of the sandbox's first process. */
export const INFO_DESCRIPTOR = 3;
/** File descriptor on which bubblewrap reads the filter of system calls. */
export const FILTER_DESCRIPTOR = 4;
/** Folders in memory in the sandbox. Their content counts as the program's memory. */
export const MEMORY_FOLDERS = ['/dev/shm', '/tmp'] as const;

/** The command that runs the enclosure's program, including its environment and working folder. Not for `none`. */
export function sandboxCommand(sandbox: Exclude<Sandbox, { kind: 'none' }>, enclosure: Enclosure): Command {
  const { limits } = enclosure;
  const args = [
    // The platform's own processes have priority: decisions must not wait for a training, nor be killed for its memory.
    ...['-n', '10', 'choom', '-n', '1000', '--', 'bwrap'],
    ...namespaces(sandbox),
    ...['--die-with-parent', '--new-session', '--clearenv', '--hostname', 'ocdl'],
    ...['--info-fd', String(INFO_DESCRIPTOR), '--seccomp', String(FILTER_DESCRIPTOR)],
    ...systemFolders(),
    // Shared mappings of /dev/zero are memory that no statistics show; /dev/full reads the same and cannot be mapped.
    ...['--proc', '/proc', '--dev', '/dev', '--dev-bind', '/dev/full', '/dev/zero'],
    ...enclosure.devices.flatMap((device) => ['--dev-bind', device, device]),
    // A tmpfs uses memory: its size is limited, so that a program cannot fill the machine's memory.
    ...MEMORY_FOLDERS.flatMap((path) => temporary(path, limits.memoryBytes / 4)),
    // bubblewrap creates the folders above a mount for its own user only.
    ...above([...enclosure.readOnly, ...enclosure.writable]).flatMap((path) => ['--perms', '0755', '--dir', path]),
    ...enclosure.readOnly.flatMap(({ from, to }) => ['--ro-bind', from, to]),
    ...enclosure.writable.flatMap(({ from, to }) => ['--bind', from, to]),
    ...enclosure.readOnlyOver.flatMap(({ from, to }) => ['--ro-bind', from, to]),
    ...['--remount-ro', '/dev', '--remount-ro', '/', '--chdir', '/'],
    ...Object.entries(enclosure.env).flatMap(([name, value]) => ['--setenv', name, value]),
    '--',
    ...(sandbox.kind === 'own-user' ? becomeUser(enclosure.uid) : []),
    ...['prlimit', `--data=${Math.ceil(limits.memoryBytes)}`, `--fsize=${Math.ceil(limits.fileBytes)}`],
    ...[`--nproc=${limits.processes}`, `--nofile=${openFilesLimit()}`, '--core=0', '--'],
    // Only as the program's user: others cannot enter its folder, not even root without privileges.
    ...['env', `--chdir=${enclosure.cwd}`, '--'],
    ...enclosure.argv,
  ];
  return { program: 'nice', args, filter: mustHaveFilter(enclosure) };
}

/** Finds the strongest sandbox that works here, by running a program in it. */
export async function detectSandbox(): Promise<Sandbox> {
  if (process.platform !== 'linux') return { kind: 'none', why: `bubblewrap does not exist for ${process.platform}` };
  if (systemCallFilter() === undefined)
    return { kind: 'none', why: `the system call filter does not support ${process.arch} processors` };
  // Root is never mapped into a user namespace: to /proc/sys and RLIMIT_NPROC, its processes would still be the machine's root.
  const candidates: readonly Exclude<Sandbox, { kind: 'none' }>[] =
    process.getuid?.() === 0
      ? [{ kind: 'own-user' }]
      : [
          { kind: 'namespace', nesting: false },
          // bubblewrap before 0.8 cannot forbid nested namespaces: only the filter does.
          { kind: 'namespace', nesting: true },
        ];
  let why = '';
  for (const candidate of candidates) {
    const problem = await trial(candidate);
    if (problem === undefined) return candidate;
    why ||= problem;
  }
  return { kind: 'none', why };
}

/** Throws if a folder that untrusted programs would see contains a secret one. */
export function refuseToShow(shown: readonly Mount[], secret: string): void {
  const inside = real(secret);
  for (const { from } of [...shown, { from: '/usr' }]) {
    const folder = real(from);
    if (inside === folder || inside.startsWith(folder.endsWith(sep) ? folder : folder + sep))
      throw failure(
        'InvalidInput',
        `the sandbox would expose ${from}, which contains the platform's own folder ${secret}: move that folder (OCDL_HOME)`,
      );
  }
}

function namespaces(sandbox: Exclude<Sandbox, { kind: 'none' }>): string[] {
  if (sandbox.kind === 'own-user')
    return [
      ...['--unshare-ipc', '--unshare-pid', '--unshare-net', '--unshare-uts', '--unshare-cgroup-try'],
      // Only what is needed to become the program's user; `setpriv` drops these capabilities too.
      ...['--cap-drop', 'ALL', '--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID', '--cap-add', 'CAP_SETPCAP'],
    ];
  return [
    ...['--unshare-all', '--unshare-user', ...(sandbox.nesting ? [] : ['--disable-userns'])],
    ...['--uid', String(NOBODY), '--gid', String(NOBODY), '--cap-drop', 'ALL'],
  ];
}

function mustHaveFilter({ devices }: Enclosure): Buffer {
  // The library of a GPU's driver takes the memory that it shares with the GPU as anonymous shared memory.
  const filter = systemCallFilter({ sharedMemory: devices.length > 0 });
  if (filter === undefined) throw new Error(`the system call filter does not support ${process.arch} processors`);
  return filter;
}

/** Writes the filter to a bubblewrap that was just started. */
export function giveFilter(stream: unknown, filter: Buffer | undefined): void {
  if (!(stream instanceof Writable)) return;
  // A bubblewrap that did not start or died is reported by its exit.
  stream.on('error', () => undefined);
  stream.end(filter);
}

/** Enough for a training's workers. Each open file may be a pipe, which holds memory. */
const MOST_OPEN_FILES = 4_096;

/** The limit of a process's open files: never above the worker's own, which only root may exceed. */
function openFilesLimit(): number {
  const own = /^Max open files\s+\d+\s+(\d+)/m.exec(readIfThere('/proc/self/limits'))?.[1];
  return Math.min(MOST_OPEN_FILES, own === undefined ? MOST_OPEN_FILES : Number(own));
}

function becomeUser(uid: number): string[] {
  const id = String(uid);
  return [
    ...['setpriv', '--reuid', id, '--regid', id, '--clear-groups', '--inh-caps=-all', '--bounding-set=-all'],
    ...['--no-new-privs', '--'],
  ];
}

function systemFolders(): string[] {
  const merged = ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'].flatMap((path) => {
    const target = linkTarget(path);
    return target === undefined ? ['--ro-bind-try', path, path] : ['--symlink', target, path];
  });
  // From /etc only what the loader needs; from /sys only what numerical libraries read about the processor.
  const files = [
    '/etc/ld.so.cache',
    '/etc/ld.so.conf',
    '/etc/ld.so.conf.d',
    '/etc/alternatives',
    '/sys/devices/system/cpu',
  ];
  const folders = above(files.map((path) => ({ from: path, to: path })));
  const made = folders.flatMap((path) => ['--perms', '0755', '--dir', path]);
  return ['--ro-bind', '/usr', '/usr', ...merged, ...made, ...files.flatMap((path) => ['--ro-bind-try', path, path])];
}

/** The parent folders of the mounts, outermost first. */
function above(mounts: readonly Mount[]): readonly string[] {
  const folders = new Set<string>();
  for (const { to } of mounts) {
    const parts = to.split('/').slice(1, -1);
    parts.forEach((_, index) => folders.add(`/${parts.slice(0, index + 1).join('/')}`));
  }
  return [...folders];
}

function temporary(path: string, bytes: number): string[] {
  return ['--perms', '1777', '--size', String(Math.max(1 << 20, Math.floor(bytes))), '--tmpfs', path];
}

async function trial(sandbox: Exclude<Sandbox, { kind: 'none' }>): Promise<string | undefined> {
  const limits = { memoryBytes: 1 << 28, fileBytes: 1 << 20, processes: 64 };
  const env = { PATH: '/usr/bin:/bin' };
  const nothing = { readOnly: [], writable: [], readOnlyOver: [], devices: [] };
  const { program, args, filter } = sandboxCommand(sandbox, {
    ...nothing,
    cwd: '/tmp',
    env,
    limits,
    uid: NOBODY,
    argv: ['true'],
  });
  return new Promise((resolve) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] });
    giveFilter(child.stdio[FILTER_DESCRIPTOR], filter);
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
    const info = child.stdio[INFO_DESCRIPTOR];
    if (info instanceof Readable) info.resume();
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code) => resolve(code === 0 ? undefined : (said.trim().split('\n')[0] ?? `status ${code}`)));
  });
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
