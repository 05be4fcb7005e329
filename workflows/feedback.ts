// An engineer's labels for one scan's findings: each is decided in Records and committed to Git, where the next training reads it.
import { CancellationScope, condition, continueAsNew, patched } from '@temporalio/workflow';
import { setCurrentDetails, setHandler } from '@temporalio/workflow';
import { begin, center, feedbackLabels } from './activities.ts';
import { feedbackBefore } from './before/feedback.ts';
import type { ScanStanding } from './domain/standing.ts';
import { explain } from './explain.ts';
import { openFinding } from './found-by.ts';
import { openInbox } from './inbox.ts';
import type { FeedbackInput } from './messages.ts';
import { wake } from './messages.ts';
import type { Carried } from './model-lifecycle.ts';

/** A scan without commands for this long is closed; the time of a pause after a restore does not count. */
const QUIET_MS = 30 * 86_400_000;
/** Shortest wait for a later end: the clocks of the records and of Temporal may differ. */
const SHORTEST_MS = 1_000;

/** Takes `confirm` and `deny` commands until the scan is closed. */
export async function feedback(input: FeedbackInput, carried?: Carried): Promise<void> {
  if (!patched('the-record-decides')) return feedbackBefore(input, carried);
  const find = openFinding();
  const inbox = openInbox(carried?.commands);
  const state = { woken: false, interrupted: false };
  setHandler(wake, () => void (state.woken = true));
  CancellationScope.current().cancelRequested.catch(() => void (state.interrupted = true));

  return CancellationScope.nonCancellable(async () => {
    const begun = await begin();
    find({ ...begun.about });
    let standing = see(begun.scan);
    inbox.open(begun.keys);
    const something = () =>
      inbox.waiting.length > 0 || state.woken || state.interrupted || inbox.hasRefused() || inbox.isFull();
    const quiet = { since: Date.now(), leftMs: QUIET_MS };
    for (;;) {
      while (standing.pending) standing = await commit(standing.pending.commandId);
      if (!(await condition(something, quiet.leftMs))) {
        const since = new Date(quiet.since).toISOString();
        // An earlier program closed the scan in any case, and its activity returned nothing.
        const closing = (await center.closeFeedback({ since, forMs: QUIET_MS })) as { until: string | null } | null;
        if (!closing?.until) return find({ State: 'closed' });
        quiet.leftMs = Math.max(Date.parse(closing.until) - Date.now(), SHORTEST_MS);
        continue;
      }
      state.woken = false;
      const next = inbox.waiting.shift();
      if (next) standing = see(await center.decideLabels({ command: next }));
      const refusals = inbox.takeRefused();
      if (refusals) inbox.learn(await center.recordRefusals(refusals));
      if (state.interrupted) await center.recordInterruption();
      state.interrupted = false;
      Object.assign(quiet, { since: Date.now(), leftMs: QUIET_MS });
      if (inbox.isFull() && inbox.waiting.length === 0 && !inbox.hasRefused() && !standing.pending)
        await continueAsNew<typeof feedback>(input, { commands: [] });
    }
  });

  async function commit(commandId: string): Promise<ScanStanding> {
    try {
      return see(await feedbackLabels.commitLabels({ commandId }));
    } catch (error) {
      const { type: reason, message } = explain(error);
      return see(await center.failLabels({ commandId, reason, message }));
    }
  }

  function see(standing: ScanStanding | null): ScanStanding {
    if (!standing) throw new TypeError('the start of a feedback has no scan');
    const { scan, findings, labelled } = standing;
    find({ Application: scan.application, ModelType: scan.type, State: scan.state });
    const at = scan.commit === null ? '' : `, commit ${scan.commit}`;
    setCurrentDetails(`${labelled} of ${findings} findings of ${scan.application} labelled${at}`);
    return standing;
  }
}
