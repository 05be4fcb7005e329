// One run of a model over a labelled data set, with its report: a scientist's own before submission, a manager's after.
import { CancellationScope, isCancellation, patched, setCurrentDetails } from '@temporalio/workflow';
import { center, earlier, rover } from './activities.ts';
import type { Evaluation } from './domain/model.ts';
import { explain } from './explain.ts';
import type { EvaluationInput } from './messages.ts';

/** Returns the evaluation as it ended; its report lies beside the model. What it came to is written by the activity that ran it. */
export async function evaluation(input: EvaluationInput): Promise<Evaluation> {
  const begins = patched('the-record-decides');
  if (begins) {
    const { ended } = await center.begin();
    if (ended?.evaluation) return ended.evaluation;
  }
  setCurrentDetails(`**running** ${input.model} over ${input.dataset}`);
  const result = await evaluate(input, begins);
  if (!begins) await earlier.recordEvaluation({ evaluation: result });
  const metrics = Object.entries(result.metrics).map(([name, value]) => `- ${name}: ${value ?? 'none'}`);
  const verdict = result.passed === null ? '' : result.passed ? ', above its thresholds' : ', below a threshold';
  setCurrentDetails([`**${result.state}**${verdict} ${result.detail}`, ...metrics].join('\n'));
  return result;
}

async function evaluate(input: EvaluationInput, begins: boolean): Promise<Evaluation> {
  const { project, evaluation: id, model, actor, dataset, subject } = input;
  const submission = 'submission' in subject ? subject.submission : null;
  const common = { evaluation: id, project, model, submission, actor, dataset };
  try {
    const prepared = await rover.prepareEvaluation(input);
    const evaluated = await rover.evaluateModel({ ...input, prepared });
    return { ...common, ...evaluated, state: 'done', detail: '', updatedAt: new Date().toISOString() };
  } catch (error) {
    const failed = (detail: string): Evaluation => ({
      ...{ ...common, digest: null, report: null, passed: null, metrics: {} },
      ...{ state: 'failed', detail, updatedAt: new Date().toISOString() },
    });
    if (begins) {
      const detail = isCancellation(error) ? 'ended by an operator: start another one' : explain(error).message;
      return CancellationScope.nonCancellable(() => center.failEvaluation({ detail }));
    }
    if (!isCancellation(error)) return failed(explain(error).message);
    // Nobody would learn otherwise that it runs no more.
    if (patched('recorded-when-cancelled'))
      await CancellationScope.nonCancellable(() =>
        earlier.recordEvaluation({ evaluation: failed('cancelled by an operator: start another one') }),
      );
    throw error;
  }
}
