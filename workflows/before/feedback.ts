// Feedback for a scan from before Records decided: replays its old history, then moves to a new run.
import { condition, continueAsNew, isCancellation, patched, setCurrentDetails, setHandler } from '@temporalio/workflow';
import { earlier } from '../activities.ts';
import type { feedback } from '../feedback.ts';
import { wake } from '../messages.ts';
import type { FeedbackInputBefore } from './contract.ts';
import { goingOver } from './going-over.ts';
import type { CommandBody, SignedCommand } from '../domain/command.ts';
import { namedFindings } from '../domain/labels.ts';
import type { Refusal } from '../domain/lifecycle.ts';
import type { Scan } from '../domain/model.ts';
import { allowed } from '../domain/roles.ts';
import { explain } from '../explain.ts';
import type { Accepted, InboxState } from './inbox.ts';
import { openInbox } from './inbox.ts';

type Verdict = {
  /** The command arrived before the scan was read and is judged again when it is carried out. */
  readonly isEarly: boolean;
};

/** The known part of the scan. Its findings stay in the records: repeated with every label they would fill the history. */
interface Known {
  readonly application: string;
  readonly findings: ReadonlySet<string>;
  readonly labelled: Set<string>;
  revision: number;
  commit: string | null;
}

/** A scan without commands for this long is closed. */
const QUIET = '30 days';

/** Takes `confirm` and `deny` commands until the scan is closed. */
export async function feedbackBefore(given: object, before: unknown): Promise<void> {
  const input = given as FeedbackInputBefore;
  const carried = before as InboxState | undefined;
  const { project, scan: id } = input;
  const over = goingOver(() =>
    continueAsNew<typeof feedback>(
      { project, scan: id },
      { commands: [...(state.current ? [state.current] : []), ...inbox.accepted].map(({ command }) => command) },
    ),
  );
  const center = over.watch(earlier);
  const feedbackLabels = center;
  const subject = `${project}/scans/${id}`;
  const state = { scan: null as Known | null, current: null as Accepted<Verdict> | null };
  setHandler(wake, () => over.look());
  // Earlier scans could be labelled at any revision.
  const asksForRevision = patched('labels-are-given-at-a-revision');
  const inbox = openInbox<Verdict>({ keys: input.keys, operatorCommands: false, carried, judge: judgeLabel, over });
  return over.run(main);

  async function main(): Promise<void> {
    const scan = knownOf(await center.readScan({ project, scan: id }));
    const { revision: atFirst } = scan;
    state.scan = scan;
    show(scan);

    while (
      await condition(() => inbox.accepted.length > 0 || inbox.state.refused.length > 0 || inbox.isFull(), QUIET)
    ) {
      const next = inbox.accepted.shift();
      state.current = next ?? null;
      if (next) await label(next, scan, atFirst);
      state.current = null;
      const refusals = inbox.takeRefused();
      if (refusals) await center.recordRefusals({ project, subject, ...refusals });
      if (inbox.isFull() && inbox.accepted.length === 0 && inbox.state.refused.length === 0)
        await continueAsNew<typeof feedbackBefore>(input, { ...inbox.state, received: 0 });
    }
  }

  function judgeLabel(body: CommandBody): Refusal | Verdict {
    if (body.name !== 'confirm' && body.name !== 'deny')
      return {
        refused: 'wrong-state',
        message: `feedback accepts only the commands confirm and deny, not ${body.name}`,
      };
    if (!allowed('finding.label', body.roles, false))
      return { refused: 'not-authorized', message: `${body.actor} is not an engineer of this project` };
    if (namedFindings(body).length === 0)
      return { refused: 'invalid', message: 'args.findings must name at least one finding' };
    return (state.scan && misfit(body, state.scan)) ?? { isEarly: state.scan === null };
  }

  /** Why a command does not match the current state of the scan. */
  function misfit(body: CommandBody, { findings, revision }: Known): Refusal | undefined {
    if (asksForRevision && body.revision !== revision)
      return {
        refused: 'stale',
        message: `the scan is at revision ${revision}, the command was given at ${body.revision}: look again`,
      };
    const unknown = namedFindings(body).find((finding) => !findings.has(finding));
    return unknown === undefined ? undefined : { refused: 'invalid', message: `this scan has no finding ${unknown}` };
  }

  async function label({ command, verdict }: Accepted<Verdict>, known: Known, atFirst: number): Promise<void> {
    const { body } = command;
    const problem = verdict.isEarly ? misfit(body, { ...known, revision: atFirst }) : undefined;
    if (problem) return fail(command, problem.refused === 'stale' ? 'Conflict' : 'NotFound', problem.message);
    try {
      const step = { project, scan: id, command, at: new Date().toISOString() };
      const { commit } = await feedbackLabels.commitLabels(step);
      const revision = known.revision + 1;
      await center.recordLabels({ ...step, commit, revision });
      const named = namedFindings(body);
      for (const finding of named) known.labelled.add(finding);
      Object.assign(known, { revision, commit });
      inbox.settle(body.commandId, { status: 'done', message: `${named.length} findings labelled, commit ${commit}` });
      show(known);
    } catch (error) {
      if (isCancellation(error)) throw error;
      const { type: reason, message } = explain(error);
      await fail(command, reason, message);
    }
  }

  async function fail(command: SignedCommand, reason: string, message: string): Promise<void> {
    await center.recordFailedCommand({ project, subject, command, signed: true, reason, message });
    inbox.settle(command.body.commandId, { status: 'failed', reason, message });
  }
}

const knownOf = ({ application, findings, revision, commit }: Scan): Known => ({
  ...{ application, revision, commit },
  findings: new Set(findings.map(({ finding }) => finding)),
  labelled: new Set(findings.flatMap(({ finding, label }) => (label ? [finding] : []))),
});

function show({ application, findings, labelled, commit }: Known): void {
  setCurrentDetails(
    `${labelled.size} of ${findings.size} findings of ${application} labelled${commit === null ? '' : `, commit ${commit}`}`,
  );
}
