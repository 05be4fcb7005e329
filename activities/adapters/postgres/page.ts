// Pages of rows: the cursor is the last row's ordinal, so that a page stays right while rows are added.
import type { Page } from '../../records.ts';
import { failure } from '../../failures.ts';

const STANDARD = 100;
/** A row may hold some tens of kilobytes: a page stays in the tens of megabytes. */
const MOST = 1_000;

/** The number of rows a page has. */
export function limitOf(limit: number | undefined): number {
  return Math.min(Math.max(1, Math.trunc(limit ?? STANDARD) || STANDARD), MOST);
}

/** The ordinal to go on after. A cursor comes back from people: what none of ours looks like is refused. */
export function cursorOf({ after }: Page): number | undefined {
  if (after === undefined) return undefined;
  if (!/^[0-9]{1,15}$/.test(after))
    throw failure('InvalidInput', `"after" is no cursor of a page: take "next" from the page before`);
  return Number(after);
}

/** The page made of one row more than were asked for: that there is one more means that there is a next page. */
export function pageOf<Row, T>(
  found: readonly Row[],
  limit: number,
  ordinal: (row: Row) => number,
  value: (row: Row) => T,
): { rows: readonly T[]; next?: string } {
  const rows = found.slice(0, limit);
  const last = rows.at(-1);
  return { rows: rows.map(value), ...(found.length > limit && last !== undefined && { next: String(ordinal(last)) }) };
}
