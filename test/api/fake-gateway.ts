// A gateway that records its calls and answers as a test specifies.
import type { SignedCommand } from '../../workflows/domain/command.ts';
import type { WorkflowName } from '../../workflows/messages.ts';
import { taskQueues, workflowId } from '../../workflows/messages.ts';
import type { GatewayErrorKind, Seen, Waiting, WorkflowGateway } from '../../api/gateway.ts';
import { GatewayError } from '../../api/gateway.ts';

export interface FakeGateway extends WorkflowGateway {
  /** What runs, by id, with its input. */
  readonly started: Map<string, unknown>;
  readonly sent: { readonly workflowId: string; readonly command: SignedCommand }[];
  readonly cancelled: string[];
  readonly woken: string[];
  readonly terminated: { readonly workflowId: string; readonly runId: string; readonly reason: string }[];
  /** The state of a workflow, if it is not just running. */
  readonly seen: Map<string, Seen>;
  /** Earlier runs that the server still knows, by run id. */
  readonly former: Map<string, Seen>;
  /** What the next calls throw, by what is called. */
  readonly throws: {
    start?: GatewayErrorKind;
    send?: GatewayErrorKind;
    look?: GatewayErrorKind;
    ready?: GatewayErrorKind;
  };
  /** What every workflow waits for. */
  pending: readonly Waiting[];
  /** What the workflow does with a command that it gets. */
  onCommand: (workflowId: string, command: SignedCommand) => Promise<unknown>;
}

export function createFakeGateway(): FakeGateway {
  const started = new Map<string, unknown>();
  const seen = new Map<string, Seen>();
  const start = async (type: WorkflowName, id: string, input: unknown) => {
    check('start');
    if (seen.get(id)?.isRunning ?? started.has(id)) return { started: false };
    started.set(id, input);
    seen.set(id, seenAs(type, id));
    return { started: true };
  };
  const check = (what: keyof FakeGateway['throws']): void => {
    const kind = fake.throws[what];
    if (kind) throw new GatewayError(kind, `the fake is ${kind}`);
  };
  const fake: FakeGateway = {
    started,
    sent: [],
    cancelled: [],
    woken: [],
    terminated: [],
    seen,
    former: new Map(),
    throws: {},
    pending: [],
    onCommand: async () => undefined,
    startLifecycle: (input) => start('modelLifecycle', workflowId.modelLifecycle(input), input),
    startEvaluation: (input) => start('evaluation', workflowId.evaluation(input), input),
    startApplication: (input) => start('application', workflowId.application(input), input),
    startFeedback: (input) => start('feedback', workflowId.feedback(input), input),
    startImport: (input) => start('dataImport', workflowId.dataImport(input), input),
    async cancel(id) {
      check('send');
      fake.cancelled.push(id);
    },
    async sendCommand(id, command) {
      check('send');
      fake.sent.push({ workflowId: id, command });
      await fake.onCommand(id, command);
    },
    async wake(id) {
      check('send');
      fake.woken.push(id);
    },
    async look(id, runId) {
      check('look');
      const found = runId === undefined ? seen.get(id) : fake.former.get(runId);
      return runId === seen.get(id)?.runId ? seen.get(id) : found;
    },
    async terminate(id, runId, reason) {
      fake.terminated.push({ workflowId: id, runId, reason });
      seen.delete(id);
      started.delete(id);
    },
    async waiting() {
      return fake.pending;
    },
    async ready() {
      check('ready');
    },
  };
  return fake;
}

/** A workflow of ours that has just begun to run. */
export const seenAs = (type: WorkflowName, id: string, given: Partial<Seen> = {}): Seen => ({
  ...{ isRunning: true, status: 'RUNNING', type, taskQueue: taskQueues.core, isComing: true },
  ...{ runId: `run of ${id}`, firstRunId: `run of ${id}` },
  ...given,
});
