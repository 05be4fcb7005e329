// An application's consumer of one model type from before Records decided: replays its old history, then moves to a new run.
import {
  CancellationScope,
  condition,
  continueAsNew,
  executeChild,
  getExternalWorkflowHandle,
} from '@temporalio/workflow';
import { isCancellation, setCurrentDetails, setHandler, upsertSearchAttributes } from '@temporalio/workflow';
import type { application } from '../application.ts';
import { earlier } from '../activities.ts';
import type { ApplicationInputBefore } from './contract.ts';
import { goingOver } from './going-over.ts';
import { delivery } from '../delivery.ts';
import type { CommandBody } from '../domain/command.ts';
import type { Refusal } from '../domain/lifecycle.ts';
import type { Delivery, LivePointer, Release } from '../domain/model.ts';
import { allowed } from '../domain/roles.ts';
import { explain } from '../explain.ts';
import type { Accepted, InboxState } from './inbox.ts';
import { openInbox } from './inbox.ts';
import { live, searchAttributes, wake, workflowId } from '../messages.ts';

interface Carried {
  readonly floor: number;
  /** Judges commands that arrive before the pointer is read again. */
  readonly pointer: LivePointer | null;
  readonly inbox: InboxState;
}
type ReleasedVersion = Pick<Release, 'project' | 'model' | 'submission'>;
/** The release to go back to. */
type Revert = { readonly to: string };

