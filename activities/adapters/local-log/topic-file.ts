// A topic's log file: appending under the topic's lock, truncating a torn end, reading from a position.
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { failure } from '../../failures.ts';
import { FILE_MODE, unless, writeAll } from '../durable-file.ts';
import { decodeRecord, RECORD_LIMIT, type LogRecord } from './record.ts';

const NEWLINE = 0x0a;
/** Maximum read size; fits more than two records of the largest size. */
const WINDOW = 2 * RECORD_LIMIT + 64 * 1024;
/** First read at a file's end: most records are far smaller than the limit. */
const SMALL_WINDOW = 64 * 1024;

/** One line of the log; `record` is missing if the line is damaged. Positions are in bytes. */
export interface LogEntry {
  readonly position: number;
  readonly next: number;
  readonly record?: LogRecord;
}

/**
 * Appends lines and returns the position of each once they are durable. The caller must hold the topic's lock.
 * `end` is where the caller's last append ended: if the file still ends there, its end needs no check.
 */
export async function appendLines(
  file: string,
  lines: readonly Buffer[],
  end: number | undefined,
): Promise<{ positions: readonly number[]; end: number }> {
  const handle = await open(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, FILE_MODE);
  try {
    const { size } = await handle.stat();
    const start = size === end ? size : await soundEnd(handle, size, file);
    if (start < size) await handle.truncate(start);
    await writeAll(handle, Buffer.concat(lines), start);
    await handle.datasync();
    const positions: number[] = [];
    let at = start;
    for (const line of lines) {
      positions.push(at);
      at += line.byteLength;
    }
    return { positions, end: at };
  } finally {
    await handle.close();
  }
}

/** The end of the last intact record. Bytes after it were never acknowledged: their writer died. */
async function soundEnd(handle: FileHandle, size: number, file: string): Promise<number> {
  if (size === 0) return 0;
  for (const window of [SMALL_WINDOW, WINDOW]) {
    const start = Math.max(0, size - window);
    const bytes = await readAt(handle, start, size - start);
    let end = bytes.lastIndexOf(NEWLINE) + 1;
    while (end > 0) {
      const before = end >= 2 ? bytes.lastIndexOf(NEWLINE, end - 2) + 1 : 0;
      if (decodeRecord(bytes.subarray(before, end - 1))) return start + end;
      end = before;
    }
    if (start === 0) return 0;
  }
  throw failure(
    'Corrupt',
    `the last ${WINDOW} bytes of ${file} contain no intact record: restore the file from a backup, or move it to another folder`,
  );
}

/** The complete lines from a position on; empty if there are none yet. They are durable when this returns. */
export async function readEntries(file: string, position: number): Promise<readonly LogEntry[]> {
  const handle = await unless(['ENOENT'], open(file, constants.O_RDONLY | constants.O_NOFOLLOW));
  if (!handle) return [];
  try {
    const { size } = await handle.stat();
    if (size <= position) return [];
    const bytes = await readAt(handle, position, Math.min(WINDOW, size - position));
    const entries = split(bytes, position);
    if (entries.length === 0 && bytes.byteLength === WINDOW) return [{ position, next: position + WINDOW }];
    // Damage at the very end may be a torn write that the next publisher truncates: wait instead of skipping it.
    while (position + bytes.byteLength >= size && entries.length > 0 && !entries.at(-1)?.record) entries.pop();
    // A reader must not act on data that a power failure could still undo.
    if (entries.length > 0) await handle.datasync();
    return entries;
  } finally {
    await handle.close();
  }
}

function split(bytes: Buffer, position: number): LogEntry[] {
  const entries: LogEntry[] = [];
  for (let at = 0, end = 0; (end = bytes.indexOf(NEWLINE, at)) >= 0; at = end + 1) {
    const record = decodeRecord(bytes.subarray(at, end));
    entries.push({ position: position + at, next: position + end + 1, ...(record && { record }) });
  }
  return entries;
}

/** Why reading cannot continue at a stored position; `undefined` if it can. */
export async function positionProblem(file: string, position: number): Promise<string | undefined> {
  if (position === 0) return undefined;
  const handle = await unless(['ENOENT'], open(file, constants.O_RDONLY | constants.O_NOFOLLOW));
  if (!handle) return `${file} is missing`;
  try {
    const before = await readAt(handle, position - 1, 1);
    if (before.byteLength === 0) return `${file} is shorter than the stored offset`;
    return before[0] === NEWLINE ? undefined : `${file} was replaced: no record starts at the stored offset`;
  } finally {
    await handle.close();
  }
}

async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
