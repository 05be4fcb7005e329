// The workers of the long activities: a queue and a few slots for each kind, so that none holds up another.
import type { WorkerOptions } from '@temporalio/worker';
import { Worker } from '@temporalio/worker';
import { taskQueues } from '../workflows/messages.ts';

/**
 * How many run side by side in one worker process; the rest wait in the queue, durably. Trainings and evaluations take a core
 * each of a small machine; imports wait for other machines most of the time. `jobs` has only what earlier versions of the
 * platform scheduled.
 */
export const slots = { training: 2, evaluation: 2, imports: 4, jobs: 2 } as const;

/** One worker for each queue of long activities. */
export function createJobWorkers(common: Omit<WorkerOptions, 'taskQueue'>): Promise<Worker[]> {
  const kinds = Object.entries(slots) as [keyof typeof slots, number][];
  return Promise.all(
    kinds.map(([kind, count]) =>
      Worker.create({ ...common, taskQueue: taskQueues[kind], maxConcurrentActivityTaskExecutions: count }),
    ),
  );
}
