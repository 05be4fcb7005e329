// One training job: compute provisioned, model trained, everything needed to repeat it recorded.
import { isCancellation, patched, setCurrentDetails } from '@temporalio/workflow';
import { collecting, provisioning, training } from './activities.ts';
import type { RunRecord } from './domain/model.ts';
import { explain } from './explain.ts';
import type { TrainingRunInput } from './messages.ts';

/** Returns the run as it was, or why it failed: a failed run is an outcome, not a failure of the workflow. */
export async function trainingRun(input: TrainingRunInput): Promise<{ run: RunRecord } | { failed: string }> {
  // A store that is unavailable after a week of training must not cost the week: collecting is tried by itself.
  const collectsApart = patched('training-collected-apart');
  try {
    setCurrentDetails(`**provisioning** ${input.spec.compute} compute for ${input.model}`);
    const provisioned = await provisioning.provisionRun(input);
    setCurrentDetails(`**training** ${input.model}: \`${input.spec.entrypoint}\` at ${input.spec.code.commit}`);
    const run = collectsApart ? await trainAndCollect() : await training.trainModel({ ...input, provisioned });
    const metrics = Object.entries(run.metrics).map(([name, value]) => `- ${name}: ${value}`);
    setCurrentDetails(['**trained**', ...metrics].join('\n'));
    return { run };

    async function trainAndCollect(): Promise<RunRecord> {
      const ended = await training.runTraining({ ...input, provisioned });
      setCurrentDetails(`**collecting** what ${input.model} has left`);
      return collecting.collectRun({ ...input, provisioned, ended });
    }
  } catch (error) {
    if (isCancellation(error)) throw error;
    const { message } = explain(error);
    setCurrentDetails(`**failed**: ${message}`);
    return { failed: message };
  }
}
