// A version's lifecycle from before Records decided: replays its old history, then moves to a new run.
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

/** State kept over continue-as-new. */
interface Carried {
  readonly version: Version;
  readonly approvals: readonly string[];
  readonly attempt: number;
  readonly failedDeliveries: number;
  readonly inbox: InboxState;
}
type Verdict = { readonly transition: Transition; readonly completes: boolean };

/** Runs one submission's lifecycle; returns the version in its final state. */
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
    /** A wake-up reported that the deliveries have changed. */
    woken: true,
    over: false,
  };
  const inbox = openInbox<Verdict>({
    keys: input.keys,
    operatorCommands: policy.operatorCommands,
    carried: carried?.inbox,
    over,
    judge(body, operator) {
      if (life.over) return { refused: 'wrong-state', message: `the lifecycle is closed (${life.version.state})` };
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
      // An operator cancelled the workflow: the end must still be recorded.
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

  /** Closes the lifecycle: the bytes may be submitted again, and every remaining command gets an answer. */
  async function close(): Promise<void> {
    await center.closeVersion({ version: life.version });
    for (const left of inbox.accepted.splice(0))
      await fail(left, 'Conflict', `the lifecycle was just closed (${life.version.state})`);
    // Commands that arrived meanwhile were refused; record that in the audit too.
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
        // An operator has ended only the run: its author may try again.
        return { failed: `the run was ended directly in Temporal: ${explain(error).message}` };
      }
    });
    if (result && 'run' in result) await enter('trained', { run: result.run, detail: '' });
    else if (result) await enter('failed', { detail: result.failed });
  }

  /** Moves the submission into staging, validates the model and assigns its version number. */
  async function validate(): Promise<void> {
    const directory = 'directory' in beginning ? beginning.directory : `runs/${submission}-${life.attempt}`;
    // For a run, only the files that it produced are accepted.
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

  /** Removes the staged files, if any; a failure is logged and does not block the lifecycle. */
  async function unstage(): Promise<void> {
    await CancellationScope.nonCancellable(() => launcher.unstageModel({ project, model, submission })).catch(
      (error: unknown) => log.error('could not remove the staged files', { error: String(error) }),
    );
  }

  /** Waits for commands and for reports from applications. */
  async function attend(): Promise<void> {
    if (life.woken && life.version.state === 'released') await readDeliveries();
    else life.woken = false;
    // Signals with unknown names count too, since they also fill the history.
    const something = () => inbox.accepted.length > 0 || life.woken || inbox.state.refused.length > 0 || inbox.isFull();
    if (life.version.state === 'rejected') {
      const undoableUntil = Date.parse(rejectedAt()) + policy.undoWithinSeconds * 1000;
      if (undoableUntil > Date.now()) await condition(something, undoableUntil - Date.now());
      // An accepted undo counts even if the workers were down until after the window.
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

  /** The start of the undo window: the rejection; later changes such as tags do not restart it. */
  function rejectedAt(): string {
    const { decisions: made, updatedAt } = life.version;
    if (!patched('undo-window-from-the-rejection')) return updatedAt;
    return made.findLast(({ name }) => name === 'reject')?.at ?? updatedAt;
  }

  /** Runs `work` unless a withdrawal stops it: then the withdrawal is carried out, and the result is undefined. */
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

  /** Carries out an accepted command: its effects, then the record, then its outcome. If an effect fails, the state does not change. */
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
      // A release that was stopped by hand has failed; only a cancellation of the lifecycle itself is passed on.
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

  /** Records a transition, then applies it: a state is never visible before it is recorded. */
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

  /** Reads the deliveries of this version's releases for the manager, who may reassign failed ones. */
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

/** A version's details for the Temporal Web UI (Markdown). */
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
