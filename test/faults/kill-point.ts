// Where a worker is killed: named points, and the parts of a worker that end its own process there by a real SIGKILL.
import type { PayloadCodec } from '@temporalio/common';
import type { ActivityInterceptorsFactory } from '@temporalio/worker';
import { z } from 'zod';

/** `before`: nothing is done yet. `after`: it is done, and nobody has been told. */
export const moments = ['before', 'after'] as const;

/**
 * An activity's execution: the how-manyth of its type in its type of workflow, or the one that an earlier death left to be
 * tried again; or the workflow task that takes a command.
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

/** For people. */
export const nameOf = (point: KillPoint): string =>
  point.kind === 'task'
    ? `workflow task of ${point.commandId}, ${point.moment}`
    : `${point.workflow}/${point.activity}/${point.occurrence}, ${point.moment}`;

/** Text for the environment, and its inverse. */
export const writeKillPoint = (point: KillPoint | undefined): string => (point ? JSON.stringify(point) : '');
export const readKillPoint = (text: string): KillPoint | undefined =>
  text === '' ? undefined : killPointSchema.parse(JSON.parse(text));

/** Ends this process as a power switch would: no handler runs, nothing is flushed. Never resolves. */
async function die(): Promise<never> {
  process.kill(process.pid, 'SIGKILL');
  return new Promise<never>(() => undefined);
}

/** Kills the process around one activity's execution. Executions are counted, attempts of the same one are not. */
export function killingActivities(point: KillPoint | undefined): ActivityInterceptorsFactory {
  const seen = new Map<string, string[]>();
  return ({ info }) => ({
    inbound: {
      async execute(input, next) {
        const name = `${info.workflowType}/${info.activityType}`;
        const ids = seen.get(name) ?? [];
        const id = `${info.workflowExecution?.runId}/${info.activityId}`;
        if (!ids.includes(id)) seen.set(name, [...ids, id]);
        const here =
          point?.kind === 'activity' &&
          name === `${point.workflow}/${point.activity}` &&
          (point.occurrence === 'retried' ? info.attempt > 1 : seen.get(name)?.indexOf(id) === point.occurrence - 1);
        if (here && point.moment === 'before') await die();
        const result = await next(input);
        if (here) await die();
        return result;
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
