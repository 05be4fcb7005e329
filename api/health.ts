// Liveness and readiness for supervisors and load balancers, without a token; metrics, with a token.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Digest } from '../workflows/domain/names.ts';
import type { ApiDeps } from './deps.ts';
import { problem } from './problems.ts';
import type { Route } from './route.ts';
import { publicRoute, route } from './route.ts';

const ok = z.object({ status: z.string() });
/** No token has this digest. Looking it up costs one index read. */
const NOBODY = '0'.repeat(64) as Digest;
/** A probe must not wait for a hanging system: most probes give up after some seconds. */
const ANSWER_WITHIN_MS = 5_000;

export const healthRoutes = ({ records, workflows, log, counters }: ApiDeps): readonly Route[] => [
  publicRoute({
    public: true,
    method: 'get',
    path: '/healthz',
    operationId: 'getHealth',
    summary: 'The process is alive',
    response: ok,
    handler: async () => ({ body: { status: 'alive' } }),
  }),
  publicRoute({
    public: true,
    method: 'get',
    path: '/readyz',
    operationId: 'getReadiness',
    summary: 'The database and the workflow server answer',
    response: ok,
    async handler() {
      const asked = { records: records.principal(NOBODY), workflows: workflows.ready() };
      const results = await Promise.allSettled(Object.values(asked).map(soon));
      const missing = Object.keys(asked).filter((_, i) => results[i]?.status === 'rejected');
      for (const result of results)
        if (result.status === 'rejected') log.warn({ err: result.reason as Error }, 'not ready');
      if (missing.length > 0)
        throw problem(503, 'unavailable', `no answer from: ${missing.join(', ')}`, { missing }, { 'retry-after': '5' });
      return { body: { status: 'ready' } };
    },
  }),
  route({
    method: 'get',
    path: '/metrics',
    operationId: 'getMetrics',
    summary: 'Metrics of this process in the Prometheus text format (0.0.4)',
    action: 'platform.see',
    response: 'bytes',
    handler: async () => {
      const metrics = Object.entries(counters()).flatMap(([name, value]) => [
        `# TYPE ocdl_${name}_total counter`,
        `ocdl_${name}_total ${value}`,
      ]);
      const memory = [
        '# TYPE process_resident_memory_bytes gauge',
        `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
      ];
      return new Response([...memory, ...metrics, ''].join('\n'), {
        headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
      });
    },
  }),
];

const soon = (answer: Promise<unknown>): Promise<unknown> =>
  Promise.race([
    answer,
    sleep(ANSWER_WITHIN_MS, undefined, { ref: false }).then(() => {
      throw new Error(`no answer for ${ANSWER_WITHIN_MS / 1000} s`);
    }),
  ]);
