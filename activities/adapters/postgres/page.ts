// Pages of rows. The cursor holds the last row's position, so that pages stay correct while rows are added.
import type { Page } from '../../records.ts';
import { failure } from '../../failures.ts';

const STANDARD = 100;
/** A row may have some tens of kilobytes, so a page stays in the tens of megabytes. */
const MOST = 1_000;

/** The number of rows on a page. */
export function limitOf(limit: number | undefined): number {
  return Math.min(Math.max(1, Math.trunc(limit ?? STANDARD) || STANDARD), MOST);
}

/** The ordinal to continue after. */
export function cursorOf({ after }: Page): number | undefined {
  if (after === undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(after)) throw noCursor();
  return Number(after);
}

/** A row's position in a sorted list: its key as PostgreSQL text, and its ordinal among equal keys. */
export interface Place {
  readonly key: string;
  readonly ordinal: number;
}

/** The cursor for a position in a list with this order. */
export const sortedCursor = (order: string, { key, ordinal }: Place): string =>
  Buffer.from(JSON.stringify([order, key, ordinal])).toString('base64url');

/** The position to continue after in a list with this order. `key` is the format of its keys. */
export function placeOf({ after }: Page, order: string, key: RegExp): Place | undefined {
  if (after === undefined) return undefined;
  const parts = partsOf(after);
  const [of, at, ordinal] = parts;
  if (parts.length !== 3 || of !== order || typeof at !== 'string' || !key.test(at)) throw noCursor();
  if (typeof ordinal !== 'number' || !Number.isSafeInteger(ordinal)) throw noCursor();
  return { key: at, ordinal };
}

function partsOf(cursor: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    return Array.isArray(parts) ? parts : [];
  } catch {
    return [];
  }
}

/** Cursors come back from callers, so malformed ones are refused. */
const noCursor = () =>
  failure(
    'InvalidInput',
    `"after" is not a cursor of this list: use "next" of the previous page, with the same filters and order`,
  );

/** Makes a page from a query for one row more than requested: an extra row means that there is a next page. */
export function cutPage<Row, T>(
  found: readonly Row[],
  limit: number,
  cursor: (row: Row) => string | number,
  value: (row: Row) => T,
): { rows: readonly T[]; next?: string } {
  const rows = found.slice(0, limit);
  const last = rows.at(-1);
  return { rows: rows.map(value), ...(found.length > limit && last !== undefined && { next: String(cursor(last)) }) };
}
