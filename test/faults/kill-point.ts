// Points at which a worker is killed by SIGKILL or held, and the parts of a worker that stop there.
import { CompleteAsyncError, type Info } from '@temporalio/activity';
import type { PayloadCodec } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { z } from 'zod';

/** `before`: the effect has not happened. `after`: it has happened but is not reported. */
export const moments = ['before', 'after'] as const;

/**
 * An activity's execution: its number among those of its type and workflow type, or the one that an earlier kill left to be
 * retried; or the workflow task that handles a command.
 */
const killPointSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('activity'),
    workflow: z.string(),
    activity: z.string(),
    occurrence: z.union([z.number().int().positive(), z.literal('retried')]),
    moment: z.enum(moments),
  }),
  z.object({ kind: z.literal('task'), commandId: z.string(), moment: z.enum(moments) }),
]);
export type KillPoint = z.infer<typeof killPointSchema>;
export type ActivityPoint = Extract<KillPoint, { kind: 'activity' }>;

/** For people. */
export const nameOf = (point: KillPoint): string =>
  point.kind === 'task'
    ? `workflow task of ${point.commandId}, ${point.moment}`
    : `${point.workflow}/${point.activity}/${point.occurrence}, ${point.moment}`;

/** Text for the environment, and its inverse. */
export const writeKillPoint = (point: KillPoint | undefined): string => (point ? JSON.stringify(point) : '');
export const readKillPoint = (text: string): KillPoint | undefined =>
  text === '' ? undefined : killPointSchema.parse(JSON.parse(text));

/** Kills this process: no handler runs, nothing is flushed. Never resolves. */
async function die(): Promise<never> {
  process.kill(process.pid, 'SIGKILL');
  return new Promise<never>(() => undefined);
}

/** Kills the process around one activity's execution. */
export const killingActivities = (point: KillPoint | undefined): ActivityInterceptorsFactory =>
  stoppingActivities(point?.kind === 'activity' ? point : undefined, die);

/** An activity's execution at which a worker waits. */
export interface Held {
  readonly interceptor: ActivityInterceptorsFactory;
  /** The execution, once it is there. */
  readonly reached: Promise<Info>;
  readonly isReached: () => boolean;
  /** Releases the execution, now or when it arrives. */
  readonly letGo: () => void;
  /** The execution has ended. */
  readonly finished: Promise<void>;
}

/** Holds a worker before or after one activity's execution until it is released. */
export function holdingActivities(point: ActivityPoint): Held {
  const state = { held: undefined as Info | undefined, ...promiseParts() };
  const stopping = stoppingActivities(point, async (info) => {
    state.held = info;
    state.arrive(info);
    await state.gone;
  });
  const interceptor: ActivityInterceptorsFactory = (context) => {
    const { inbound } = stopping(context);
    return {
      inbound: {
        async execute(input, next) {
          try {
            return await inbound?.execute?.(input, next);
          } finally {
            if (state.held === context.info) state.finish();
          }
        },
      },
    };
  };
  const { reached, finished, letGo } = state;
  return { interceptor, reached, finished, letGo, isReached: () => state.held !== undefined };
}

function promiseParts() {
  const made = { arrive: (_: Info): void => undefined, letGo: (): void => undefined, finish: (): void => undefined };
  const reached = new Promise<Info>((resolve) => (made.arrive = resolve));
  const gone = new Promise<void>((resolve) => (made.letGo = resolve));
  const finished = new Promise<void>((resolve) => (made.finish = resolve));
  return { reached, gone, finished, ...made };
}

/** Calls `stop` around one activity's execution. Executions are counted, attempts of the same one are not. */
function stoppingActivities(
  point: ActivityPoint | undefined,
  stop: (info: Info) => Promise<void>,
): ActivityInterceptorsFactory {
  const seen = new Map<string, string[]>();
  return ({ info }) => ({
    inbound: {
      async execute(input, next) {
        const name = `${info.workflowType}/${info.activityType}`;
        const ids = seen.get(name) ?? [];
        const id = `${info.workflowExecution?.runId}/${info.activityId}`;
        if (!ids.includes(id)) seen.set(name, [...ids, id]);
        const here =
          point !== undefined &&
          name === `${point.workflow}/${point.activity}` &&
          (point.occurrence === 'retried' ? info.attempt > 1 : seen.get(name)?.indexOf(id) === point.occurrence - 1);
        if (here && point.moment === 'before') await stop(info);
        const isStop = here && point.moment === 'after';
        try {
          const result = await next(input);
          if (isStop) await stop(info);
          return result;
        } catch (error) {
          // The activity has done its part: somebody else completes it later.
          if (isStop && error instanceof CompleteAsyncError) await stop(info);
          throw error;
        }
      },
    },
  });
}

/**
 * Kills the process in the workflow task that brings a command: `before` when its signal is handed to the worker, `after`
 * when the workflow has accepted it and the worker is about to report what it decided.
 */
export function killingTasks(point: KillPoint | undefined): PayloadCodec {
  const commandId = point?.kind === 'task' ? `"commandId":"${point.commandId}"` : undefined;
  const has = (data: Uint8Array | null | undefined, text: string): boolean =>
    Buffer.from(data ?? [])
      .toString('utf8')
      .includes(text);
  return {
    async decode(payloads) {
      const brought = payloads.some(({ data }) => has(data, '"signature"') && commandId && has(data, commandId));
      if (point?.moment === 'before' && brought) await die();
      return payloads;
    },
    async encode(payloads) {
      const decided = payloads.some(({ data }) => commandId && has(data, commandId));
      if (point?.moment === 'after' && decided) await die();
      return payloads;
    },
  };
}
