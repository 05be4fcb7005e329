// A child's log on disk: HOME/logs/NAME.log, appended to at each start and rotated at a size limit; at most two files.
import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Two files of 10 MB cover some days, and a runaway child cannot fill the disk. */
const mostBytes = 10 * 1024 * 1024;
const tailLines = 20;

export type LogFile = {
  readonly path: string;
  readonly write: (line: string) => void;
  /** The last lines written, for a message that says why a child died. */
  readonly tail: () => readonly string[];
  readonly close: () => void;
};

/**
 * Opens a child's log and appends to it, so that a crash can be read about after the next start. A log that reaches the limit
 * is renamed to NAME.1.log.
 */
export function openLogFile(folder: string, name: string, limitBytes = mostBytes): LogFile {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `${name}.log`);
  const open = (): number => openSync(path, 'a', 0o600);
  const file = open();
  const state = { file, bytes: fstatSync(file).size, open: true, last: [] as string[] };
  return {
    path,
    write: (line) => {
      if (!state.open) return;
      const bytes = Buffer.from(`${line}\n`);
      if (state.bytes > 0 && state.bytes + bytes.length > limitBytes) {
        closeSync(state.file);
        renameSync(path, join(folder, `${name}.1.log`));
        state.file = open();
        state.bytes = 0;
      }
      writeSync(state.file, bytes);
      state.bytes += bytes.length;
      state.last = [...state.last, line].slice(-tailLines);
    },
    tail: () => state.last,
    close: () => {
      if (state.open) closeSync(state.file);
      state.open = false;
    },
  };
}
