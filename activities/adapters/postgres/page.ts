// Pages of rows: the cursor says where the last row stands, so that a page stays right while rows are added.
import type { Page } from '../../records.ts';
import { failure } from '../../failures.ts';

const STANDARD = 100;
/** A row may hold some tens of kilobytes: a page stays in the tens of megabytes. */
const MOST = 1_000;

/** The number of rows a page has. */
export function limitOf(limit: number | undefined): number {
  return Math.min(Math.max(1, Math.trunc(limit ?? STANDARD) || STANDARD), MOST);
}

/** The ordinal to go on after. */
export function cursorOf({ after }: Page): number | undefined {
  if (after === undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(after)) throw noCursor();
  return Number(after);
}

/** Where a row stands in a sorted list: by a key as PostgreSQL writes it, and by its ordinal among equal ones. */
export interface Place {
  readonly key: string;
  readonly ordinal: number;
}

/** The cursor of a place in a list of this order. */
export const sortedCursor = (order: string, { key, ordinal }: Place): string =>
  Buffer.from(JSON.stringify([order, key, ordinal])).toString('base64url');

/** The place to go on after in a list of this order; `key` is what its keys look like. */
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

/** A cursor comes back from people: what none of ours looks like is refused. */
const noCursor = () =>
  failure(
    'InvalidInput',
    `"after" is no cursor of this list: take "next" from the page before, and keep filters and order`,
  );

/** The page made of one row more than were asked for: that there is one more means that there is a next page. */
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
