// How far a job had come when its worker ended or its API was unavailable: a finished training is never run again.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { JobOutcome, JobSpec } from '../../ports.ts';
import { removeFolder } from './folders.ts';

type Succeeded = Extract<JobOutcome, { status: 'succeeded' }>;

/** Outcomes that are remembered: more than a small machine finishes while one of its workers is away. */
const REMEMBERED = 200;
/** Outputs that wait for their upload are kept for as long as the activity of the longest run may take: eight days. */
const WAITING_MS = 8 * 86_400_000;
/** In the job's folder: its program has ended well. */
const MARKER = 'finished';

const rememberedSchema = z.object({
  key: z.string(),
  outcome: z.object({ status: z.literal('succeeded'), seconds: z.number(), log: z.string() }),
});

/** What makes two jobs of one name the same: everything but where their data goes and by which token. */
function keyOf({ inputs, outputs, argv, lock, parameters, compute }: JobSpec): string {
  const what = inputs.map(({ name, sha256, unpack }) => [name, sha256, unpack ?? false]);
  return createHash('sha256')
    .update(JSON.stringify([what, outputs, argv, lock, parameters, compute]))
    .digest('hex');
}

/** Remembers jobs in the folder `outcomes`; their own folders lie in `jobs`. */
export function openJobProgress({ jobs, outcomes }: { jobs: string; outcomes: string }) {
  const fileOf = ({ name }: JobSpec): string => join(outcomes, `${name}.json`);

  return {
    /** Did this very job end well, and are its outputs delivered? */
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

    /** Did this very job's program end well in its folder, and only its outputs are left to upload? */
    async isFinished(spec: JobSpec, folder: string): Promise<boolean> {
      return (await readFile(join(folder, MARKER), 'utf8').catch(() => undefined)) === keyOf(spec);
    },

    /** The program has ended well: its outputs and log stay until they are uploaded. */
    async markFinished(spec: JobSpec, folder: string): Promise<void> {
      const draft = join(folder, `${MARKER}.draft`);
      await writeFile(draft, keyOf(spec), { mode: 0o600 });
      await rename(draft, join(folder, MARKER));
      for (const name of ['in', 'scratch']) await removeFolder(join(folder, name));
    },

    /** Removes outputs that nobody came to upload; `busy` are folders in use. */
    async sweep(busy: ReadonlySet<string>): Promise<void> {
      for (const { path, at } of await byAge(jobs, (name) => join(jobs, name, MARKER))) {
        const folder = join(path, '..');
        if (Date.now() - at > WAITING_MS && !busy.has(folder)) await removeFolder(folder);
      }
    },
  };
}

export type JobProgressBook = ReturnType<typeof openJobProgress>;

/** Paths below a folder that are there, youngest first. */
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
