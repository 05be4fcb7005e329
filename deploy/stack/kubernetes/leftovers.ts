// Finds and removes what pods leave on a machine: processes, mounts and cgroups. All of it is found without containerd, which may be dead.
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sendSignal } from '../../../activities/adapters/process-start.ts';

/** Ends all processes in pods, then containerd's helpers of these pods, which outlive containerd. */
export async function endPods(folder: string): Promise<void> {
  // 10 s: a killed process ends within milliseconds unless it waits for a disk.
  const until = Date.now() + 10_000;
  for (;;) {
    const inPods = podCgroups().flatMap(processesBelow);
    const helpers = inPods.length > 0 ? [] : helpersOf(folder);
    if (inPods.length === 0 && helpers.length === 0) return;
    if (Date.now() > until)
      throw new Error(`Processes of pods do not end: ${[...inPods, ...helpers].join(', ')}. Run \`down\` again.`);
    for (const pid of inPods) sendSignal(pid, 'SIGKILL');
    for (const pid of helpers) {
      const sockets = socketFilesOf(pid);
      sendSignal(pid, 'SIGKILL');
      for (const path of sockets) rmSync(path, { force: true });
    }
    await sleep(50);
  }
}

/** The folders of Kubernetes' cgroup, one per controller with cgroups of version 1. */
export function podCgroups(): readonly string[] {
  const root = '/sys/fs/cgroup';
  return (
    [root, ...childrenOf(root).map((name) => join(root, name))]
      // Some controllers have a second name, which is a link.
      .filter((folder) => isFolder(folder))
      .map((folder) => join(folder, 'kubepods'))
      .filter((folder) => existsSync(folder))
  );
}

function processesBelow(cgroup: string): readonly number[] {
  const own = (readText(join(cgroup, 'cgroup.procs')) ?? '').split('\n').filter((line) => line !== '' && line !== '0');
  return [...own.map(Number), ...subfoldersOf(cgroup).flatMap(processesBelow)];
}

/** Removes a cgroup without processes, and all below it. */
export function removeCgroup(cgroup: string): void {
  for (const child of subfoldersOf(cgroup)) removeCgroup(child);
  rmdirSync(cgroup);
}

/** Processes `containerd-shim-runc-v2` of the containerd in this folder. */
function helpersOf(folder: string): readonly number[] {
  const socket = join(folder, 'containerd.sock');
  return childrenOf('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      const words = (readText(`/proc/${pid}/cmdline`) ?? '').split('\0');
      return words[0]?.endsWith('containerd-shim-runc-v2') === true && words[words.indexOf('-address') + 1] === socket;
    });
}

/** Files below /run/containerd that a process listens on. */
function socketFilesOf(pid: number): readonly string[] {
  const inodes = new Set(
    childrenOf(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  return (readText('/proc/net/unix') ?? '').split('\n').flatMap((line) => {
    const [, , , , , , inode = '', path = ''] = line.trim().split(/\s+/);
    return inodes.has(inode) && path.startsWith('/run/containerd/') ? [path] : [];
  });
}

/** Deletes a folder; refuses if something is still mounted below it, whose content would be deleted too. */
export function removeUnmounted(folder: string): void {
  if (!existsSync(folder)) return;
  const mounted = mountsBelow(realpathSync(folder));
  if (mounted.length > 0)
    throw new Error(`${mounted[0]} is still mounted, so ${folder} was not deleted: unmount it first.`);
  rmSync(folder, { recursive: true, force: true });
}

/** Mount points below a folder, the innermost first. */
export function mountsBelow(folder: string): readonly string[] {
  return (readText('/proc/self/mountinfo') ?? '')
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replace(/\\(\d{3})/g, (_, code: string) =>
        String.fromCharCode(Number.parseInt(code, 8)),
      ),
    )
    .filter((point) => point.startsWith(`${folder}/`))
    .reverse();
}

function subfoldersOf(folder: string): readonly string[] {
  return childrenOf(folder)
    .map((name) => join(folder, name))
    .filter(isFolder);
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function childrenOf(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
