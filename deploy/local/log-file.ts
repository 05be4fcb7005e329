// A child's log on disk: HOME/logs/NAME.log, appended to at each start and rotated at a size limit; at most two files.
import { existsSync, fstatSync, mkdirSync, openSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { createLineWriter } from '../../activities/adapters/local-process/line-writer.ts';

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
 * is renamed to NAME.1.log. Lines that cannot be written are dropped; the log says so as soon as it can be written again.
 */
export function openLogFile(folder: string, name: string, limitBytes = mostBytes): LogFile {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `${name}.log`);
  const open = (): number => openSync(path, 'a', 0o600);
  const writer = createLineWriter();
  const file = open();
  const state = { file, bytes: fstatSync(file).size, open: true, last: [] as string[] };
  const rotate = (): void => {
    // Missing if somebody removed it, or if an earlier rotation moved it but could not open the next file.
    if (existsSync(path)) renameSync(path, join(folder, `${name}.1.log`));
    const next = open();
    writer.close(state.file);
    Object.assign(state, { file: next, bytes: 0 });
  };
  return {
    path,
    write: (line) => {
      if (!state.open) return;
      state.last = [...state.last, line].slice(-tailLines);
      const bytes = Buffer.from(`${line}\n`);
      try {
        if (state.bytes > 0 && state.bytes + bytes.length > limitBytes) rotate();
      } catch (error) {
        // A log that cannot be rotated must neither grow nor end the supervisor.
        writer.drop(bytes, error);
        return;
      }
      state.bytes += writer.append(state.file, bytes);
    },
    tail: () => state.last,
    close: () => {
      if (state.open) writer.close(state.file);
      state.open = false;
    },
  };
}
