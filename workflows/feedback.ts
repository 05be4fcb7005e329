// What the engineer said of one scan's findings: each label is recorded and committed to Git, where the next training finds it.
import { condition, continueAsNew, isCancellation, setCurrentDetails } from '@temporalio/workflow';
import { center, feedbackLabels } from './activities.ts';
import type { CommandBody, SignedCommand } from './domain/command.ts';
import type { Refusal } from './domain/lifecycle.ts';
import type { Finding, Scan } from './domain/model.ts';
import { allowed } from './domain/roles.ts';
import { explain } from './explain.ts';
import type { Accepted, InboxState } from './inbox.ts';
import { openInbox } from './inbox.ts';
import type { FeedbackInput } from './messages.ts';

type Verdict = { readonly label: 'true' | 'false'; readonly findings: readonly string[] };

/** A scan that nobody has touched for so long is closed. */
const QUIET = '30 days';

/** Takes `confirm` and `deny` until nothing comes any more; returns the scan as it ended. */
export async function feedback(input: FeedbackInput, carried?: InboxState): Promise<Scan> {
  const { project, scan: id } = input;
  const subject = `${project}/scans/${id}`;
  const state = { scan: null as Scan | null };
  const inbox = openInbox<Verdict>({ keys: input.keys, operatorCommands: false, carried, judge: judgeLabel });
  state.scan = await center.readScan({ project, scan: id });
  show(state.scan);

  while (await condition(() => inbox.accepted.length > 0 || inbox.state.refused.length > 0 || inbox.isFull(), QUIET)) {
    const next = inbox.accepted.shift();
    if (next) state.scan = await label(next, state.scan);
    const refusals = inbox.takeRefused();
    if (refusals) await center.recordRefusals({ project, subject, ...refusals });
    if (inbox.isFull() && inbox.accepted.length === 0 && inbox.state.refused.length === 0)
      await continueAsNew<typeof feedback>(input, { ...inbox.state, received: 0 });
  }
  return state.scan;

  function judgeLabel(body: CommandBody): Refusal | Verdict {
    const findings = body.args.findings ?? [];
    if (body.name !== 'confirm' && body.name !== 'deny')
      return { refused: 'unlawful', message: `feedback knows the commands confirm and deny, not ${body.name}` };
    if (!allowed('finding.label', body.roles, false))
      return { refused: 'not-authorized', message: `${body.actor} is no engineer here` };
    if (findings.length === 0) return { refused: 'invalid', message: 'args.findings must name at least one finding' };
    // Before the scan was read nothing is known: then the findings are looked up when the command is carried out.
    const unknown = state.scan && unknownFinding(state.scan, findings);
    if (unknown) return { refused: 'invalid', message: `there is no finding ${unknown} in this scan` };
    return { label: body.name === 'confirm' ? 'true' : 'false', findings };
  }

  async function label({ command, verdict }: Accepted<Verdict>, scan: Scan): Promise<Scan> {
    const { commandId, actor } = command.body;
    const unknown = unknownFinding(scan, verdict.findings);
    if (unknown) {
      await fail(command, 'NotFound', `there is no finding ${unknown} in this scan`);
      return scan;
    }
    try {
      const findings = labelled(scan.findings, verdict, actor);
      const { commit } = await feedbackLabels.commitLabels({ scan: { ...scan, findings }, actor });
      const next: Scan = {
        ...scan,
        findings,
        commit,
        state: findings.every((finding) => finding.label) ? 'labelled' : 'open',
        revision: scan.revision + 1,
        updatedAt: new Date().toISOString(),
      };
      await center.recordLabels({ scan: next, command });
      inbox.settle(commandId, {
        status: 'done',
        message: `${verdict.findings.length} findings labelled, commit ${commit}`,
      });
      show(next);
      return next;
    } catch (error) {
      if (isCancellation(error)) throw error;
      const { type: reason, message } = explain(error);
      await fail(command, reason, message);
      return scan;
    }
  }

  async function fail(command: SignedCommand, reason: string, message: string): Promise<void> {
    await center.recordFailedCommand({ project, subject, command, reason, message });
    inbox.settle(command.body.commandId, { status: 'failed', reason, message });
  }
}

const unknownFinding = (scan: Scan, named: readonly string[]): string | undefined =>
  named.find((finding) => !scan.findings.some((known) => known.finding === finding));

/** The same label of the same person again changes nothing: it keeps its time, and Git sees no new commit. */
function labelled(findings: readonly Finding[], { label, findings: named }: Verdict, by: string): readonly Finding[] {
  const at = new Date().toISOString();
  return findings.map((finding) =>
    named.includes(finding.finding) && (finding.label?.verdict !== label || finding.label.by !== by)
      ? { ...finding, label: { verdict: label, by, at } }
      : finding,
  );
}

function show(scan: Scan): void {
  const count = scan.findings.filter(({ label }) => label).length;
  setCurrentDetails(
    `**${scan.state}**: ${count} of ${scan.findings.length} findings of ${scan.application} labelled${scan.commit ? `, commit ${scan.commit}` : ''}`,
  );
}
