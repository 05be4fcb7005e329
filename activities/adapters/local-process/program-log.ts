// Stores a program's output: a size-limited file, the last 64 KiB in memory, progress lines apart; the output is untrusted.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { z } from 'zod';
import type { JobProgress } from '../../ports.ts';

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

/** Opens the log. After 8 MiB, only the tail is kept, and lines and progress are no longer reported. */
export function openProgramLog(options: {
  path: string;
  /** Appends to the existing file, and starts the tail with its end. */
  keep?: boolean;
  onLine?: ((line: string) => void) | undefined;
  onProgress?: ((progress: JobProgress) => void) | undefined;
}): ProgramLog {
  const before = options.keep ? endOf(options.path) : '';
  const file = openSync(options.path, options.keep ? 'a' : 'w', 0o600);
  const state = { written: fstatSync(file).size, progress: 0, open: true };
  const lines = keepTail();
  if (before) lines.push(before);

  const keep = (line: string): void => {
    lines.push(`${line}\n`);
    if (state.written >= FILE_BYTES || !state.open) return;
    state.written += writeSync(file, `${line}\n`);
    options.onLine?.(line);
    if (state.written < FILE_BYTES) return;
    const cut = `(log truncated: it exceeds the limit of ${FILE_BYTES} bytes)`;
    writeSync(file, `${cut}\n`);
    options.onLine?.(cut);
  };
  const take = (line: string): void => {
    const progress = parseProgress(line);
    if (progress === undefined) keep(line);
    else if (state.progress++ < PROGRESS_LINES) options.onProgress?.(progress);
  };
  return {
    source: () => splitLines(take, () => state.written >= FILE_BYTES, lines.pushRaw),
    note: keep,
    tail: lines.text,
    close: () => {
      if (state.open) closeSync(file);
      state.open = false;
    },
  };
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
  pushRaw: (chunk: Buffer) => void,
): { write(chunk: Buffer): void; end(): void } {
  let rest: Buffer = Buffer.alloc(0);
  return {
    write(chunk) {
      // Beyond the limit, only the end of the data is kept and lines are not parsed, to spare the worker.
      if (isFull()) {
        pushRaw(rest);
        pushRaw(chunk);
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

export function keepTail(): { push: (line: string) => void; pushRaw: (chunk: Buffer) => void; text: () => string } {
  const kept: Buffer[] = [];
  let bytes = 0;
  const pushRaw = (chunk: Buffer): void => {
    kept.push(chunk);
    bytes += chunk.length;
    while (kept[0] !== undefined && bytes - kept[0].length >= TAIL_BYTES) bytes -= kept.shift()?.length ?? 0;
  };
  const text = (): string => {
    const lines = Buffer.concat(kept).toString('utf8').split('\n').map(clean).join('\n');
    // Replacement characters are longer than the bytes they replace, so the text is truncated after decoding.
    return Buffer.byteLength(lines) <= TAIL_BYTES
      ? lines
      : Buffer.from(lines)
          .subarray(-TAIL_BYTES)
          .toString('utf8')
          .replace(/^\uFFFD+/, '');
  };
  return { push: (line) => pushRaw(Buffer.from(line)), pushRaw, text };
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
  return line
    .replace(/\r+$/, '')
    .replace(/^.*\r/, '')
    .replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, '')
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '\uFFFD');
}
