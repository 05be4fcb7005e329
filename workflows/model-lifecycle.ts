// The lifecycle of one version, from provisioning to retirement: this workflow coordinates, Records decide.
import { CancellationScope, condition, continueAsNew, isCancellation, log, patched } from '@temporalio/workflow';
import { setCurrentDetails, setHandler, upsertSearchAttributes } from '@temporalio/workflow';
import { begin, center, launcher } from './activities.ts';
import { lifecycleBefore } from './before/model-lifecycle.ts';
import { runChild } from './children.ts';
import { carryOutEffects } from './decisions.ts';
import type { Version } from './domain/model.ts';
import { specOfNext } from './domain/model.ts';
import type { VersionStanding } from './domain/standing.ts';
import { explain } from './explain.ts';
import { openInbox } from './inbox.ts';
import type { LifecycleInput } from './messages.ts';
import { searchAttributes, status, wake, workflowId } from './messages.ts';
import { trainingRun } from './training-run.ts';
import { wakeUp } from './wake-up.ts';

/** State kept over continue-as-new: unprocessed signals. Everything else is read from Records. */
export interface Carried {
  readonly commands: readonly unknown[];
}

const INTERRUPTED = 'ended by an operator';
const AGAIN_AFTER = '5 seconds';

/** Runs one submission's lifecycle; returns the version in its final state. */
export async function modelLifecycle(input: LifecycleInput, carried?: Carried): Promise<Version> {
  if (!patched('the-record-decides')) return lifecycleBefore(input, carried);
  const inbox = openInbox(carried?.commands);
  const life = {
    standing: null as VersionStanding | null,
    /** The command that is being decided. */
    deciding: null as string | null,
    /** A wake-up reported that the records have changed. */
    woken: true,
    /** The current work, which an operator's cancellation interrupts. */
    working: null as CancellationScope | null,
    interrupted: false,
    /** The latest revision whose record is stored beside the artifact. */
    filed: -1,
  };
  setHandler(status, () => {
    const { standing, deciding } = life;
    const { version = null, counting = [], pending = null } = standing ?? {};
    return { version, busy: deciding ?? pending?.commandId ?? null, approvals: counting };
  });
  setHandler(wake, () => void (life.woken = true));
  // A cancellation has no authority: it interrupts the current work and changes no state.
  CancellationScope.current().cancelRequested.catch(() => {
    life.interrupted = true;
    life.working?.cancel();
  });

  return CancellationScope.nonCancellable(async () => {
    const begun = await begin();
    let standing = see(begun.version);
    if (begun.isFiled) life.filed = standing.version.revision;
    inbox.open(begun.keys);
    while (!standing.closed) {
      await write(standing);
      if (standing.pending) standing = see(await carryOutEffects(standing.pending, standing));
      else if (standing.version.state === 'provisioning' || standing.version.state === 'training')
        standing = await train(standing);
      else if (standing.version.state === 'validating') standing = await validate(standing);
      else standing = await attend(standing);
    }
    await write(standing);
    const { state } = standing.version;
    if (state === 'invalid' || state === 'withdrawn') await unstage();
    return standing.version;
  });

  /** Stores the state from Records for queries and the Web UI. */
  function see(standing: VersionStanding | null): VersionStanding {
    if (!standing) throw new TypeError('the start of a lifecycle has no version');
    life.standing = standing;
    const { version } = standing;
    upsertSearchAttributes([
      { key: searchAttributes.State, value: version.state },
      { key: searchAttributes.Tags, value: [...version.tags] },
      ...(version.version === null ? [] : [{ key: searchAttributes.ModelVersion, value: version.version }]),
    ]);
    setCurrentDetails(details(standing));
    return standing;
  }

  /** After a commit, writes the record beside the artifact and refusals to the audit. */
  async function write({ version }: VersionStanding): Promise<void> {
    if (life.filed !== version.revision) await center.fileTransitions();
    life.filed = version.revision;
    const refusals = inbox.takeRefused();
    if (refusals) inbox.learn(await center.recordRefusals(refusals));
    if (life.interrupted) await center.recordInterruption();
    life.interrupted = false;
  }

  /** Provisions and trains: the child records the run, which determines the next state. */
  async function train(standing: VersionStanding): Promise<VersionStanding> {
    const { project, model, submission, author, state, revision } = standing.version;
    if (state === 'provisioning') return see(await center.advanceVersion({ revision }));
    const { attempt } = standing;
    if (!('run' in input.beginning))
      return see(await center.advanceVersion({ revision, ended: 'there is no run to train' }));
    const spec = specOfNext(input.beginning.run, standing.version);
    return whileWorking(standing, async () => {
      const result = await runChild(trainingRun, {
        workflowId: workflowId.trainingRun({ project, model, submission, attempt }),
        args: [{ project, model, submission, author, attempt, spec }],
        staticSummary: `train ${model} (${submission}, attempt ${attempt})`,
        attributes: { Project: project, Model: model, ModelType: input.type, Author: author, State: 'running' },
      });
      return 'failed' in result ? result.failed : 'the run ended without a record of it';
    });
  }

  /** Moves the submission into staging and validates it; the result determines the next state. */
  async function validate(standing: VersionStanding): Promise<VersionStanding> {
    return whileWorking(standing, async () => {
      await launcher.stageModel();
      await launcher.validateModel();
      return 'the validation ended without a result';
    });
  }

  /**
   * Runs `work`, then lets Records make the transition that follows from it. Commands are decided meanwhile: a command that
   * changes the version's state stops the work.
   * @param work returns the message to record if it left no result
   */
  async function whileWorking(standing: VersionStanding, work: () => Promise<string>): Promise<VersionStanding> {
    const scope = new CancellationScope({ cancellable: true });
    const { revision } = standing.version;
    const state = { ended: undefined as string | undefined, over: false };
    life.working = scope;
    const working = scope
      .run(work)
      .catch((error: unknown) => (isCancellation(error) ? INTERRUPTED : explain(error).message))
      .then((ended) => Object.assign(state, { ended, over: true }));
    for (let now = standing; ;) {
      await condition(() => state.over || inbox.waiting.length > 0 || inbox.hasRefused());
      if (state.over) {
        life.working = null;
        // An interrupted training has failed; an interrupted validation is repeated.
        if (state.ended === INTERRUPTED && now.version.state === 'validating') return now;
        return see(await center.advanceVersion({ revision: now.version.revision, ended: state.ended ?? '' }));
      }
      now = await decideNext(now);
      if (now.version.revision !== revision || now.closed) {
        scope.cancel();
        await working;
        life.working = null;
        return now;
      }
    }
  }

  /** Decides the next waiting command, if any. */
  async function decideNext(standing: VersionStanding): Promise<VersionStanding> {
    const next = inbox.waiting.shift();
    const refusals = inbox.takeRefused();
    if (refusals) inbox.learn(await center.recordRefusals(refusals));
    if (!next) return standing;
    life.deciding = next.body.commandId;
    const decided = await center.decideVersion({ command: next });
    life.deciding = null;
    await wakeUp(decided.wake);
    return see(decided);
  }

  /** Waits for commands and for reports from applications. */
  async function attend(standing: VersionStanding): Promise<VersionStanding> {
    const { revision, state } = standing.version;
    const something = () =>
      inbox.waiting.length > 0 || life.woken || life.interrupted || inbox.hasRefused() || inbox.isFull();
    const left = state === 'rejected' ? Date.parse(standing.undoUntil ?? '') - Date.now() : undefined;
    const isDue = left !== undefined && !(left > 0 && (await condition(something, left)));
    if (left === undefined) await condition(something);
    // An undo that arrived in time counts even if the workers were down until after the window: it is decided first.
    if (inbox.waiting.length > 0) return decideNext(standing);
    const isTold = life.woken && state === 'released';
    life.woken = false;
    if (isTold) return see(await center.advanceVersion({ revision }));
    if (isDue) {
      const after = see(await center.advanceVersion({ revision }));
      // If the signal of an undo recorded in time was lost, it is sent again.
      // Only the undo ends this pause: a full inbox stays full.
      if (!after.closed) await condition(() => inbox.waiting.length > 0, AGAIN_AFTER);
      return after;
    }
    await write(standing);
    if (inbox.isFull() && inbox.waiting.length === 0 && !inbox.hasRefused())
      await continueAsNew<typeof modelLifecycle>(input, { commands: [] });
    return standing;
  }

  /** Removes the staged files; a failure is logged and does not block the lifecycle. */
  async function unstage(): Promise<void> {
    await launcher
      .unstageModel()
      .catch((error: unknown) => log.error('could not remove the staged files', { error: String(error) }));
  }
}

/** A version's details for the Temporal Web UI (Markdown). */
function details({ version, counting, lapsed, quorum, pending }: VersionStanding): string {
  const name = version.version === null ? version.submission : `version ${version.version} (${version.submission})`;
  const lines = [`**${version.state}**: ${version.model} ${name} of ${version.author}, revision ${version.revision}`];
  if (pending) lines.push(`carrying out: ${pending.name}`);
  if (version.state === 'new') lines.push(`approvals: ${counting.length} of ${quorum}`);
  for (const { actor, why } of lapsed) lines.push(`lapsed approval: ${actor} ${why}`);
  if (version.digest) lines.push(`sha256 \`${version.digest}\``);
  if (version.detail) lines.push(version.detail);
  for (const { name: what, actor, reason, at } of version.decisions.slice(-10))
    lines.push(`- ${at} ${actor}: ${what}${reason && `, "${reason}"`}`);
  return lines.join('\n\n');
}
