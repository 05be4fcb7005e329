// A gateway that keeps what it is told and answers as a test wishes.
import type { Outcome, SignedCommand } from '../../workflows/domain/command.ts';
import { workflowId } from '../../workflows/messages.ts';
import type { GatewayErrorKind, Waiting, WorkflowGateway } from '../../api/gateway.ts';
import { GatewayError } from '../../api/gateway.ts';

export interface FakeGateway extends WorkflowGateway {
  readonly started: Map<string, unknown>;
  readonly sent: { readonly workflowId: string; readonly command: SignedCommand }[];
  readonly cancelled: string[];
  /** Answers to `outcome`, one after the other; the last one stays. */
  outcomes: (Outcome | null | undefined)[];
  /** What the next calls throw, by what is called. */
  readonly throws: {
    send?: GatewayErrorKind;
    outcome?: GatewayErrorKind;
    status?: GatewayErrorKind;
    ready?: GatewayErrorKind;
  };
  /** What every workflow waits for. */
  pending: readonly Waiting[];
  status: Awaited<ReturnType<WorkflowGateway['lifecycleStatus']>>;
}

export function createFakeGateway(): FakeGateway {
  const started = new Map<string, unknown>();
  const start = async (id: string, input: unknown) => {
    if (started.has(id)) return { started: false };
    started.set(id, input);
    return { started: true };
  };
  const check = (kind: GatewayErrorKind | undefined): void => {
    if (kind) throw new GatewayError(kind, `the fake is ${kind}`);
  };
  const fake: FakeGateway = {
    started,
    sent: [],
    cancelled: [],
    outcomes: [{ status: 'done', message: 'done' }],
    throws: {},
    pending: [],
    status: undefined,
    startLifecycle: (input) => start(workflowId.modelLifecycle(input), input),
    startEvaluation: (input) => start(workflowId.evaluation(input), input),
    startApplication: (input) => start(workflowId.application(input), input),
    startFeedback: (input) => start(workflowId.feedback(input), input),
    startImport: (input) => start(workflowId.dataImport(input), input),
    async cancel(id) {
      check(fake.throws.send);
      fake.cancelled.push(id);
    },
    async sendCommand(id, command) {
      check(fake.throws.send);
      fake.sent.push({ workflowId: id, command });
    },
    async outcome() {
      check(fake.throws.outcome);
      return fake.outcomes.length > 1 ? fake.outcomes.shift() : fake.outcomes[0];
    },
    async lifecycleStatus() {
      check(fake.throws.status);
      return fake.status;
    },
    async waiting() {
      return fake.pending;
    },
    async ready() {
      check(fake.throws.ready);
    },
  };
  return fake;
}
