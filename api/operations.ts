// What an administrator has the platform do: look at once for what is open in the record and does not run.
import { z } from 'zod';
import type { ApiDeps } from './deps.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { sweep } from './sweep.ts';

const ids = z.array(z.string()).readonly();

const report = z.object({
  /** Workflows that were open in the record and not running, and were started again. */
  restarted: ids,
  /** Those that wait for their next restart. */
  waiting: ids,
  /** Evaluations and imports that somebody has ended in Temporal: they run once more to clean up, and have failed. */
  ended: ids,
  /** Runs under an id of the platform's that were not its own. */
  terminated: ids,
  /** Commands that were signalled again. */
  signalled: z.number(),
});

export const operationRoutes = (deps: ApiDeps): readonly Route[] => [
  route({
    method: 'post',
    path: '/v1/platform/sweep',
    operationId: 'sweep',
    summary: 'Resumes from the record what is open and does not run; the platform does so by itself, too',
    action: 'platform.operate',
    response: report,
    async handler() {
      return { body: await sweep(deps) };
    },
  }),
];