/** Runs as long as the application exists. */
export async function applicationBefore(given: object, before: unknown): Promise<never> {
  const input = given as ApplicationInputBefore;
  const carried = before as Carried | undefined;
  const { application: name, type, owner } = input;
  const over = goingOver(() =>
    continueAsNew<typeof application>(
      { application: name, type },
      { commands: [...(app.current ? [app.current] : []), ...inbox.accepted].map(({ command }) => command) },
    ),
  );
  const center = over.watch(earlier);
  const [delivering, deploying] = [center, center];
  const app = {
    pointer: carried?.pointer ?? null,
    /** Releases up to this sequence are older than the application and are not delivered. */
    floor: carried?.floor ?? null,
    /** The current delivery and the scope that can cancel it. */
    delivering: null as { release: Release; scope: CancellationScope } | null,
    busy: null as string | null,
    current: null as Accepted<Revert> | null,
    woken: true,
  };
  const inbox = openInbox<Revert>({
    keys: input.keys,
    operatorCommands: false,
    carried: carried?.inbox,
    over,
    judge: judgeRevert,
  });
  setHandler(wake, () => {
    app.woken = true;
    over.look();
  });
  setHandler(live, () => ({
    pointer: app.pointer,
    delivering: app.delivering?.release.release ?? null,
    busy: app.busy,
  }));
  upsertSearchAttributes([
    { key: searchAttributes.Application, value: name },
    { key: searchAttributes.ModelType, value: type },
  ]);
  return over.run(main);

  async function main(): Promise<never> {
    app.pointer = await center.readLivePointer({ application: name, type });
    app.floor ??= (await center.readFloor({ type })).floor;
    show();

    for (;;) {
      await condition(
        () =>
          app.woken ||
          inbox.accepted.length > 0 ||
          inbox.state.refused.length > 0 ||
          (inbox.isFull() && !app.delivering),
      );
      const next = inbox.accepted.shift();
      if (next) await revert(next);
      if (app.woken) await look();
      const refusals = inbox.takeRefused();
      if (refusals) await center.recordRefusals({ project: null, subject: `${name}/${type}`, ...refusals });
      const idle = inbox.accepted.length === 0 && inbox.state.refused.length === 0 && !app.delivering && !app.woken;
      if (inbox.isFull() && idle) {
        const { floor, pointer } = app;
        await continueAsNew<typeof applicationBefore>(input, {
          floor,
          pointer,
          inbox: { ...inbox.state, received: 0 },
        });
      }
    }
  }

  /** Reads the records after a change: a new or a withdrawn release. */
  async function look(): Promise<void> {
    app.woken = false;
    if (app.delivering) {
      const { fenced } = await center.readFence({ release: app.delivering.release.release });
      if (fenced) app.delivering.scope.cancel();
      return;
    }
    const { release } = await center.readNextRelease({ application: name, type, floor: app.floor ?? 0 });
    if (!release) return;
    const scope = new CancellationScope();
    app.delivering = { release, scope };
    show();
    // Not awaited: commands are processed during a delivery.
    void scope
      .run(() => deliver(release))
      .catch((error: unknown) => taken(release, error))
      .finally(() => {
        app.delivering = null;
        app.woken = true;
        show();
      });
  }

  /** Delivers one release: gates, live pointer, main branch; then wakes the version's lifecycle. */
  async function deliver(release: Release): Promise<void> {
    const generation = app.pointer?.generation ?? 0;
    const result = await over.awaiting(() =>
      executeChild(delivery, {
        workflowId: workflowId.delivery({ application: name, release: release.release }),
        args: [{ application: name, type, release: release.release }],
        staticSummary: `deliver ${release.release} into ${name}`,
      }),
    );
    // From here on the delivery cannot be stopped: the move of the pointer checks the fence again.
    await CancellationScope.nonCancellable(async () => {
      if (result.state === 'deploying') await deploy(result, generation);
      await tell(release);
    });
  }

  async function deploy(passed: Delivery, generation: number): Promise<void> {
    const { release } = passed;
    const key = `${workflowId.delivery({ application: name, release })}/live`;
    const moved = await deploying.moveLivePointer({
      key,
      application: name,
      type,
      generation,
      release,
      revert: false,
      actor: name,
      reason: 'all gates passed',
    });
    app.pointer = moved.pointer;
    if (moved.why)
      return center.recordDelivery({ delivery: { ...passed, state: 'failed', detail: moved.why, updatedAt: now() } });
    for (const version of moved.touched) await tell(version);
    const detail = await commitLive();
    if (detail) await center.recordDelivery({ delivery: { ...passed, state: 'live', detail, updatedAt: now() } });
  }

  /** Updates `model.lock` on the main branch. Returns a message if that fails: the release is live, but a person must check the repository. */
  async function commitLive(): Promise<string> {
    try {
      await deploying.commitLive({ application: name, type });
      return '';
    } catch (error) {
      if (isCancellation(error)) throw error;
      return `live, but the main branch could not be written: ${explain(error).message}`;
    }
  }

  /** Records a delivery that was stopped or could not run. */
  function taken(release: Release, error: unknown): Promise<void> {
    return CancellationScope.nonCancellable(async () => {
      const detail = isCancellation(error) ? 'withdrawn by a manager' : explain(error).message;
      const failed = {
        application: name,
        type,
        release: release.release,
        state: 'failed',
        gates: [],
        detail,
        updatedAt: now(),
      } as const;
      await center.recordDelivery({ delivery: failed });
      await tell(release);
    });
  }

  /** Wakes the version's lifecycle; a closed one is ignored. */
  async function tell({ project, model, submission }: ReleasedVersion): Promise<void> {
    await getExternalWorkflowHandle(workflowId.modelLifecycle({ project, model, submission }))
      .signal(wake)
      .catch(() => undefined);
  }

  function judgeRevert(body: CommandBody): Refusal | Revert {
    const to = body.args.release;
    if (body.name !== 'revert')
      return { refused: 'wrong-state', message: `an application accepts only the command revert, not ${body.name}` };
    if (!allowed('application.revert', body.roles, body.actor === owner))
      return { refused: 'not-authorized', message: `${body.actor} may not revert ${name}` };
    if (body.revision !== (app.pointer?.generation ?? 0))
      return { refused: 'stale', message: `${name} is at generation ${app.pointer?.generation ?? 0}: look again` };
    if (app.busy) return { refused: 'busy', message: `command ${app.busy} is being carried out` };
    if (!to) return { refused: 'invalid', message: 'args.release must name an earlier release' };
    if (!body.args.reason?.trim()) return { refused: 'invalid', message: 'args.reason must give a reason' };
    app.busy = body.commandId;
    return { to };
  }

  /** Reverts to an earlier proven release: verifies its bytes, then moves the pointer, then updates the main branch. */
  async function revert(accepted: Accepted<Revert>): Promise<void> {
    const {
      command,
      verdict: { to },
    } = accepted;
    const { body } = command;
    app.current = accepted;
    try {
      await delivering.receiveRelease({ application: name, type, release: to });
      const generation = app.pointer?.generation ?? 0;
      const reason = body.args.reason ?? '';
      const moved = await deploying.moveLivePointer({
        // Senders choose command ids, so another application may have the same one.
        key: `${workflowId.application({ application: name, type })}/${body.commandId}`,
        application: name,
        type,
        generation,
        release: to,
        revert: true,
        actor: body.actor,
        reason,
        command,
      });
      app.pointer = moved.pointer;
      if (moved.why) await fail(body, 'Conflict', moved.why);
      else {
        for (const version of moved.touched) await tell(version);
        const uncommitted = await commitLive();
        inbox.settle(body.commandId, { status: 'done', message: uncommitted || `${to} is live again` });
      }
    } catch (error) {
      if (isCancellation(error)) throw error;
      const { type: reason, message } = explain(error);
      await fail(body, reason, message);
    }
    app.current = null;
    app.busy = null;
    show();
  }

  async function fail(body: CommandBody, reason: string, message: string): Promise<void> {
    await center.recordFailedRevert({ application: name, type, body, reason, message });
    inbox.settle(body.commandId, { status: 'failed', reason, message });
  }

  function show(): void {
    const now = app.pointer?.release
      ? `**live: ${app.pointer.release}**, generation ${app.pointer.generation}`
      : '**nothing is live yet**';
    setCurrentDetails(app.delivering ? `${now}\n\ndelivering ${app.delivering.release.release}` : now);
  }
}

const now = (): string => new Date().toISOString();
