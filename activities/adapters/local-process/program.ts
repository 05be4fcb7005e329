// Runs one program: log, memory and disk limits, and a stop that leaves no orphaned process.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { codeOf, messageOf } from '../../failures.ts';
import { sendSignal } from '../process-start.ts';
import { isAlive, markOf, oomKills, processTree, type ProcessMark } from './process-tree.ts';
import type { ProgramLog } from './program-log.ts';
import { checkDiskAtEnd, watchResources, type ResourceWatch } from './resource-watch.ts';
import { FILTER_DESCRIPTOR, giveFilter, INFO_DESCRIPTOR, type Command } from './sandbox.ts';

export interface ProgramOptions extends Command {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Made by `sandboxCommand`: bubblewrap then reports its first process. */
  readonly sandboxed: boolean;
  readonly log: ProgramLog;
  /** Called immediately with the process to record, so that a later worker can stop it; if it throws, the program is ended. */
  readonly onStart?: (mark: ProcessMark) => void;
  /** Stops the program when aborted. */
  readonly signal?: AbortSignal | undefined;
  readonly watch?: ResourceWatch | undefined;
}

export interface Ended {
  /** The exit status, or 128 + n for signal n, as in shells and bubblewrap. `null`: not started, or stopped by the platform. */
  readonly code: number | null;
  /** The limit for which the platform, or the kernel for lack of memory, stopped it. */
  readonly exceeded?: 'memory' | 'disk' | undefined;
  /** Why it was ended at its start, before it could do its work: trouble of this machine, which may pass. */
  readonly failedStart?: string;
}

export interface Program {
  readonly ended: Promise<Ended>;
  /** Stops the program and its descendants: SIGTERM, a grace period, SIGKILL. */
  end(graceMs?: number): Promise<void>;
}

/** Errors of a start for lack of file descriptors, processes or memory. */
const PASSING: ReadonlySet<unknown> = new Set(['EMFILE', 'ENFILE', 'EAGAIN', 'ENOMEM']);
/** Grace period for a program's cleanup. */
const GRACE_MS = 5_000;
/** How long an escaped child of an unsandboxed program may keep the pipes open after the program's end. */
const PIPES_MS = 500;

const infoSchema = z.object({ 'child-pid': z.int().positive() });

/** Starts a program; never throws: a failed start is an end with a note in the log. */
export function startProgram(options: ProgramOptions): Program {
  const killsBefore = oomKills();
  const child = spawn(options.program, options.args, {
    env: { ...options.env },
    cwd: options.cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', ...(options.sandboxed ? (['pipe', 'pipe'] as const) : [])],
  });
  // Without a free file descriptor, the process has no streams, whatever their types say.
  const { stdout = null, stderr = null } = child;
  const stdio: readonly unknown[] = options.sandboxed && stdout !== null ? child.stdio : [];
  giveFilter(stdio[FILTER_DESCRIPTOR], options.filter);
  const state: {
    byUs: boolean;
    exited: boolean;
    exceeded?: 'memory' | 'disk';
    ending?: Promise<void>;
    failedStart?: string;
  } = {
    byUs: false,
    exited: false,
  };
  const pipe = stdio[INFO_DESCRIPTOR];
  const inside = pipe instanceof Readable ? readInfo(pipe) : Promise.resolve(undefined);
  const drained = Promise.all([stdout, stderr].map((stream) => drain(stream, options.log)));
  const exited = new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      const why = `cannot start ${options.program}: ${error.message}`;
      options.log.note(why);
      if (PASSING.has(codeOf(error))) state.failedStart ??= why;
      resolve(null);
    });
    child.once('exit', (code, signal) => resolve(code ?? (signal === null ? null : 128 + constants.signals[signal])));
  });
  const end = (graceMs = GRACE_MS): Promise<void> => {
    // The process id may belong to another process by now.
    if (state.exited) return Promise.resolve();
    state.byUs = true;
    return (state.ending ??= child.pid === undefined ? Promise.resolve() : endTree(child.pid, exited, graceMs));
  };
  const stopWatching =
    options.watch && child.pid !== undefined ? watchResources(child.pid, inside, options.watch, exceed) : undefined;
  function exceed(what: 'memory' | 'disk', detail: string): void {
    if (state.exceeded || state.byUs) return;
    state.exceeded = what;
    options.log.note(detail);
    // The limit is already exceeded: no grace period.
    void end(0);
  }
  const onAbort = (): void => void end();
  if (options.signal?.aborted) onAbort();
  else options.signal?.addEventListener('abort', onAbort, { once: true });

  // Last, because it may throw: the program must not run without its limits.
  const mark = child.pid === undefined ? undefined : markOf(child.pid);
  try {
    if (mark !== undefined) options.onStart?.(mark);
  } catch (error) {
    state.failedStart = `cannot start ${options.program}: its process cannot be recorded: ${messageOf(error)}`;
    options.log.note(state.failedStart);
    void end(0);
  }

  const conclude = async (): Promise<Ended> => {
    const code = await exited;
    state.exited = true;
    options.signal?.removeEventListener('abort', onAbort);
    stopWatching?.();
    await state.ending;
    // Nothing in the sandbox outlives its first process; wait for its end, after which no file changes.
    await gone(await inside);
    await Promise.race([drained, sleep(PIPES_MS)]);
    stdout?.destroy();
    stderr?.destroy();
    if (options.watch) await checkDiskAtEnd(options.watch, exceed);
    if (state.failedStart !== undefined) return { code: null, failedStart: state.failedStart };
    if (state.exceeded) return { code: null, exceeded: state.exceeded };
    const starved = !state.byUs && code === 128 + constants.signals.SIGKILL && oomKills() > killsBefore;
    return { code: state.byUs ? null : code, exceeded: starved ? 'memory' : undefined };
  };
  return { ended: conclude(), end };
}

