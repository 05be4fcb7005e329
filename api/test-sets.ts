// Checks a test set when it is registered, because later it can be neither changed nor, if it is invalid, used.
import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import type { Digest } from '../workflows/domain/names.ts';
import { isZipped } from '../workflows/domain/labelled-rows.ts';
import type { InputForm, Row } from './test-set-row.ts';
import { readRow, RowProblem, shown } from './test-set-row.ts';

export interface TestSetLimits {
  /** Bytes of a line with its line break: the limit of the evaluation job, with ample room for a source file or an image. */
  readonly lineBytes: number;
  /** The digest of every id is in memory: about 100 bytes a row. */
  readonly rows: number;
}
export const TEST_SET_LIMITS: TestSetLimits = { lineBytes: 32 << 20, rows: 1_000_000 };

/** Milliseconds of work after which other requests get their turn. */
const TURN_MS = 10;

/** Why a test set is refused. */
export class TestSetProblem extends Error {
  override readonly name = 'TestSetProblem';
}

/**
 * Checks a test set row by row, in bounded memory and in turns with other work, and returns the digest of the bytes.
 * Throws {@link TestSetProblem}, with the line. A test set that passes is refused by an evaluation only if it does not
 * fit the model.
 */
export async function checkTestSet(
  file: { readonly name: string },
  source: AsyncIterable<Uint8Array>,
  { signal, limits = TEST_SET_LIMITS }: { readonly signal?: AbortSignal; readonly limits?: TestSetLimits } = {},
): Promise<Digest> {
  const hash = createHash('sha256');
  const read: { bytes: number; failed?: { readonly error: unknown } } = { bytes: 0 };
  const hashed = async function* (): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of source) {
        hash.update(piece);
        read.bytes += piece.byteLength;
        yield piece;
      }
    } catch (error) {
      read.failed = { error };
      throw error;
    }
  };
  const rows = createRows(limits);
  if (!isZipped(file)) await rows.readAll(hashed());
  else {
    const unzip = createGunzip();
    const failed = await outcome(
      pipeline(hashed, unzip, (pieces: AsyncIterable<Uint8Array>) => rows.readAll(pieces), {
        ...(signal && { signal }),
      }),
    );
    if (read.failed) throw read.failed.error;
    const { code = '', message = '' } = described(failed?.error);
    // Node ends at zero bytes, silently or by closing the stream, and would leave out compressed data behind them.
    if (code === 'ERR_STREAM_PREMATURE_CLOSE' || (!failed && unzip.bytesWritten < read.bytes))
      throw new TestSetProblem('has other bytes after its compressed data');
    if (code.startsWith('Z_')) throw at(rows.lines() + 1, `cannot be decompressed (${message})`);
    if (failed) throw failed.error;
  }
  rows.end();
  return hash.digest('hex') as Digest;
}

/** Checks the lines of one test set. */
function createRows({ lineBytes, rows: most }: TestSetLimits) {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const ids = new Set<string>();
  const forms = new Map<string, InputForm>();
  let [number, blank, turnEnds] = [0, 0, performance.now() + TURN_MS];

  async function turn(): Promise<void> {
    if (performance.now() < turnEnds) return;
    await setImmediate();
    turnEnds = performance.now() + TURN_MS;
  }

  async function readLine(bytes: Buffer): Promise<void> {
    number += 1;
    // Editors begin files with a byte order mark, and end them with blank lines.
    const line = number === 1 && bytes.indexOf('\uFEFF') === 0 ? bytes.subarray(3) : bytes;
    if (isBlank(line)) {
      blank ||= number;
      return turn();
    }
    if (blank > 0) throw at(blank, 'is blank, and only the last lines may be blank');
    if (ids.size === most) throw at(number, `is one row more than the limit of ${most} rows`);
    try {
      const reading = readRow(textOf(line));
      for (let step = reading.next(); ; step = reading.next()) {
        await turn();
        if (step.done) return take(step.value);
      }
    } catch (error) {
      throw error instanceof RowProblem ? at(number, error.message) : error;
    }
  }

  function textOf(line: Buffer): string {
    try {
      return decoder.decode(line);
    } catch {
      throw new RowProblem('is not valid UTF-8');
    }
  }

  function take({ id, inputs }: Row): void {
    // UTF-16 keeps lone surrogates apart, which UTF-8 would replace.
    const key = createHash('sha256').update(id, 'utf16le').digest('binary');
    if (ids.has(key)) throw new RowProblem('has the id of an earlier row: each row must have a unique id');
    const isFirst = ids.size === 0;
    ids.add(key);
    for (const [name, { values, kinds }] of inputs) {
      const known = forms.get(name) ?? (isFirst ? { values, kinds } : undefined);
      if (!known) throw new RowProblem(`has the input ${shown(name)}, which the first row does not have`);
      if (known.values !== values)
        throw new RowProblem(`has ${values} values in input ${shown(name)}, and the first row has ${known.values}`);
      const common = known.kinds & kinds;
      if (common === 0)
        throw new RowProblem(
          `has values in input ${shown(name)} that have no datatype in common with those of earlier rows`,
        );
      forms.set(name, { values, kinds: common });
    }
    for (const name of inputs.size < forms.size ? forms.keys() : [])
      if (!inputs.has(name)) throw new RowProblem(`has no input ${shown(name)}, which the first row has`);
  }

  return {
    /** Complete lines so far. */
    lines: () => number,

    async readAll(pieces: AsyncIterable<Uint8Array>): Promise<void> {
      let [begun, length]: [Buffer[], number] = [[], 0];
      const add = (part: Buffer): void => {
        length += part.length;
        if (length > lineBytes) throw at(number + 1, `is longer than ${lineBytes} bytes`);
        begun.push(part);
      };
      for await (const given of pieces) {
        const piece = Buffer.from(given.buffer, given.byteOffset, given.byteLength);
        let from = 0;
        for (let end = piece.indexOf(0x0a); end !== -1; end = piece.indexOf(0x0a, from)) {
          add(piece.subarray(from, end + 1));
          await readLine(begun.length === 1 && begun[0] ? begun[0] : Buffer.concat(begun));
          [begun, length, from] = [[], 0, end + 1];
        }
        if (from < piece.length) add(piece.subarray(from));
        await turn();
      }
      if (length > 0) await readLine(Buffer.concat(begun));
    },

    /** Call it after the last line. */
    end(): void {
      if (ids.size === 0) throw new TestSetProblem('has no rows');
    },
  };
}

const at = (line: number, what: string) => new TestSetProblem(`line ${line} ${what}`);

/** The bytes that the evaluation job's reader takes for white space. */
function isBlank(line: Buffer): boolean {
  for (const byte of line) if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return false;
  return true;
}

/** What went wrong; `undefined` if nothing did. */
const outcome = (done: Promise<unknown>): Promise<{ readonly error: unknown } | undefined> =>
  done.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );

/** The code and message of an error of Node's. */
const described = (error: unknown): { readonly code?: string; readonly message?: string } =>
  typeof error === 'object' && error !== null ? error : {};
