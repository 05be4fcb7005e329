// Imports external data as a data set of the project: resolves the source, fetches, checks and stores it, writes a data sheet.
import {
  ApplicationFailure,
  CancellationScope,
  isCancellation,
  patched,
  setCurrentDetails,
} from '@temporalio/workflow';
import { acquiring, acquisition, begin } from './activities.ts';
import type { Import } from './domain/import.ts';
import { describeSource, sourceProblem } from './domain/import.ts';
import { explain } from './explain.ts';
import { openFinding } from './found-by.ts';
import type { DataImportInput } from './messages.ts';

/** Returns the import's outcome. A failed import is an outcome, not a workflow failure; none of its files remain in the area. */
export async function dataImport(input: DataImportInput): Promise<Import> {
  const isDecided = patched('the-record-decides');
  const find = openFinding();
  if (isDecided) {
    const { ended, stopped } = await begin();
    if (ended?.import) {
      find({ State: ended.import.state });
      return ended.import;
    }
    if (stopped !== undefined) {
      find({ State: 'failed' });
      return acquisition.abandonImport({ ...input, state: 'failed', detail: stopped });
    }
  }
  try {
    const problem = sourceProblem(input.source);
    if (problem) throw ApplicationFailure.nonRetryable(problem, 'InvalidInput');
    const from = describeSource(input.source);
    show('resolving', from);
    const resolution = await acquisition.resolveSource(input);
    const at = resolution.revision === null ? '' : ` (${resolution.revision})`;
    show('fetching', `${from}${at}, files: ${resolution.files.length}`);
    const files = await acquiring.acquireData({ ...input, resolution });
    const importedAt = new Date().toISOString();
    // From here on it cannot be cancelled: a partial registration would be a data set without its bytes.
    const done = await CancellationScope.nonCancellable(() =>
      acquisition.registerImport({ ...input, resolution, importedAt }),
    );
    show('done', [`${from}${at}`, ...files.map(({ name, sha256 }) => `- ${name}: ${sha256}`)].join('\n'));
    return done;
  } catch (error) {
    const state = isCancellation(error) ? 'cancelled' : 'failed';
    const detail = state === 'cancelled' ? 'cancelled: its files were removed' : explain(error).message;
    const ended = await CancellationScope.nonCancellable(() => acquisition.abandonImport({ ...input, state, detail }));
    show(state, detail);
    if (state === 'cancelled') throw error;
    return ended;
  }

  function show(state: Import['state'], details: string): void {
    find({ State: state });
    setCurrentDetails(`**${state}** ${details}`);
  }
}
