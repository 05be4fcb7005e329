// A version's passage as it ran before Records decided: it replays as it was, and goes over when it is live.
import { CancellationScope, condition, continueAsNew, executeChild, isCancellation, log } from '@temporalio/workflow';
import { patched, setCurrentDetails, setHandler, upsertSearchAttributes } from '@temporalio/workflow';
import { earlier } from '../activities.ts';
import type { LifecycleInputBefore } from './contract.ts';
import { judgeBefore } from './contract.ts';
import { decisionsBefore } from './decisions.ts';
import { goingOver } from './going-over.ts';
import type { LifecycleCommand, SignedCommand } from '../domain/command.ts';
import type { Transition, VersionState } from '../domain/lifecycle.ts';
import { finalStates } from '../domain/lifecycle.ts';
import type { Version } from '../domain/model.ts';
import { newVersion } from '../domain/model.ts';
import { subjectOf } from '../domain/names.ts';
import { explain } from '../explain.ts';
import type { Accepted, InboxState } from './inbox.ts';
import { openInbox } from './inbox.ts';
import type { modelLifecycle } from '../model-lifecycle.ts';
import { searchAttributes, status, wake, workflowId } from '../messages.ts';
import { trainingRun } from '../training-run.ts';

/** What goes over continue-as-new. */
interface Carried {
  readonly version: Version;
  readonly approvals: readonly string[];
  readonly attempt: number;
  readonly failedDeliveries: number;
  readonly inbox: InboxState;
}
type Verdict = { readonly transition: Transition; readonly completes: boolean };

