// Releases, for developers and for the applications that consume their types.
import { z } from 'zod';
import type { Principal, Records } from '../activities/records.ts';
import type { StandingRelease, Withdrawal } from '../workflows/domain/model.ts';
import type { RouteDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { pageFields } from './schemas.ts';
import { releaseView, rowsOf } from './views.ts';

export const releaseRoutes = (deps: RouteDeps): readonly Route[] => {
  const { records, send } = deps;
  const scope = async ({ params, principal }: { params: { release: string }; principal: Principal }) => {
    const found = await records.release(params.release);
    if (!found) return undefined;
    const consumer = await consumerOf(records, principal, found.type);
    const own = consumer !== undefined;
    // Before the announcement its bytes may be incomplete, so applications cannot see it yet.
    if (principal.kind === 'application' && (!own || found.state !== 'announced')) return undefined;
    // An application's roles count in its own project, even if the type belongs to another one.
    return { own, project: consumer ?? found.project, found };
  };
  return [
    route({
      method: 'get',
      path: '/v1/types/{type}/releases',
      operationId: 'listReleases',
      summary:
        'Releases of a type by number, including withdrawn ones; an application catches up with `after`, the last number it knows',
      action: 'release.read',
      scope: async ({ params: { type }, principal }) => {
        const owner = await records.projectOfType(type);
        const consumer = await consumerOf(records, principal, type);
        const own = consumer !== undefined;
        if (owner === undefined || (principal.kind === 'application' && !own)) return undefined;
        return { own, project: consumer ?? owner, found: undefined };
      },
      query: z.strictObject({
        limit: pageFields.limit,
        after: z
          .string()
          .regex(/^[0-9]{1,9}$/, 'a release number')
          .transform(Number)
          .optional(),
      }),
      response: rowsOf(releaseView),
      async handler({ params: { type }, principal, query: { after, limit } }) {
        const announced = principal.kind === 'application';
        return {
          body: { rows: await records.releases({ type, limit, announced, ...(after !== undefined && { after }) }) },
        };
      },
    }),
    route({
      method: 'get',
      path: '/v1/releases/{release}',
      operationId: 'getRelease',
      summary: 'A release with its version, its report and who released it',
      action: 'release.read',
      scope,
      response: releaseView,
      async handler({ found }) {
        return { body: found };
      },
    }),
    route({
      method: 'get',
      path: '/v1/releases/{release}/files/{name}',
      operationId: 'getReleaseFile',
      summary: 'A file of a release; 410 `release-withdrawn` if the release was withdrawn',
      action: 'release.read',
      scope,
      response: 'bytes',
      statuses: [200, 206, 304],
      async handler({ found, params: { name }, request }) {
        if (found.withdrawn) throw withdrawnProblem(found, found.withdrawn);
        const file = found.files.find((one) => one.name === name);
        // Before the announcement its bytes may still be on their way to the store.
        if (!file || (found.state === 'allotted' && !(await deps.releases.stat(file.uri))))
          throw notFound(`file "${name}"`);
        return send.recorded(file, { request, what: `file "${name}"` });
      },
    }),
  ];
};

/** The bytes are not lost: people who review decisions find them with the version. */
function withdrawnProblem(
  { release, project, model, submission }: StandingRelease,
  { decision, by, reason, at }: Withdrawal,
) {
  const why = [decision, reason].filter(Boolean).join(': ');
  return problem(
    410,
    'release-withdrawn',
    `${release} was withdrawn${by && ` by ${by}`} at ${at} (${why}): its files can no longer be downloaded; use the newest release that is not withdrawn. Managers of ${project} find the files with the version, under /v1/projects/${project}/models/${model}/submissions/${submission}/files`,
    { withdrawn: { decision, by, reason, at } },
  );
}

/** The project of the calling application, if it may currently consume the type. */
async function consumerOf(records: Records, { kind, name }: Principal, type: string): Promise<string | undefined> {
  const found = kind === 'application' ? await records.application(name) : undefined;
  if (!found?.types.includes(type) || !(await records.mayConsume(found.project, type))) return undefined;
  return found.project;
}
