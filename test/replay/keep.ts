// Stores recorded histories as files without machine-specific data, each with its digest, and never replaces one.
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { z } from 'zod';

const digests = join(import.meta.dirname, 'digests.json');
const listSchema = z.record(z.string(), z.object({ workflowId: z.string(), sha256: z.string() }));

/**
 * Writes the histories that are not stored yet, given as workflow ids by name.
 * @param own text that occurs only on this machine: a history that contains it is refused
 * @returns the names of the added histories
 */
export async function keepHistories(
  client: Client,
  found: Readonly<Record<string, string>>,
  own: readonly string[],
): Promise<readonly string[]> {
  const list = listSchema.parse(JSON.parse(await readFile(digests, 'utf8')));
  const fresh = Object.entries(found).filter(([name]) => !Object.hasOwn(list, name));
  for (const [name, workflowId] of fresh) {
    const history = await client.workflow.getHandle(workflowId).fetchHistory();
    const text = `${JSON.stringify(withoutTraces(JSON.parse(historyToJSON(history))), null, 1)}\n`;
    for (const trace of [`@${hostname()}`, ...own])
      if (decoded(text).includes(trace)) throw new Error(`${name} holds ${trace}: histories are for every machine`);
    await writeFile(join(import.meta.dirname, 'histories', `${name}.json`), text, { flag: 'wx' });
    list[name] = { workflowId, sha256: createHash('sha256').update(text).digest('hex') };
  }
  const sorted = Object.entries(list).sort(([a], [b]) => (a < b ? -1 : 1));
  await writeFile(digests, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`);
  return fresh.map(([name]) => name);
}

/** Removes data of this machine and this run, which replay does not read. */
function withoutTraces(value: unknown): unknown {
  // A worker's identity is also part of the name of its own task queue.
  if (typeof value === 'string') return value.replaceAll(`@${hostname()}`, '@recorded');
  if (Array.isArray(value)) return value.map(withoutTraces);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) => {
      if (key === 'stackTrace') return [];
      return [[key, withoutTraces(inner)]];
    }),
  );
}

/** The text with every payload decoded, to search it for forbidden text. */
const decoded = (text: string): string =>
  text.replace(/"data": ?"([A-Za-z0-9+/=]+)"/g, (_, data: string) => Buffer.from(data, 'base64').toString('utf8'));
