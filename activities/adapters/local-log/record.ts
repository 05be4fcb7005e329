// One record of a topic's log: a line of JSON that ends with a checksum, so that a torn or damaged line is detected.
import { crc32 } from 'node:zlib';
import { z } from 'zod';

const recordSchema = z.object({ key: z.string(), at: z.string(), event: z.unknown() });
export type LogRecord = z.infer<typeof recordSchema>;

/** Largest event with its key, in bytes of JSON: Kafka's default message limit, so that events fit both buses. */
export const RECORD_LIMIT = 1_000_000;

/** `,"crc":"01234567"}`: follows the text that the checksum covers. */
const SEAL = /^,"crc":"([0-9a-f]{8})"\}$/;
const SEAL_BYTES = 18;

/** Encodes a record as a line, with its newline. */
export function encodeRecord(record: LogRecord): Buffer {
  const body = Buffer.from(JSON.stringify(record).slice(0, -1));
  return Buffer.concat([body, Buffer.from(`,"crc":"${seal(body)}"}\n`)]);
}

/** Decodes a line (without its newline); `undefined` if it is torn or damaged. */
export function decodeRecord(line: Buffer): LogRecord | undefined {
  const body = line.subarray(0, Math.max(0, line.byteLength - SEAL_BYTES));
  const [, sum] = SEAL.exec(line.subarray(body.byteLength).toString('latin1')) ?? [];
  if (sum === undefined || sum !== seal(body)) return undefined;
  try {
    return recordSchema.parse(JSON.parse(`${body.toString()}}`));
  } catch {
    return undefined;
  }
}

const seal = (body: Uint8Array): string => crc32(body).toString(16).padStart(8, '0');