/** Stops a program that an earlier worker started and recorded. */
export async function endRecorded(mark: ProcessMark): Promise<void> {
  if (!isAlive(mark)) return;
  killTree(mark.pid);
  await gone(mark);
}

async function endTree(pid: number, exited: Promise<unknown>, graceMs: number): Promise<void> {
  const tree = processTree(pid);
  // Remembered, because a child that outlives its parent is no longer a descendant.
  const marks = tree.map((member) => markOf(member.pid)).filter((mark) => mark !== undefined);
  if (graceMs > 0) {
    // bubblewrap itself dies of SIGTERM and kills the program before that can react.
    if (!tree.some(({ name }) => name === 'bwrap')) sendSignal(-pid, 'SIGTERM');
    else for (const member of tree) if (!SCAFFOLD.has(member.name)) sendSignal(member.pid, 'SIGTERM');
    await Promise.race([exited, sleep(graceMs, undefined, { ref: false })]);
  }
  // Also after its end: without a sandbox, its descendants may still run.
  killTree(pid);
  for (const mark of marks) if (isAlive(mark)) sendSignal(mark.pid, 'SIGKILL');
  await exited;
  for (const mark of marks) await gone(mark);
}

/** Programs that only start the sandboxed one. */
const SCAFFOLD: ReadonlySet<string> = new Set(['bwrap', 'nice', 'choom']);

function killTree(pid: number): void {
  const tree = processTree(pid);
  sendSignal(-pid, 'SIGKILL');
  for (const member of tree) sendSignal(member.pid, 'SIGKILL');
}

async function gone(mark: ProcessMark | undefined): Promise<void> {
  while (mark !== undefined && isAlive(mark)) await sleep(10);
}

/** The sandbox's first process, as bubblewrap reports it; `undefined` without a sandbox. */
async function readInfo(stream: Readable): Promise<ProcessMark | undefined> {
  const chunks: string[] = [];
  stream.setEncoding('utf8').on('data', (text: string) => chunks.push(text));
  return new Promise((resolve) => {
    // bubblewrap closes it before the program starts, or when it dies.
    stream.once('close', () => resolve(parseInfo(chunks.join(''))));
    stream.once('error', () => resolve(undefined));
  });
}

function parseInfo(text: string): ProcessMark | undefined {
  try {
    const parsed = infoSchema.safeParse(JSON.parse(text));
    return parsed.success ? markOf(parsed.data['child-pid']) : undefined;
  } catch {
    return undefined;
  }
}

function drain(stream: Readable | null, log: ProgramLog): Promise<void> {
  if (!stream) return Promise.resolve();
  const source = log.source();
  stream.on('data', (chunk: Buffer) => source.write(chunk));
  return new Promise((resolve) => {
    stream.once('close', () => {
      source.end();
      resolve();
    });
    stream.once('error', () => resolve());
  });
}
