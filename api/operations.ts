// Administrator operations: sweep now for workflows that are open in the record but not running.
import { z } from 'zod';
import type { ApiDeps } from './deps.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { sweep } from './sweep.ts';

const ids = z.array(z.string()).readonly();

const report = z.object({
  /** Workflows that were open in the record but not running, and were restarted. */
  restarted: ids,
  /** Workflows waiting for their next restart. */
  waiting: ids,
  /** Evaluations and imports that someone ended in Temporal. They have failed and run once more to clean up. */
  ended: ids,
  /** Foreign runs that used a workflow id of the platform. */
  terminated: ids,
  /** Number of commands signalled again. */
  signalled: z.number(),
});

export const operationRoutes = (deps: ApiDeps): readonly Route[] => [
  route({
    method: 'post',
    path: '/v1/platform/sweep',
    operationId: 'sweep',
    summary:
      'Resumes from the record the open workflows that are not running; the platform also does this automatically',
    action: 'platform.operate',
    response: report,
    async handler() {
      return { body: await sweep(deps) };
    },
  }),
];
