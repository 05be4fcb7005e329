// One release on its way into one application: locked in its repository, downloaded, checked, through the gates in order.
import { isCancellation, setCurrentDetails } from '@temporalio/workflow';
import { center, delivering } from './activities.ts';
import type { Delivery, DeliveryState, GateResult } from './domain/model.ts';
import { explain } from './explain.ts';
import type { DeliveryInput } from './messages.ts';

/** Returns the delivery as it stands after the gates: `deploying` (all passed) or `failed`. The application does the rest. */
export async function delivery(input: DeliveryInput): Promise<Delivery> {
  const { application, type, release } = input;
  const passed: GateResult[] = [];
  try {
    await enter('received');
    const { gates, files } = await delivering.receiveRelease(input);
    await delivering.lockModel(input);
    await enter('gating');
    for (const gate of gates) {
      const result = await runGate(gate, files);
      passed.push(result);
      await enter(result.passed ? 'gating' : 'failed', result.passed ? '' : `gate ${gate}: ${result.detail}`);
      if (!result.passed) return standing('failed', `gate ${gate}: ${result.detail}`);
    }
    await enter('deploying');
    return standing('deploying');
  } catch (error) {
    if (isCancellation(error)) throw error;
    const { message } = explain(error);
    await enter('failed', message);
    return standing('failed', message);
  }

  /** A gate whose dependency fails has not passed. */
  async function runGate(gate: string, files: Parameters<typeof delivering.runGate>[0]['files']): Promise<GateResult> {
    try {
      return await delivering.runGate({ ...input, gate, files });
    } catch (error) {
      if (isCancellation(error)) throw error;
      return { gate, passed: false, detail: `could not be run: ${explain(error).message}`, seconds: 0 };
    }
  }

  function standing(state: DeliveryState, detail = ''): Delivery {
    return { application, type, release, state, gates: [...passed], detail, updatedAt: new Date().toISOString() };
  }

  async function enter(state: DeliveryState, detail = ''): Promise<void> {
    const next = standing(state, detail);
    await center.recordDelivery({ delivery: next });
    const lines = next.gates.map(
      ({ gate, passed: ok, detail: why, seconds }) => `- ${gate}: ${ok ? 'passed' : 'failed'} in ${seconds} s. ${why}`,
    );
    setCurrentDetails([`**${state}** ${release} into ${application} ${detail}`, ...lines].join('\n'));
  }
}
