// One training job: provisions compute, trains the model, records everything needed to repeat the run.
import { isCancellation, patched, setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { begin, collecting, provisioning, training } from './activities.ts';
import type { RunRecord } from './domain/model.ts';
import { placed } from './domain/compute.ts';
import { explain } from './explain.ts';
import { attributePairs, openFinding } from './found-by.ts';
import type { TrainingRunInput } from './messages.ts';

/** Returns the run's record, or why it failed: a failed run is an outcome, not a workflow failure. */
export async function trainingRun(input: TrainingRunInput): Promise<{ run: RunRecord } | { failed: string }> {
  // Asked only once. With this patch Records decide, and a separate activity collects the training's outputs: a store that is
  // unavailable after a week of training must not lose that week.
  const isDecided = patched('the-record-decides');
  if (isDecided) {
    const { ended } = await begin();
    if (ended?.run) {
      openFinding()({ State: 'trained' });
      return { run: ended.run };
    }
  }
  const show = (state: string, details: string): void => {
    if (isDecided) upsertSearchAttributes(attributePairs({ State: state }));
    setCurrentDetails(details);
  };
  try {
    show('provisioning', `**provisioning** ${input.spec.compute} compute for ${input.model}`);
    const provisioned = await provisioning.provisionRun(input);
    show('training', `**training** ${input.model}: \`${input.spec.entrypoint}\` at ${input.spec.code.commit}`);
    const run = isDecided ? await trainAndCollect() : await training.trainModel({ ...input, provisioned });
    const metrics = Object.entries(run.metrics).map(([name, value]) => `- ${name}: ${value}`);
    show('trained', ['**trained**', ...placed(run.placement), ...metrics].join('\n'));
    return { run };

    async function trainAndCollect(): Promise<RunRecord> {
      await training.runTraining({ ...input, provisioned });
      show('collecting', `**collecting** the outputs of ${input.model}`);
      return collecting.collectRun({ ...input, provisioned });
    }
  } catch (error) {
    if (isCancellation(error)) throw error;
    const failed = explain(error);
    // A workflow that is not authorised must not record a failed run.
    if (failed.type === 'NotAuthorized') throw error;
    show('failed', `**failed**: ${failed.message}`);
    return { failed: failed.message };
  }
}
