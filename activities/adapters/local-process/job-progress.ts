// Remembers how far a job came before its worker ended or its API was unavailable, so that a finished training is never repeated.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { JobOutcome, JobSpec } from '../../ports.ts';
import { removeFolder } from './folders.ts';

type Succeeded = Extract<JobOutcome, { status: 'succeeded' }>;

/** Remembered outcomes: more than a small machine finishes while one of its workers is down. */
const REMEMBERED = 200;
/** Outputs waiting for upload are kept as long as the activity of the longest run may take: eight days. */
const WAITING_MS = 8 * 86_400_000;
/** Marker file in the job's folder: its program succeeded. */
const MARKER = 'finished';

const rememberedSchema = z.object({
  key: z.string(),
  outcome: z.object({ status: z.literal('succeeded'), seconds: z.number(), log: z.string() }),
});

/** Everything that identifies a job, except the destination of its data and its token. */
function keyOf({ inputs, outputs, argv, lock, parameters, compute }: JobSpec): string {
  const what = inputs.map(({ name, sha256, unpack }) => [name, sha256, unpack ?? false]);
  return createHash('sha256')
    .update(JSON.stringify([what, outputs, argv, lock, parameters, compute]))
    .digest('hex');
}

/** Remembers jobs in the folder `outcomes`; their own folders are in `jobs`. */
export function openJobProgress({ jobs, outcomes }: { jobs: string; outcomes: string }) {
  const fileOf = ({ name }: JobSpec): string => join(outcomes, `${name}.json`);

  return {
    /** Whether this exact job succeeded and its outputs are delivered. */
    async outcomeOf(spec: JobSpec): Promise<Succeeded | undefined> {
      const text = await readFile(fileOf(spec), 'utf8').catch(() => undefined);
      const remembered = text === undefined ? undefined : rememberedSchema.safeParse(parsed(text)).data;
      return remembered?.key === keyOf(spec) ? remembered.outcome : undefined;
    },

    async remember(spec: JobSpec, outcome: Succeeded): Promise<void> {
      await mkdir(outcomes, { recursive: true, mode: 0o700 });
      const draft = join(outcomes, `.${spec.name}.draft`);
      await writeFile(draft, JSON.stringify({ key: keyOf(spec), outcome }), { mode: 0o600 });
      await rename(draft, fileOf(spec));
      const kept = await byAge(outcomes, (name) => join(outcomes, name));
      for (const { path } of kept.slice(REMEMBERED)) await rm(path, { force: true });
    },

    async forget(spec: JobSpec): Promise<void> {
      await rm(fileOf(spec), { force: true });
    },

    /** Whether this exact job's program succeeded and only the upload of its outputs is missing. */
    async isFinished(spec: JobSpec, folder: string): Promise<boolean> {
      return (await readFile(join(folder, MARKER), 'utf8').catch(() => undefined)) === keyOf(spec);
    },

    /** Records that the program succeeded: its outputs and log are kept until they are uploaded. */
    async markFinished(spec: JobSpec, folder: string): Promise<void> {
      const draft = join(folder, `${MARKER}.draft`);
      await writeFile(draft, keyOf(spec), { mode: 0o600 });
      await rename(draft, join(folder, MARKER));
      for (const name of ['in', 'scratch']) await removeFolder(join(folder, name));
    },

    /** Removes outputs that were never uploaded; `busy` lists folders in use. */
    async sweep(busy: ReadonlySet<string>): Promise<void> {
      for (const { path, at } of await byAge(jobs, (name) => join(jobs, name, MARKER))) {
        const folder = join(path, '..');
        if (Date.now() - at > WAITING_MS && !busy.has(folder)) await removeFolder(folder);
      }
    },
  };
}

export type JobProgressBook = ReturnType<typeof openJobProgress>;

/** The existing paths below a folder, newest first. */
async function byAge(folder: string, pathOf: (name: string) => string): Promise<{ path: string; at: number }[]> {
  const found: { path: string; at: number }[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    const status = await stat(pathOf(name)).catch(() => undefined);
    if (status) found.push({ path: pathOf(name), at: status.mtimeMs });
  }
  return found.sort((a, b) => b.at - a.at);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
