// Remembers how far a job came before its worker ended or its API was unavailable, so that a finished training is never repeated.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { finalJobReasons, passingJobReasons, type JobOutcome, type JobSpec } from '../../ports.ts';
import { removeFolder } from './folders.ts';

/** How a job ended, with the key of the job that it was. */
export interface EndedJob {
  readonly key: string;
  readonly outcome: JobOutcome;
}

/** What a job has left is kept as long as the longest run may take, for a worker that comes back: eight days. */
const KEPT_MS = 8 * 86_400_000;
/** Files in the job's folder with its key: it was started; its program succeeded. */
const MARKERS = { started: 'started', finished: 'finished' } as const;

const endedSchema = z.object({
  key: z.string(),
  outcome: z.discriminatedUnion('status', [
    z.object({ status: z.literal('succeeded'), seconds: z.number(), log: z.string() }),
    z.object({ status: z.literal('timed-out'), log: z.string() }),
    z.object({
      status: z.literal('failed'),
      reason: z.enum([...finalJobReasons, ...passingJobReasons]),
      exitCode: z.number().nullable(),
      log: z.string(),
    }),
  ]),
}) satisfies z.ZodType<EndedJob>;

/** Everything that identifies a job, except the destination of its data. */
export function keyOf({ inputs, outputs, argv, lock, parameters, compute }: JobSpec): string {
  const what = inputs.map(({ name, sha256, unpack }) => [name, sha256, unpack ?? false]);
  return createHash('sha256')
    .update(JSON.stringify([what, outputs, argv, lock, parameters, compute]))
    .digest('hex');
}

/** Remembers jobs in the folder `outcomes`; their own folders are in `jobs`. */
export function openJobProgress({ jobs, outcomes }: { jobs: string; outcomes: string }) {
  const fileOf = (name: string): string => join(outcomes, `${name}.json`);
  const isMarked = async (marker: string, spec: JobSpec, folder: string): Promise<boolean> =>
    (await readFile(join(folder, marker), 'utf8').catch(() => '')) === keyOf(spec);

  return {
    /** The ends of jobs, by name. */
    ends: {
      async all(): Promise<readonly string[]> {
        const files = await readdir(outcomes).catch(() => []);
        return files.flatMap((file) => /^([a-z0-9-]+)\.json$/.exec(file)?.[1] ?? []);
      },

      async read(name: string): Promise<EndedJob | undefined> {
        const text = await readFile(fileOf(name), 'utf8').catch(() => undefined);
        return text === undefined ? undefined : endedSchema.safeParse(parsed(text)).data;
      },

      async write(name: string, ended: EndedJob): Promise<void> {
        await mkdir(outcomes, { recursive: true, mode: 0o700 });
        await replaceFile(fileOf(name), JSON.stringify(ended));
      },
    },

    async forget(name: string): Promise<void> {
      await rm(fileOf(name), { force: true });
    },

    markStarted: (spec: JobSpec, folder: string): Promise<void> =>
      replaceFile(join(folder, MARKERS.started), keyOf(spec)),

    /** Whether this exact job was started here and interrupted. */
    isStarted: (spec: JobSpec, folder: string): Promise<boolean> => isMarked(MARKERS.started, spec, folder),

    /** Records that the program succeeded: its outputs and log are kept until they are uploaded. */
    async markFinished(spec: JobSpec, folder: string): Promise<void> {
      await replaceFile(join(folder, MARKERS.finished), keyOf(spec));
      for (const name of ['in', 'scratch']) await removeFolder(join(folder, name));
    },

    /** Whether this exact job's program succeeded and only the upload of its outputs is missing. */
    isFinished: (spec: JobSpec, folder: string): Promise<boolean> => isMarked(MARKERS.finished, spec, folder),

    /** Removes old leftovers of jobs that were neither started again nor removed; `busy` has the names of running jobs. */
    async sweep(busy: ReadonlySet<string>): Promise<void> {
      for (const folder of [jobs, outcomes])
        for (const entry of await readdir(folder).catch(() => [])) {
          const path = join(folder, entry);
          const status = await stat(path).catch(() => undefined);
          const isOld = status !== undefined && Date.now() - status.mtimeMs > KEPT_MS;
          if (isOld && !busy.has(entry.replace(/\.json$/, ''))) await removeFolder(path);
        }
    },
  };
}

async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.draft`, text, { mode: 0o600 });
  await rename(`${path}.draft`, path);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
