// A job's data path: its inputs and outputs, with a token valid only for this job.
import { z } from 'zod';
import type { JobGrant, Principal } from '../activities/records.ts';
import { declaredDigest, digestHeaders, storeBytes } from './byte-stream.ts';
import type { RouteDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';

/** The token's grant, if it is for this job. Other jobs answer 404. */
function scope({ params, principal }: { params: { job: string }; principal: Principal }) {
  const found: JobGrant | null = principal.job;
  if (principal.kind === 'job' && found?.job !== params.job) return undefined;
  return { own: found !== null, found };
}

export const jobRoutes = (deps: RouteDeps): readonly Route[] => [
  route({
    method: 'get',
    path: '/v1/jobs/{job}/inputs/{name}',
    operationId: 'getJobInput',
    summary: 'An input of the job',
    action: 'job.data',
    scope,
    response: 'bytes',
    statuses: [200, 206, 304],
    async handler({ found, params: { name }, request }) {
      const input = found?.inputs.find((one) => one.name === name);
      if (!input) throw notFound(`input "${name}"`);
      return deps.send.recorded(input, { request, what: `input "${name}"` });
    },
  }),
  route({
    method: 'put',
    path: '/v1/jobs/{job}/outputs/{name}',
    operationId: 'putJobOutput',
    summary: 'An output of the job; a later attempt replaces it',
    action: 'job.data',
    scope,
    body: 'bytes',
    response: z.object({ name: z.string(), sha256: z.string(), bytes: z.number() }),
    async handler({ found, params: { name }, request, upload }) {
      const output = found?.outputs.find((one) => one.name === name);
      if (!output) throw notFound(`output "${name}"`);
      const sha256 = declaredDigest(request);
      if (sha256 === undefined)
        throw problem(400, 'invalid', 'Repr-Digest: required here, "sha-256=:<base64 of the 32 bytes>:" (RFC 9530)');
      const written = await storeBytes(deps.areas, output.path, name, upload(output.limit), {
        ifExists: 'replace',
        expect: { sha256 },
        signal: request.signal,
      });
      const received = { sha256: written.sha256, bytes: written.bytes };
      // The output may lie where people can write: this record says what the job made.
      if (found?.workflow !== undefined) await deps.records.recordStep(found.workflow, `output/${name}`, received);
      const body = { name, ...received };
      return { headers: digestHeaders(written.sha256), body };
    },
  }),
];
