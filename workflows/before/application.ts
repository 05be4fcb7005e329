// A consumer of one model type as it ran before Records decided: it replays as it was, and goes over when it is live.
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
  /** Commands that come before it is read again are judged by it. */
  readonly pointer: LivePointer | null;
  readonly inbox: InboxState;
}
type ReleasedVersion = Pick<Release, 'project' | 'model' | 'submission'>;
/** The release to go back to. */
type Revert = { readonly to: string };

/** Runs for as long as the application exists. */
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
    /** Releases up to this sequence came before the application: they are not delivered. */
    floor: carried?.floor ?? null,
    /** The delivery on its way and the scope that can stop it. */
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

  /** Something has changed in the records: a new release, or one that was taken back. */
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
    // Not awaited: commands are attended to while a delivery is on its way.
    void scope
      .run(() => deliver(release))
      .catch((error: unknown) => taken(release, error))
      .finally(() => {
        app.delivering = null;
        app.woken = true;
        show();
      });
  }

  /** Brings one release in: gates, then the live pointer, then the main branch; then its lifecycle hears of it. */
  async function deliver(release: Release): Promise<void> {
    const generation = app.pointer?.generation ?? 0;
    const result = await over.awaiting(() =>
      executeChild(delivery, {
        workflowId: workflowId.delivery({ application: name, release: release.release }),
        args: [{ application: name, type, release: release.release }],
        staticSummary: `deliver ${release.release} into ${name}`,
      }),
    );
    // From here on it cannot be stopped: the fence is asked once more with the move itself.
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

  /** `model.lock` follows the pointer. What is said when it cannot: the release is live all the same, a person has to look at the repository. */
  async function commitLive(): Promise<string> {
    try {
      await deploying.commitLive({ application: name, type });
      return '';
    } catch (error) {
      if (isCancellation(error)) throw error;
      return `live, but the main branch could not be written: ${explain(error).message}`;
    }
  }

  /** The delivery was stopped, or could not even be run. */
  function taken(release: Release, error: unknown): Promise<void> {
    return CancellationScope.nonCancellable(async () => {
      const detail = isCancellation(error) ? 'taken back by a manager' : explain(error).message;
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

  /** Wakes the version's lifecycle; a closed one does not mind. */
  async function tell({ project, model, submission }: ReleasedVersion): Promise<void> {
    await getExternalWorkflowHandle(workflowId.modelLifecycle({ project, model, submission }))
      .signal(wake)
      .catch(() => undefined);
  }

  function judgeRevert(body: CommandBody): Refusal | Revert {
    const to = body.args.release;
    if (body.name !== 'revert')
      return { refused: 'wrong-state', message: `an application knows the command revert, not ${body.name}` };
    if (!allowed('application.revert', body.roles, body.actor === owner))
      return { refused: 'not-authorized', message: `${body.actor} may not revert ${name}` };
    if (body.revision !== (app.pointer?.generation ?? 0))
      return { refused: 'stale', message: `${name} is at generation ${app.pointer?.generation ?? 0}: look again` };
    if (app.busy) return { refused: 'busy', message: `command ${app.busy} is being carried out` };
    if (!to) return { refused: 'invalid', message: 'args.release must name an earlier release' };
    if (!body.args.reason?.trim()) return { refused: 'invalid', message: 'a reason is needed' };
    app.busy = body.commandId;
    return { to };
  }

  /** Back to an earlier proven release: its bytes are still there and still the same, then the pointer, then the main branch. */
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
        // Ids are chosen by those who send commands: another application may know the same one.
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
