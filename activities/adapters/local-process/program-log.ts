// Stores a program's output: a size-limited file, the last 64 KiB in memory, progress lines apart; the output is untrusted.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { z } from 'zod';
import type { JobProgress } from '../../ports.ts';
import { messageOf } from '../../failures.ts';
import { createLineWriter } from './line-writer.ts';

export interface ProgramLog {
  /** One source of bytes (stdout or stderr): lines of different sources never mix. */
  source(): { write(chunk: Buffer): void; end(): void };
  /** Adds a line of the platform. */
  note(line: string): void;
  /** The last 64 KiB. */
  tail: () => string;
  close(): void;
}

const TAIL_BYTES = 64 * 1024;
const FILE_BYTES = 8 * 1024 * 1024;
/** Longer lines are split: a program may print gigabytes without a newline. */
const LINE_BYTES = 16 * 1024;
/** Progress lines beyond this number are ignored. */
const PROGRESS_LINES = 10_000;
const PROGRESS = '::progress ';

const progressSchema = z.object({
  done: z.number().nonnegative(),
  total: z.number().nonnegative(),
  message: z.string().max(500).default(''),
});

/**
 * Opens the log. After 8 MiB, only the tail is kept, and lines and progress are no longer reported. A full disk loses lines of the
 * file, which then says so, but not of the tail. Throws a retryable error if the file cannot be opened.
 */
export function openProgramLog(options: {
  path: string;
  /** Appends to the existing file, and starts the tail with its end. */
  keep?: boolean;
  onLine?: ((line: string) => void) | undefined;
  onProgress?: ((progress: JobProgress) => void) | undefined;
}): ProgramLog {
  const before = options.keep ? endOf(options.path) : '';
  const { file, size } = openFile(options.path, options.keep ? 'a' : 'w');
  const writer = createLineWriter();
  // `bytes` counts lost lines too: the limit spares the worker even while the disk is full.
  const state = { bytes: size, progress: 0, open: true, unwritten: [] as string[] };
  const tail = keepTail();
  tail.push(Buffer.from(before));

  const add = (line: string): void => {
    state.unwritten.push(`${line}\n`);
    options.onLine?.(line);
  };
  const keep = (line: string): void => {
    const bytes = Buffer.from(`${line}\n`);
    tail.push(bytes);
    if (state.bytes >= FILE_BYTES || !state.open) return;
    state.bytes += bytes.length;
    add(line);
    if (state.bytes >= FILE_BYTES) add(`(log truncated: it exceeds the limit of ${FILE_BYTES} bytes)`);
  };
  /** Writes the lines of a chunk together: one system call, however short they are. */
  const flush = (): void => {
    if (state.unwritten.length === 0) return;
    const lines = Buffer.from(state.unwritten.join(''));
    state.unwritten = [];
    writer.append(file, lines);
  };
  const take = (line: string): void => {
    const progress = parseProgress(line);
    if (progress === undefined) keep(line);
    else if (state.progress++ < PROGRESS_LINES) options.onProgress?.(progress);
  };
  return {
    source() {
      const lines = splitLines(take, () => state.bytes >= FILE_BYTES, tail.push);
      return {
        write(chunk) {
          lines.write(chunk);
          flush();
        },
        end() {
          lines.end();
          flush();
        },
      };
    },
    note(line) {
      keep(line);
      flush();
    },
    tail: tail.text,
    close() {
      if (state.open) writer.close(file);
      state.open = false;
    },
  };
}

function openFile(path: string, flags: 'a' | 'w'): { file: number; size: number } {
  try {
    const file = openSync(path, flags, 0o600);
    return { file, size: fstatSync(file).size };
  } catch (error) {
    // No space, no file descriptor left, or no permission: faults of this machine, which may pass.
    throw new Error(`the log of the program cannot be opened: ${messageOf(error)}`, { cause: error });
  }
}

/** The last lines of an earlier log; empty if there is none. */
function endOf(path: string): string {
  try {
    const file = openSync(path, 'r');
    try {
      const { size } = fstatSync(file);
      const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES));
      readSync(file, bytes, 0, bytes.length, size - bytes.length);
      return bytes.toString('utf8');
    } finally {
      closeSync(file);
    }
  } catch {
    return '';
  }
}

export function splitLines(
  take: (line: string) => void,
  isFull: () => boolean,
  push: (chunk: Buffer) => void,
): { write(chunk: Buffer): void; end(): void } {
  let rest: Buffer = Buffer.alloc(0);
  return {
    write(chunk) {
      // Beyond the limit, only the end of the data is kept and lines are not parsed, to spare the worker.
      if (isFull()) {
        push(rest);
        push(chunk);
        rest = Buffer.alloc(0);
        return;
      }
      let from = 0;
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (from < bytes.length) {
        const newline = bytes.indexOf(10, from);
        const end = newline === -1 ? bytes.length : newline;
        if (newline === -1 && end - from < LINE_BYTES) break;
        const to = Math.min(end, from + LINE_BYTES);
        take(readable(bytes.subarray(from, to)));
        from = to === newline ? to + 1 : to;
      }
      rest = Buffer.from(bytes.subarray(from));
    },
    end() {
      if (rest.length > 0) take(readable(rest));
      rest = Buffer.alloc(0);
    },
  };
}

/** The last bytes of a stream, in a ring: each byte is copied once, however short the pieces are. */
export function keepTail(): { push: (bytes: Buffer) => void; text: () => string } {
  const ring = Buffer.alloc(TAIL_BYTES);
  let length = 0;
  const push = (bytes: Buffer): void => {
    const last = bytes.subarray(-TAIL_BYTES);
    const copied = last.copy(ring, length % TAIL_BYTES);
    last.copy(ring, 0, copied);
    length += last.length;
  };
  const text = (): string => {
    const at = length % TAIL_BYTES;
    const bytes =
      length <= TAIL_BYTES
        ? ring.subarray(0, length)
        : fromCharacter(Buffer.concat([ring.subarray(at), ring.subarray(0, at)]));
    const lines = Buffer.from(bytes.toString('utf8').split('\n').map(clean).join('\n'));
    // Replacement characters are longer than the bytes they replace, so the text is truncated after decoding.
    return (lines.length <= TAIL_BYTES ? lines : fromCharacter(lines.subarray(-TAIL_BYTES))).toString('utf8');
  };
  return { push, text };
}

/** UTF-8 text without the rest of a character whose start was cut off: up to three bytes of the form 10xxxxxx. */
function fromCharacter(bytes: Buffer): Buffer {
  let from = 0;
  while (from < 3 && ((bytes[from] ?? 0) & 0xc0) === 0x80) from += 1;
  return bytes.subarray(from);
}

export function parseProgress(line: string): JobProgress | undefined {
  if (!line.startsWith(PROGRESS)) return undefined;
  try {
    return progressSchema.parse(JSON.parse(line.slice(PROGRESS.length)));
  } catch {
    return undefined;
  }
}

const readable = (bytes: Buffer): string => clean(bytes.toString('utf8'));

/** Removes terminal codes and control characters, which databases and consoles reject; keeps the last state of a redrawn line. */
function clean(line: string): string {
  let end = line.length;
  while (line[end - 1] === '\r') end -= 1;
  const state = line.slice(0, end);
  return state
    .slice(state.lastIndexOf('\r') + 1)
    .replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '\uFFFD');
}
