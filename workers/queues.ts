// The workers of the long activities: each kind has its own queue and slots, so that no kind blocks another.
import type { WorkerOptions } from '@temporalio/worker';
import { Worker } from '@temporalio/worker';
import { taskQueues } from '../workflows/messages.ts';

/**
 * Concurrent activities in one worker process; the rest wait durably in the queue. Those of trainings and evaluations end
 * once their job is queued; only activities that earlier versions scheduled hold a slot until the job's end. Imports mostly
 * wait for other machines. `jobs` serves only activities that earlier versions scheduled.
 */
export const slots = { training: 20, evaluation: 20, imports: 4, jobs: 2 } as const;

/** One worker for each queue of long activities. */
export function createJobWorkers(common: Omit<WorkerOptions, 'taskQueue'>): Promise<Worker[]> {
  const kinds = Object.entries(slots) as [keyof typeof slots, number][];
  return Promise.all(
    kinds.map(([kind, count]) =>
      Worker.create({ ...common, taskQueue: taskQueues[kind], maxConcurrentActivityTaskExecutions: count }),
    ),
  );
}