/** Carries one submission through its lifecycle; returns the version as it ended. */
export async function lifecycleBefore(given: object, before: unknown): Promise<Version> {
  const input = given as LifecycleInputBefore;
  const carried = before as Carried | undefined;
  const { project, model, submission, author, type, policy, beginning } = input;
  const over = goingOver(() =>
    continueAsNew<typeof modelLifecycle>(
      { project, model, type, submission, author, beginning },
      { commands: [...(life.current ? [life.current] : []), ...inbox.accepted].map(({ command }) => command) },
    ),
  );
  const [center, launcher] = [over.watch(earlier), over.watch(earlier)];
  const decisions = decisionsBefore(launcher, over);
  const subject = subjectOf(input);
  const life = {
    version: carried?.version ?? newVersion(input, Object.keys(input.keys).at(-1) ?? '', new Date().toISOString()),
    approvals: carried?.approvals ?? [],
    attempt: carried?.attempt ?? 1,
    /** The command being carried out. */
    busy: null as string | null,
    current: null as Accepted<Verdict> | null,
    failedDeliveries: carried?.failedDeliveries ?? 0,
    /** Somebody said that the deliveries have changed. */
    woken: true,
    over: false,
  };
  const inbox = openInbox<Verdict>({
    keys: input.keys,
    operatorCommands: policy.operatorCommands,
    carried: carried?.inbox,
    over,
    judge(body, operator) {
      if (life.over) return { refused: 'wrong-state', message: `the passage has ended: ${life.version.state}` };
      const { state, revision, digest } = life.version;
      const { approvals, busy, failedDeliveries } = life;
      const { quorum } = policy;
      const standing = { state, revision, author, digest, approvals, quorum, busy, failedDeliveries };
      const verdict = judgeBefore(standing, body, operator);
      if ('transition' in verdict) life.busy = body.commandId;
      return verdict;
    },
  });
  setHandler(status, () => ({ version: life.version, busy: life.busy, approvals: life.approvals }));
  setHandler(wake, () => {
    life.woken = true;
    over.look();
  });

  return over.run(main);

  async function main(): Promise<Version> {
    show();
    try {
      while (!life.over) {
        if (life.version.state === 'provisioning' || life.version.state === 'training') await train();
        else if (life.version.state === 'validating') await validate();
        else await attend();
        await recordRefusals();
        if ((finalStates as readonly VersionState[]).includes(life.version.state)) life.over = true;
      }
    } catch (error) {
      // An operator cancelled the workflow itself: the record must still say how it ended.
      if (isCancellation(error)) {
        await enter('withdrawn', { detail: 'cancelled by an operator' });
        life.over = true;
        await CancellationScope.nonCancellable(close);
      }
      throw error;
    }
    await CancellationScope.nonCancellable(close);
    return life.version;
  }

  /** The end: the bytes may be submitted again, and no command is left without an answer. */
  async function close(): Promise<void> {
    await center.closeVersion({ version: life.version });
    for (const left of inbox.accepted.splice(0))
      await fail(left, 'Conflict', `the passage had just ended: ${life.version.state}`);
    // What came meanwhile was refused, and the audit has that too.
    while (inbox.state.refused.length > 0) await recordRefusals();
  }

  /** Provisions and trains. */
  async function train(): Promise<void> {
    if (!('run' in beginning)) return enter('invalid', { detail: 'there is no run to train' });
    const { attempt } = life;
    const result = await unlessWithdrawn(async () => {
      await enter('training', { detail: `attempt ${attempt}` });
      try {
        return await over.awaiting(() =>
          executeChild(trainingRun, {
            workflowId: workflowId.trainingRun({ project, model, submission, attempt }),
            args: [{ project, model, submission, author, attempt, spec: beginning.run }],
            staticSummary: `train ${model} (${submission}, attempt ${attempt})`,
          }),
        );
      } catch (error) {
        if (CancellationScope.current().consideredCancelled) throw error;
        // An operator has ended the run alone: its author may try again.
        return { failed: `the run was ended in Temporal itself: ${explain(error).message}` };
      }
    });
    if (result && 'run' in result) await enter('trained', { run: result.run, detail: '' });
    else if (result) await enter('failed', { detail: result.failed });
  }

  /** Moves the submission into staging, looks whether it is a lawful model, and gives it its number. */
  async function validate(): Promise<void> {
    const directory = 'directory' in beginning ? beginning.directory : `runs/${submission}-${life.attempt}`;
    // Of a run only the bytes that it has made are taken.
    const made = life.version.run?.outputs ?? [];
    const validated = unlessWithdrawn(async () => {
      try {
        const { files } = await launcher.stageModel({ project, model, submission, author, directory, made });
        return await launcher.validateModel({ project, model, type, submission, files });
      } catch (error) {
        if (isCancellation(error)) throw error;
        return { problems: [explain(error).message] };
      }
    });
    const result = await validated.catch(async (error: unknown) => {
      if (patched('unstaged-when-cancelled')) await unstage();
      throw error;
    });
    if (result && 'valid' in result) return enter('new', { ...result.valid, detail: '' });
    await unstage();
    if (result) await enter('invalid', { detail: result.problems.join('\n') });
  }

  /** Takes back what was staged, if anything was; files that cannot be removed are reported and hold up nobody. */
  async function unstage(): Promise<void> {
    await CancellationScope.nonCancellable(() => launcher.unstageModel({ project, model, submission })).catch(
      (error: unknown) => log.error('could not remove the staged files', { error: String(error) }),
    );
  }

  /** Waits for people, and for what applications report. */
  async function attend(): Promise<void> {
    if (life.woken && life.version.state === 'released') await readDeliveries();
    else life.woken = false;
    // Full also by signals of names that nobody knows: they fill the history, too.
    const something = () => inbox.accepted.length > 0 || life.woken || inbox.state.refused.length > 0 || inbox.isFull();
    if (life.version.state === 'rejected') {
      const undoableUntil = Date.parse(rejectedAt()) + policy.undoWithinSeconds * 1000;
      if (undoableUntil > Date.now()) await condition(something, undoableUntil - Date.now());
      // An undo that was accepted counts, also when the workers were away until after the window.
      if (undoableUntil <= Date.now() && inbox.accepted.length === 0) life.over = true;
    } else await condition(something);
    const next = inbox.accepted.shift();
    if (next) await carryOut(next);
    if (!inbox.isFull() || inbox.accepted.length > 0 || life.over) return;
    await recordRefusals();
    if (inbox.accepted.length > 0 || inbox.state.refused.length > 0) return;
    const { version, approvals, attempt, failedDeliveries } = life;
    await continueAsNew<typeof lifecycleBefore>(input, {
      version,
      approvals,
      attempt,
      failedDeliveries,
      inbox: { ...inbox.state, received: 0 },
    });
  }

  /** When the undo window began: what comes after the rejection, a tag, does not begin it anew. */
  function rejectedAt(): string {
    const { decisions: made, updatedAt } = life.version;
    if (!patched('undo-window-from-the-rejection')) return updatedAt;
    return made.findLast(({ name }) => name === 'reject')?.at ?? updatedAt;
  }

  /** Runs `work`, but a withdrawal ends it: then the withdrawal is carried out and there is no result. */
  async function unlessWithdrawn<R>(work: () => Promise<R>): Promise<R | undefined> {
    const scope = new CancellationScope();
    const working = scope.run(work);
    const withdrawn = condition(() => inbox.accepted.length > 0).then(() => scope.cancel());
    withdrawn.catch(() => undefined);
    try {
      return await working;
    } catch (error) {
      const withdrawal = inbox.accepted.shift();
      if (!isCancellation(error) || !withdrawal) throw error;
      await carryOut(withdrawal);
      return undefined;
    }
  }

  /** Carries out an accepted command: its effects, then the record, then it is done. A failed effect leaves the state as it was. */
  async function carryOut(accepted: Accepted<Verdict>): Promise<void> {
    const { command, body, signed, verdict } = accepted;
    life.current = accepted;
    const { version, approvals } = life;
    try {
      const change = await decisions[body.name as LifecycleCommand]({ version, body, policy, approvals });
      const to = verdict.completes ? (verdict.transition.to ?? version.state) : version.state;
      const decision = {
        commandId: body.commandId,
        name: body.name,
        actor: body.actor,
        reason: body.args.reason ?? '',
        report: body.report,
        at: new Date().toISOString(),
      };
      await enter(to, { ...change.set, decisions: [...version.decisions, decision] }, { command, signed });
      life.approvals = change.approvals ?? [];
      if (body.name === 'retry') life.attempt += 1;
      inbox.settle(body.commandId, { status: 'done', message: change.message ?? `${body.name}: ${to}` });
    } catch (error) {
      // A release that was ended by hand has failed; only the end of the passage itself goes further.
      if (CancellationScope.current().consideredCancelled) {
        inbox.accepted.unshift(accepted);
        throw error;
      }
      const { type: reason, message } = explain(error);
      await fail(accepted, reason, message);
    }
    life.current = null;
    life.busy = null;
  }

  async function fail({ command, signed }: Accepted<Verdict>, reason: string, message: string): Promise<void> {
    await center.recordFailedCommand({ project, subject, command, signed, reason, message });
    inbox.settle(command.body.commandId, { status: 'failed', reason, message });
  }

  /** Records a transition, then makes it so: nobody sees a state that is not written down. */
  function enter(
    state: VersionState,
    set: Partial<Version>,
    by?: { command: SignedCommand; signed: boolean },
  ): Promise<void> {
    return CancellationScope.nonCancellable(async () => {
      const from = life.version.state;
      const version: Version = {
        ...life.version,
        ...set,
        state,
        revision: life.version.revision + 1,
        updatedAt: new Date().toISOString(),
      };
      await center.recordTransition({ version, from, command: by?.command ?? null, signed: by?.signed ?? false });
      life.version = version;
      show();
    });
  }

  /** What became of this version's releases: the manager sees it, and may reassign what failed. */
  async function readDeliveries(): Promise<void> {
    life.woken = false;
    const { failed, summary } = await center.readDeliveries({ project, model, submission });
    life.failedDeliveries = failed;
    if (summary !== life.version.detail) await enter('released', { detail: summary });
  }

  async function recordRefusals(): Promise<void> {
    const refusals = inbox.takeRefused();
    if (refusals) await center.recordRefusals({ project, subject, ...refusals });
  }

  function show(): void {
    const { version } = life;
    upsertSearchAttributes([
      { key: searchAttributes.State, value: version.state },
      { key: searchAttributes.Tags, value: [...version.tags] },
      ...(version.version === null ? [] : [{ key: searchAttributes.ModelVersion, value: version.version }]),
    ]);
    setCurrentDetails(details(version, life.approvals, policy.quorum));
  }
}

/** What the Temporal Web UI shows of a version (Markdown). */
function details(version: Version, approvals: readonly string[], quorum: number): string {
  const name = version.version === null ? version.submission : `version ${version.version} (${version.submission})`;
  const lines = [`**${version.state}**: ${version.model} ${name} of ${version.author}, revision ${version.revision}`];
  if (version.state === 'new') lines.push(`approvals: ${approvals.length} of ${quorum}`);
  if (version.digest) lines.push(`sha256 \`${version.digest}\``);
  if (version.detail) lines.push(version.detail);
  for (const { name: what, actor, reason, at } of version.decisions.slice(-10))
    lines.push(`- ${at} ${actor}: ${what}${reason && `, "${reason}"`}`);
  return lines.join('\n\n');
}
