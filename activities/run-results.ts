// Reads a job's results from the areas, with digests. Reading is tolerant, because a finished training must not be lost over a detail.
import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { z } from 'zod';
import { digestMismatch } from '../workflows/domain/digest-mismatch.ts';
import type { Artifact } from '../workflows/domain/model.ts';
import type { Digest, Location } from '../workflows/domain/names.ts';
import { failure } from './failures.ts';
import { once } from './model-center.ts';
import { storePath } from './place.ts';
import type { ArtifactStore } from './ports.ts';

/** Largest text that is read: the curves of a report are thinned to 200 points. */
const TEXT_LIMIT = 2 * 2 ** 20;

const reportSchema = z.object({
  v: z.literal(1),
  model: z.object({ sha256: z.string() }),
  metrics: z.record(z.string().max(64), z.number().nullable()),
  passed: z.boolean(),
});

/** Reads and writes files at locations in the areas. */
export function openResults(areas: ArtifactStore) {
  return {
    /** The file's URI, size and digest; `NotFound` if it does not exist. */
    async artifactAt(location: Location, signal: AbortSignal) {
      const uri = areas.uri(storePath(location));
      const found = await areas.stat(uri);
      if (!found)
        throw failure('NotFound', `there is no ${location.path} in the ${location.area} area of ${location.project}`);
      return { uri, sha256: await areas.digest(uri, signal), bytes: found.bytes };
    },

    /** A file's text, up to 2 MiB; `DigestMismatch` if the file has other bytes than recorded. */
    async textOf({ uri, sha256, bytes }: Artifact, signal: AbortSignal): Promise<string> {
      const read = await buffer(await areas.read(uri, { range: { start: 0, end: TEXT_LIMIT }, signal }));
      if (bytes <= TEXT_LIMIT) {
        const found = createHash('sha256').update(read).digest('hex');
        if (found !== sha256) throw failure('DigestMismatch', digestMismatch(uri, found, sha256));
      }
      return read.toString('utf8');
    },

    /** Writes a text file atomically, replacing an earlier one. */
    async keep(location: Location, text: string, signal: AbortSignal) {
      return areas.write(storePath(location), once(Buffer.from(text)), { ifExists: 'replace', signal });
    },
  };
}

/**
 * The figures in a run's metrics.json. Anything except finite numbers with short names is skipped and noted: Python
 * writes `NaN` and `Infinity`, which are not JSON, and such a value must not fail the run.
 */
export function readMetrics(text: string): { metrics: Readonly<Record<string, number>>; notes: readonly string[] } {
  const found = parseJson(
    text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, (token) => (token.startsWith('"') ? token : 'null')),
  );
  if (typeof found !== 'object' || found === null || Array.isArray(found))
    return { metrics: {}, notes: ['metrics.json is not a JSON object of numbers: the run has no metrics'] };
  const metrics: Record<string, number> = {};
  const notes: string[] = [];
  for (const [name, value] of Object.entries(found))
    if (typeof value === 'number' && Number.isFinite(value) && name.length <= 64) metrics[name] = value;
    else
      notes.push(
        `metrics.json: ${JSON.stringify(name.slice(0, 64))} is skipped: it is not a finite number, or its name is longer than 64 characters`,
      );
  return { metrics, notes };
}

/** The report of an evaluation; `DigestMismatch` if it is about other bytes. */
export function readReport(text: string, digest: Digest): z.output<typeof reportSchema> {
  const parsed = reportSchema.safeParse(parseJson(text));
  if (!parsed.success)
    throw failure('JobFailed', `the job's report.json is malformed: ${parsed.error.message.slice(0, 500)}`);
  const { sha256 } = parsed.data.model;
  if (sha256 !== digest) throw failure('DigestMismatch', digestMismatch('the model of the report', sha256, digest));
  return parsed.data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
