// Appends lines to a log file: a full or failing disk loses lines, but not the process that writes them.
import { closeSync, writeSync } from 'node:fs';
import { codeOf, messageOf } from '../../failures.ts';

export interface LineWriter {
  /**
   * Appends whole lines (each with its newline); returns the number of bytes written. Lines that the disk refuses are dropped; the
   * log says how many are missing as soon as it can be written again. Throws other errors than `DISK_TROUBLE`.
   */
  append(file: number, lines: Buffer): number;
  /** Counts lines as missing, without an attempt to write them. */
  drop(lines: Buffer, error: unknown): void;
  /** Closes the file; the last lines of the log say whether lines before them are missing, if that can be written. */
  close(file: number): void;
}

/** A disk without space (also for new files), over its quota, damaged, or made read-only by the system because of that. */
const DISK_TROUBLE: ReadonlySet<unknown> = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS']);
const NOTHING = Buffer.alloc(0);
const NEWLINE = 10;

type Write = (file: number, bytes: Buffer, offset: number) => number;

/** A writer for one log, whose file may change. `write`: for tests; default: the system's. */
export function createLineWriter(write: Write = writeSync): LineWriter {
  const state = { missing: 0, reason: '', torn: false };

  const put = (file: number, bytes: Buffer): number => {
    let done = 0;
    try {
      while (done < bytes.length) done += write(file, bytes, done);
    } catch (error) {
      if (!DISK_TROUBLE.has(codeOf(error))) throw error;
      state.reason = messageOf(error);
      if (done > 0) state.torn = bytes[done - 1] !== NEWLINE;
    }
    return done;
  };
  const append = (file: number, lines: Buffer): number => {
    const notice = noticeOf(state);
    const noted = put(file, notice);
    if (noted < notice.length) {
      state.missing += linesIn(lines);
      return noted;
    }
    Object.assign(state, { missing: 0, torn: false });
    const done = put(file, lines);
    state.missing = linesIn(lines.subarray(done));
    return noted + done;
  };
  return {
    append,
    drop(lines, error) {
      state.missing += linesIn(lines);
      state.reason = messageOf(error);
    },
    close(file) {
      append(file, NOTHING);
      try {
        closeSync(file);
      } catch (error) {
        // Network file systems report a full disk only now; the file is closed nevertheless.
        if (!DISK_TROUBLE.has(codeOf(error))) throw error;
      }
    },
  };
}

function noticeOf({ missing, reason, torn }: { missing: number; reason: string; torn: boolean }): Buffer {
  if (missing === 0) return NOTHING;
  const lines = missing === 1 ? '1 line is' : `${missing} lines are`;
  return Buffer.from(`${torn ? '\n' : ''}(log incomplete: ${lines} missing here; writing failed: ${reason})\n`);
}

function linesIn(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}
