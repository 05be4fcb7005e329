// Evaluates a model on a labelled data set and writes a report: for a scientist before submission, for a manager after it.
import {
  CancellationScope,
  isCancellation,
  patched,
  setCurrentDetails,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import { begin, center, collecting, earlier, evaluating, provisioning } from './activities.ts';
import type { Evaluation } from './domain/model.ts';
import { placed } from './domain/compute.ts';
import { explain } from './explain.ts';
import { attributePairs, openFinding } from './found-by.ts';
import type { EvaluationInput } from './messages.ts';

/** Returns the evaluation's outcome; its report is stored beside the model. The activity that collects the report records the result. */
export async function evaluation(input: EvaluationInput): Promise<Evaluation> {
  if (!patched('the-record-decides')) return evaluationBefore(input);
  const { ended, stopped, about } = await begin();
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
  setCurrentDetails(
    [`**${result.state}**${verdict} ${result.detail}`, ...placed(result.placement), ...metrics].join('\n'),
  );
}

/** Evaluations that started before Records decided: they finish in this way, with today's checks. */
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
      // Without this record the evaluation would appear to be running forever.
      if (patched('recorded-when-cancelled'))
        await CancellationScope.nonCancellable(() =>
          earlier.recordEvaluation({ evaluation: failed('cancelled by an operator: start a new evaluation') }),
        );
      throw error;
    }
  };
  const result = await run();
  await earlier.recordEvaluation({ evaluation: result });
  show(result);
  return result;
}
