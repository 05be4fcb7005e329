// Release manifests: a create-only file in the release store fixes a number before anything is published under it.
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import type { Release } from '../workflows/domain/model.ts';
import type { StorePath } from '../workflows/domain/names.ts';
import { failure, isFailure } from './failures.ts';
import { once } from './model-center.ts';
import type { ArtifactStore } from './ports.ts';
import type { Records } from './records.ts';

const FOLDER = 'manifests';
/** Sorts after every number of a type. */
const BEHIND = 'z';

const manifestSchema = z.object({
  v: z.literal(1),
  release: z.string(),
  type: z.string(),
  sequence: z.int().positive(),
  project: z.string(),
  model: z.string(),
  submission: z.string(),
  version: z.int(),
  /** Id of the command that requested the release; unique in its submission. */
  command: z.string(),
  digest: z.string(),
  files: z.array(z.object({ name: z.string(), sha256: z.string(), bytes: z.int() })).readonly(),
});
export type Manifest = Readonly<z.infer<typeof manifestSchema>>;

/** Path of a number's manifest: by type and sequence, so that a listing finds the newest without reading all. */
const manifestPath = (type: string, sequence: number): StorePath =>
  `${FOLDER}/${type}/${String(sequence).padStart(9, '0')}.json` as StorePath;

function manifestOf(command: string, row: Release): Manifest {
  const { release, type, sequence, project, model, submission, version, digest } = row;
  const files = row.files.map(({ name, sha256, bytes }) => ({ name, sha256, bytes }));
  return { v: 1, release, type, sequence, project, model, submission, version, command, digest, files };
}

/**
 * Fixes a release's number in the release store, before anything is published under it.
 * @throws Conflict if the store holds the number for another command, as after a restore of the records. The number is
 * not reused; the next release gets the following one.
 */
export async function keepManifest(
  { records, releases }: { readonly records: Records; readonly releases: ArtifactStore },
  release: Release,
): Promise<void> {
  const taken = await fixNumber(releases, manifestOf(await records.releaseCommand(release.release), release));
  if (taken)
    throw failure(
      'Conflict',
      `number ${release.sequence} of type ${release.type} is held in the release store by ${takenBy(taken)}: the records were ` +
        'restored from an older backup. The number is not used again: release the version again',
    );
  await records.manifested(release.release);
}

const takenBy = ({ project, model, submission, command }: Manifest): string =>
  `command ${command} to ${project}/${model}/${submission}`;

/** Writes manifests for releases announced before manifests existed. */
export async function addManifests(records: Records, releases: ArtifactStore): Promise<void> {
  for (;;) {
    const page = await records.unmanifested(100);
    for (const { commandId, release } of page) {
      const taken = await fixNumber(releases, manifestOf(commandId, release));
      if (taken)
        throw failure(
          'Corrupt',
          `release ${release.release} is announced, and the release store holds its number for ${takenBy(taken)}: run "ocdl restore list"`,
        );
      await records.manifested(release.release);
    }
    if (page.length === 0) return;
  }
}

/**
 * The newest number of each type that has a manifest. One listing per type, starting at its number in `from`. 0 if the
 * manifest of that number and all later ones are missing.
 */
export async function newestNumbers(
  releases: ArtifactStore,
  from: ReadonlyMap<string, number>,
): Promise<ReadonlyMap<string, number>> {
  const newest = new Map<string, number>();
  for (let after: StorePath | undefined; ;) {
    const { files } = await releases.list(FOLDER as StorePath, { limit: 1, ...(after !== undefined && { after }) });
    const [, type] = files[0]?.path.split('/') ?? [];
    if (type === undefined) return newest;
    newest.set(type, await newestOfType(releases, type, from.get(type) ?? 0));
    after = `${FOLDER}/${type}/${BEHIND}` as StorePath;
  }
}

async function newestOfType(releases: ArtifactStore, type: string, from: number): Promise<number> {
  let newest = 0;
  for (let after = manifestPath(type, Math.max(0, from - 1)); ;) {
    const page = await releases.list(`${FOLDER}/${type}` as StorePath, { after });
    const last = page.files.at(-1);
    if (last) newest = Number(/(\d+)\.json$/.exec(last.path)?.[1] ?? newest);
    if (!page.next) return newest;
    after = page.next;
  }
}

/** Creates the manifest. If a manifest with another command or other bytes exists, returns it. */
async function fixNumber(releases: ArtifactStore, manifest: Manifest): Promise<Manifest | undefined> {
  const path = manifestPath(manifest.type, manifest.sequence);
  try {
    await releases.write(path, once(Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`)));
    return undefined;
  } catch (error) {
    if (!isFailure(error, 'Conflict')) throw error;
  }
  const stored = parseManifest(await text(await releases.read(releases.uri(path))));
  if (!stored)
    throw failure('Corrupt', `${path} in the release store is no manifest of a release: restore it from the backup`);
  return stored;
}

function parseManifest(text: string): Manifest | undefined {
  try {
    return manifestSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
