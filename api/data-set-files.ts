// The files of data sets in the areas: a failed registration leaves none, and a deletion removes them.
import type { ArtifactUri } from '../workflows/domain/names.ts';
import { dataSetsFolder, storePath } from '../workflows/domain/names.ts';
import type { ApiDeps } from './deps.ts';
import { problem } from './problems.ts';

type Deps = Pick<ApiDeps, 'records' | 'areas' | 'log'>;

/** One attempt to register a data set. */
export interface Draft {
  readonly project: string;
  readonly dataset: string;
  readonly area: 'common' | 'staging';
  readonly attempt: string;
}

/** Maximum number of deleted data sets per sweep. The next sweep continues. */
const SWEEP_LIMIT = 20;

/** Folder of a registered data set's files in its area. */
export const dataSetFolder = (dataset: string): string => `${dataSetsFolder}/${dataset}`;

/**
 * Runs one attempt to register a data set, which writes below {@link dataSetFolder} and then registers. Files of an
 * earlier attempt that died are removed first. If this attempt fails, its files are removed.
 */
export async function asDraft<T>(deps: Deps, draft: Draft, work: () => Promise<T>): Promise<T> {
  const { project, dataset, area, attempt } = draft;
  const answer = await deps.records.draftDataSet({ project, dataset, attempt, step: 'write' });
  if (answer !== 'taken') throw refused(dataset, answer);
  try {
    await clear(deps, draft);
    // A test set and a training set with the same name are in different areas.
    await clear(deps, { ...draft, area: area === 'common' ? 'staging' : 'common' });
    return await work();
  } catch (error) {
    await undo(deps, draft).catch((failed: unknown) =>
      deps.log.warn(
        { err: failed, dataset: `${project}/${dataset}` },
        'files of a failed registration are left over; the next attempt removes them',
      ),
    );
    throw error;
  }
}

const refused = (dataset: string, answer: 'busy' | 'registered' | 'deleted') =>
  problem(
    409,
    'conflict',
    {
      busy: `data set "${dataset}" is being cleaned up after a failed registration: try again in a minute`,
      registered: `data set "${dataset}" was registered in the meantime: use it, or choose another name`,
      deleted: `data set "${dataset}" was deleted, and its name stays reserved: choose another name`,
    }[answer],
  );

async function undo(deps: Deps, draft: Draft): Promise<void> {
  const { project, dataset, attempt } = draft;
  const answer = await deps.records.draftDataSet({ project, dataset, attempt, step: 'clear' });
  // A newer attempt now holds the name and the files.
  if (answer === 'busy') return;
  await clear(deps, draft);
  if (answer === 'taken') await deps.records.dropDraft(project, dataset, attempt);
}

/** Removes the folder's files, except those of a registered data set. */
async function clear({ records, areas }: Deps, { project, dataset, area }: Draft): Promise<void> {
  const kept = new Set<ArtifactUri>((await records.dataSet(project, dataset))?.files.map(({ uri }) => uri));
  const folder = storePath({ area, project, path: dataSetFolder(dataset) });
  for (let after: Parameters<typeof areas.list>[1] | undefined = {}; after;) {
    const { files, next } = await areas.list(folder, after);
    for (const { uri } of files) if (!kept.has(uri)) await areas.remove(uri);
    after = next && { after: next };
  }
}

/**
 * Removes the files of deleted data sets. Idempotent. Files that cannot be removed now are retried at the next deletion
 * or start.
 */
export async function sweepDataSets({ records, areas, log }: Deps): Promise<void> {
  try {
    for (const { project, dataset, files } of await records.unsweptDataSets(SWEEP_LIMIT)) {
      for (const { uri } of files) await areas.remove(uri);
      await records.sweptDataSet(project, dataset);
    }
  } catch (error) {
    log.warn({ err: error }, 'the files of a deleted data set could not be removed yet');
  }
}
