// One run of a model over a labelled data set, with its report: a scientist's own before submission, a manager's after.
import {
  CancellationScope,
  isCancellation,
  patched,
  setCurrentDetails,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import { center, collecting, earlier, evaluating, provisioning } from './activities.ts';
import type { Evaluation } from './domain/model.ts';
import { explain } from './explain.ts';
import { attributePairs, openFinding } from './found-by.ts';
import type { EvaluationInput } from './messages.ts';

/** Returns the evaluation as it ended; its report lies beside the model. What it came to is recorded by the activity that collects it. */
export async function evaluation(input: EvaluationInput): Promise<Evaluation> {
  if (!patched('the-record-decides')) return evaluationBefore(input);
  const { ended, stopped, about } = await center.begin();
  if (ended?.evaluation) {
    openFinding()({ State: ended.evaluation.state });
    return ended.evaluation;
  }
  if (stopped !== undefined) {
    openFinding()({ State: 'failed' });
    return center.failEvaluation({ why: stopped });
  }
  upsertSearchAttributes(attributePairs({ ...about, State: 'running' }));
  setCurrentDetails(`**running** ${input.model} over ${input.dataset}`);
  const result = await evaluate(input);
  upsertSearchAttributes(attributePairs({ State: result.state }));
  show(result);
  return result;
}

async function evaluate(input: EvaluationInput): Promise<Evaluation> {
  try {
    const prepared = await provisioning.prepareEvaluation(input);
    await evaluating.runEvaluation({ ...input, prepared });
    return await collecting.collectReport({ ...input, prepared });
  } catch (error) {
    const why = isCancellation(error) ? null : explain(error).message;
    return CancellationScope.nonCancellable(() => center.failEvaluation({ why }));
  }
}

function show(result: Evaluation): void {
  const metrics = Object.entries(result.metrics).map(([name, value]) => `- ${name}: ${value ?? 'none'}`);
  const verdict = result.passed === null ? '' : result.passed ? ', above its thresholds' : ', below a threshold';
  setCurrentDetails([`**${result.state}**${verdict} ${result.detail}`, ...metrics].join('\n'));
}

/** As evaluations ran before Records decided: those that are on their way go to their end like this, with today's checks. */
async function evaluationBefore(input: EvaluationInput): Promise<Evaluation> {
  setCurrentDetails(`**running** ${input.model} over ${input.dataset}`);
  const { project, evaluation: id, model, actor, dataset, subject } = input;
  const submission = 'submission' in subject ? subject.submission : null;
  const common = { evaluation: id, project, model, submission, actor, dataset };
  const failed = (detail: string): Evaluation => ({
    ...{ ...common, digest: null, report: null, passed: null, metrics: {} },
    ...{ state: 'failed', detail, updatedAt: new Date().toISOString() },
  });
  const run = async (): Promise<Evaluation> => {
    try {
      const prepared = await provisioning.prepareEvaluation(input);
      const evaluated = await evaluating.evaluateModel({ ...input, prepared });
      return { ...common, ...evaluated, state: 'done', detail: '', updatedAt: new Date().toISOString() };
    } catch (error) {
      if (!isCancellation(error)) return failed(explain(error).message);
      // Nobody would learn otherwise that it runs no more.
      if (patched('recorded-when-cancelled'))
        await CancellationScope.nonCancellable(() =>
          earlier.recordEvaluation({ evaluation: failed('cancelled by an operator: start another one') }),
        );
      throw error;
    }
  };
  const result = await run();
  await earlier.recordEvaluation({ evaluation: result });
  show(result);
  return result;
}
