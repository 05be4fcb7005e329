// One training job: compute provisioned, model trained, everything needed to repeat it recorded.
import { isCancellation, patched, setCurrentDetails } from '@temporalio/workflow';
import { center, rover } from './activities.ts';
import type { RunRecord } from './domain/model.ts';
import { explain } from './explain.ts';
import type { TrainingRunInput } from './messages.ts';

/** Returns the run as it was, or why it failed: a failed run is an outcome, not a failure of the workflow. */
export async function trainingRun(input: TrainingRunInput): Promise<{ run: RunRecord } | { failed: string }> {
  if (patched('the-record-decides')) {
    const { ended } = await center.begin();
    if (ended?.run) return { run: ended.run };
  }
  try {
    setCurrentDetails(`**provisioning** ${input.spec.compute} compute for ${input.model}`);
    const provisioned = await rover.provisionRun(input);
    setCurrentDetails(`**training** ${input.model}: \`${input.spec.entrypoint}\` at ${input.spec.code.commit}`);
    const run = await rover.trainModel({ ...input, provisioned });
    const metrics = Object.entries(run.metrics).map(([name, value]) => `- ${name}: ${value}`);
    setCurrentDetails(['**trained**', ...metrics].join('\n'));
    return { run };
  } catch (error) {
    if (isCancellation(error)) throw error;
    const { message } = explain(error);
    setCurrentDetails(`**failed**: ${message}`);
    return { failed: message };
  }
}
