// One run of a model over a labelled data set, with its report: a scientist's own before submission, a manager's after.
import { CancellationScope, isCancellation, patched, setCurrentDetails } from '@temporalio/workflow';
import { center, collecting, evaluating, provisioning } from './activities.ts';
import type { Evaluation } from './domain/model.ts';
import { explain } from './explain.ts';
import type { EvaluationInput } from './messages.ts';

/** Returns the evaluation as it ended; its report lies beside the model. */
export async function evaluation(input: EvaluationInput): Promise<Evaluation> {
  // Asked once, so that a replay gets one answer. With it the job and its report are two steps, and a cancellation has a name.
  const collectsApart = patched('evaluation-collected-apart');
  setCurrentDetails(`**running** ${input.model} over ${input.dataset}`);
  const result = await evaluate(input, collectsApart);
  const record = (): Promise<void> => center.recordEvaluation({ evaluation: result });
  // A cancellation that comes now is too late: without this record it would count as running for ever.
  await (collectsApart ? CancellationScope.nonCancellable(record) : record());
  const metrics = Object.entries(result.metrics).map(([name, value]) => `- ${name}: ${value ?? 'none'}`);
  const verdict = result.passed === null ? '' : result.passed ? ', above its thresholds' : ', below a threshold';
  setCurrentDetails([`**${result.state}**${verdict} ${result.detail}`, ...metrics].join('\n'));
  return result;
}

async function evaluate(input: EvaluationInput, collectsApart: boolean): Promise<Evaluation> {
  const { project, evaluation: id, model, actor, dataset, subject } = input;
  const submission = 'submission' in subject ? subject.submission : null;
  const common = { evaluation: id, project, model, submission, actor, dataset };
  try {
    const prepared = await provisioning.prepareEvaluation(input);
    const evaluated = collectsApart
      ? await collecting.collectReport({
          ...input,
          prepared,
          ended: await evaluating.runEvaluation({ ...input, prepared }),
        })
      : await evaluating.evaluateModel({ ...input, prepared });
    return { ...common, ...evaluated, state: 'done', detail: '', updatedAt: new Date().toISOString() };
  } catch (error) {
    const failed = (detail: string): Evaluation => ({
      ...{ ...common, digest: null, report: null, passed: null, metrics: {} },
      ...{ state: 'failed', detail, updatedAt: new Date().toISOString() },
    });
    if (!isCancellation(error)) return failed(explain(error).message);
    if (collectsApart) {
      await CancellationScope.nonCancellable(async () => {
        const { by } = await collecting.readCanceller(input);
        const who = by === null ? 'an operator: start another one' : by;
        await center.recordEvaluation({ evaluation: failed(`cancelled by ${who}`) });
      });
      throw error;
    }
    // Nobody would learn otherwise that it runs no more.
    if (patched('recorded-when-cancelled'))
      await CancellationScope.nonCancellable(() =>
        center.recordEvaluation({ evaluation: failed('cancelled by an operator: start another one') }),
      );
    throw error;
  }
}
