// An application's consumer of one model type: starts deliveries in order and moves the live pointer. One per (application, type).
import { CancellationScope, condition, continueAsNew, isCancellation, patched } from '@temporalio/workflow';
import { setCurrentDetails, setHandler } from '@temporalio/workflow';
import { begin, center, deciding, deploying } from './activities.ts';
import { applicationBefore } from './before/application.ts';
import { runChild } from './children.ts';
import { delivery } from './delivery.ts';
import type { SignedCommand } from './domain/command.ts';
import { RESTORED } from './domain/failures.ts';
import type { Release } from './domain/model.ts';
import type { ApplicationStanding, Pending } from './domain/standing.ts';
import { explain } from './explain.ts';
import { openFinding } from './found-by.ts';
import { openInbox } from './inbox.ts';
import type { ApplicationInput } from './messages.ts';
import { live, wake, workflowId } from './messages.ts';
import type { Carried } from './model-lifecycle.ts';
import { wakeUp } from './wake-up.ts';

/** Runs as long as the application consumes this type. */
export async function application(input: ApplicationInput, carried?: Carried): Promise<void> {
  if (!patched('the-record-decides')) return applicationBefore(input, carried);
  const isResumed = patched('what-is-live-is-followed');
  const { application: name, type } = input;
  const find = openFinding();
  const inbox = openInbox(carried?.commands);
  const app = {
    standing: null as ApplicationStanding | null,
    deciding: null as string | null,
    /** The current delivery and the scope that can cancel it. */
    delivering: null as { release: Release; scope: CancellationScope } | null,
    woken: true,
    interrupted: false,
  };
  setHandler(wake, () => void (app.woken = true));
  setHandler(live, () => ({
    pointer: app.standing?.pointer ?? null,
    delivering: app.delivering?.release.release ?? null,
    busy: app.deciding ?? app.standing?.pending?.commandId ?? null,
  }));
  // A cancellation has no authority: it only interrupts the current delivery, which is then restarted.
  CancellationScope.current().cancelRequested.catch(() => {
    app.interrupted = true;
    app.delivering?.scope.cancel();
  });

  return CancellationScope.nonCancellable(async () => {
    const begun = await begin();
    see(begun.application);
    inbox.open(begun.keys);
    if (isResumed) await catchUp(begun.application);
    for (;;) {
      const pending = app.standing?.pending;
      if (pending) await follow(pending);
      await condition(
        () =>
          app.woken ||
          app.interrupted ||
          inbox.waiting.length > 0 ||
          inbox.hasRefused() ||
          (inbox.isFull() && !app.delivering),
      );
      const next = inbox.waiting.shift();
      if (next) await decide(next);
      if (app.woken) await look();
      const refusals = inbox.takeRefused();
      if (refusals) inbox.learn(await center.recordRefusals(refusals));
      if (app.interrupted) await center.recordInterruption();
      app.interrupted = false;
      const isIdle = inbox.waiting.length === 0 && !inbox.hasRefused() && !app.delivering && !app.woken;
      if (inbox.isFull() && isIdle && !app.standing?.pending)
        await continueAsNew<typeof application>(input, { commands: [] });
    }
  });

  /** An earlier run may have ended between a move and its effects. Each step does nothing if it is done already. */
  async function catchUp(begun: ApplicationStanding | null): Promise<void> {
    const { pointer, pending, wake: behind } = begun ?? {};
    if (pointer && pointer.generation > 0 && !pending) await writeLive(pointer.release);
    await wakeUp(behind ?? []);
  }

  /** Reads the records after a change: a new or a withdrawn release. */
  async function look(): Promise<void> {
    app.woken = false;
    if (app.delivering) {
      const { fenced } = await center.readFence({ release: app.delivering.release.release });
      if (fenced) app.delivering.scope.cancel();
      return;
    }
    const { release, generation = 0 } = await center.openDelivery();
    if (!release) {
      if (generation > (app.standing?.pointer.generation ?? 0)) await adopt();
      return;
    }
    const scope = new CancellationScope({ cancellable: true });
    app.delivering = { release, scope };
    show();
    // Not awaited: commands are decided during a delivery.
    void deliver(release, scope).finally(() => {
      app.delivering = null;
      app.woken = true;
      show();
    });
  }

  /** Follows a move that an activity of an earlier run made after this run had read the pointer: a reset does not stop it. */
  async function adopt(): Promise<void> {
    const standing = await center.readApplication();
    see({ ...standing, wake: [] });
    if (!standing.pending) await writeLive(standing.pointer.release);
    await wakeUp(standing.wake);
  }

  /** Delivers one release: gates, live pointer, main branch; then wakes the version's lifecycle. */
  async function deliver(release: Release, scope: CancellationScope): Promise<void> {
    const { release: id, project, model, submission } = release;
    const ended = await scope
      .run(async () => {
        const result = await runChild(delivery, {
          workflowId: workflowId.delivery({ application: name, release: id }),
          args: [{ application: name, type, release: id }],
          staticSummary: `deliver ${id} into ${name}`,
          attributes: { Project: project, Model: model, ModelType: type, Application: name, State: 'received' },
        });
        return result.state === 'deploying' ? undefined : '';
      })
      .catch((error: unknown) => {
        const { type: reason, message } = explain(error);
        // It waited for a restore to be accepted, and starts again.
        if (reason === RESTORED) return '';
        // Ending the workflow in Temporal decides nothing about the delivery.
        if (isCancellation(error) || (isResumed && reason === 'Ended')) return 'interrupted';
        return `the delivery was stopped: ${message}`;
      });
    // From here on the delivery cannot be stopped: the move of the pointer checks the fence again.
    if (ended === undefined) await deploy(release);
    else if (ended === 'interrupted') await center.interruptDelivery({ release: id });
    else if (ended !== '') await center.concludeDelivery({ release: id, ended });
    await wakeUp([workflowId.modelLifecycle({ project, model, submission })]);
  }

  async function deploy({ release }: Release): Promise<void> {
    try {
      const moved = await deploying.moveLivePointer({ release });
      // Results from before the standing was returned with the move do not contain it.
      see({ ...(moved.standing ?? (await center.readApplication())), wake: [] });
      if (moved.why !== null) return;
      await wakeUp(moved.wake);
      await writeLive(release);
    } catch (error) {
      await center.concludeDelivery({ release, ended: explain(error).message });
    }
  }

  /** Updates the main branch to the live release; if that fails, the live delivery gets a note. */
  async function writeLive(release: string | null): Promise<void> {
    const note = await commitLive();
    if (note && release !== null) await center.noteDelivery({ release, note });
  }

  /** Updates `model.lock` on the main branch. Returns a message if that fails: a person must then check the repository. */
  async function commitLive(): Promise<string> {
    try {
      await deploying.commitLive({ application: name, type });
      return '';
    } catch (error) {
      if (isCancellation(error)) throw error;
      return `the pointer has moved, but the main branch could not be written: ${explain(error).message}`;
    }
  }

  /** Reverts to an earlier proven release, or to none: Records decide, then the main branch is updated. */
  async function decide(command: SignedCommand): Promise<void> {
    app.deciding = command.body.commandId;
    const decided = await deciding.decidePointer({ command });
    app.deciding = null;
    see(decided);
    await wakeUp(decided.wake);
  }

  async function follow({ commandId }: Pending): Promise<void> {
    const note = await commitLive();
    see(await center.completePointer({ commandId, note }));
  }

  function see(standing: ApplicationStanding | null): void {
    if (!standing) throw new TypeError('the start of an application has no pointer');
    app.standing = standing;
    show();
  }

  function show(): void {
    const { release = null, generation = 0 } = app.standing?.pointer ?? {};
    const now = release ? `**live: ${release}**, generation ${generation}` : '**nothing is live**';
    find({ State: app.delivering ? 'delivering' : release ? 'live' : 'empty' });
    setCurrentDetails(app.delivering ? `${now}\n\ndelivering ${app.delivering.release.release}` : now);
  }
}
