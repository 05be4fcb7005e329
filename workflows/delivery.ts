// The delivery of one release to one application: locked in its repository, downloaded, checked, and run through the gates in order.
import { isCancellation, patched, setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { begin, center, delivering, earlier } from './activities.ts';
import { RESTORED } from './domain/failures.ts';
import type { Delivery, GateResult } from './domain/model.ts';
import { explain } from './explain.ts';
import { attributePairs } from './found-by.ts';
import type { DeliveryInput } from './messages.ts';

/** Returns the delivery after the gates: `deploying` (all passed) or `failed`. The application workflow does the rest. */
export async function delivery(input: DeliveryInput): Promise<Delivery> {
  if (!patched('the-record-decides')) return deliveryBefore(input);
  const { application, release } = input;
  const results: GateResult[] = [];
  try {
    await begin();
    const { missing } = await delivering.receiveRelease(input);
    show('received');
    await delivering.lockModel(input);
    for (const gate of missing) {
      show('gating');
      const result = await delivering.runGate({ ...input, gate });
      results.push(result);
      if (!result.passed) break;
    }
    return conclude(await center.concludeDelivery({ release }));
  } catch (error) {
    if (isCancellation(error)) throw error;
    const failed = explain(error);
    // A workflow that is not authorised must not conclude the delivery, and one that waits for a restore has not failed.
    if (failed.type === 'NotAuthorized' || failed.type === RESTORED) throw error;
    return conclude(await center.concludeDelivery({ release, ended: failed.message }));
  }

  function conclude(ended: Delivery): Delivery {
    show(ended.state, ended.detail);
    return ended;
  }

  function show(state: Delivery['state'], detail = ''): void {
    upsertSearchAttributes(attributePairs({ State: state }));
    const lines = results.map(
      ({ gate, passed, detail: why, seconds }) => `- ${gate}: ${passed ? 'passed' : 'failed'} in ${seconds} s. ${why}`,
    );
    setCurrentDetails([`**${state}** ${release} into ${application} ${detail}`, ...lines].join('\n'));
  }
}

/** Deliveries that started before Records decided: they finish in this way, with today's checks. */
async function deliveryBefore(input: DeliveryInput): Promise<Delivery> {
  const passed: GateResult[] = [];
  const standing = (state: Delivery['state'], detail = ''): Delivery => ({
    ...input,
    ...{ state, gates: [...passed], detail, updatedAt: new Date().toISOString() },
  });
  const enter = (state: Delivery['state'], detail = ''): Promise<void> =>
    earlier.recordDelivery({ delivery: standing(state, detail) });
  try {
    await enter('received');
    const { gates } = await delivering.receiveRelease(input);
    await delivering.lockModel(input);
    await enter('gating');
    for (const gate of gates) {
      const result = await run(gate);
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

  async function run(gate: string): Promise<GateResult> {
    try {
      return await delivering.runGate({ ...input, gate });
    } catch (error) {
      if (isCancellation(error)) throw error;
      return { gate, passed: false, detail: `could not run: ${explain(error).message}`, seconds: 0 };
    }
  }
}
