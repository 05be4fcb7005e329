// Applications: registration by managers and developers, what is live in each, and its deliveries.
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { Principal, Records } from '../activities/records.ts';
import type { Application } from '../workflows/domain/model.ts';
import type { Role } from '../workflows/domain/roles.ts';
import type { ApplicationInput } from '../workflows/messages.ts';
import { workflowId } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { isGatewayError } from './gateway.ts';
import { recordStart } from './once.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { actorSchema, distinct, gateSchema, nameSchema, pageQuery, whenSchema } from './schemas.ts';
import { applicationView, deliveryView, liveView, pageOf, rowsOf, subscriptionView, waitingView } from './views.ts';

const one = '/v1/applications/{application}';
const types = distinct<string>((type) => type, 'a type');
const gates = distinct<string>((gate) => gate, 'a gate');

/** The types an application consumes, and the gates a release must pass before it goes live. */
export const applicationFields = {
  types: z.array(nameSchema).min(1).max(20).refine(types.check, types.message),
  gates: z.array(gateSchema).min(1).max(20).refine(gates.check, gates.message),
  owner: nameSchema,
} as const;

/** An application is its owner's own and its own token's own. */
export const applicationScope =
  (records: Records) =>
  async ({ params, principal }: { params: { application: string }; principal: Principal }) => {
    const found = await records.application(params.application);
    if (!found) return undefined;
    const own = principal.name === (principal.kind === 'application' ? found.application : found.owner);
    // A token learns nothing about another application, not even that it exists.
    if (principal.kind === 'application' && !own) return undefined;
    return { own, project: found.project, found };
  };

export const applicationRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records, code } = deps;
  const scope = applicationScope(records);

  const typeOf = (found: Application, type: string): string => {
    if (!found.types.includes(type)) throw notFound(`type "${type}" in application "${found.application}"`);
    return type;
  };

  return [
    route({
      method: 'post',
      path: '/v1/projects/{project}/applications',
      operationId: 'createApplication',
      summary: 'Registers a consumer of model types with its gates and its repository',
      action: 'application.manage',
      scope: ({ body, principal }) => ({ own: (body.owner ?? principal.name) === principal.name, found: undefined }),
      body: z.strictObject({
        ...applicationFields,
        application: actorSchema,
        owner: applicationFields.owner.optional(),
      }),
      response: applicationView,
      statuses: [200, 201],
      async handler({ project, principal, roles, body: { application, types, gates, owner = principal.name } }) {
        for (const type of types) await mustBeConsumable(records, project.project, type);
        await mustBeMember(records, project.project, owner);
        const repository = `${project.project}/app-${application}`;
        const made: Application = {
          ...{ application, revision: 0, project: project.project, owner, types, gates, repository },
        };
        const before = await records.application(application);
        const taken = problem(409, 'conflict', `application "${application}" exists already: choose another name`);
        if (before && canonicalize(before) !== canonicalize(made)) throw taken;
        await code.ensure(repository);
        if (!before)
          await records.createApplication(
            made,
            auditEntry({
              key: `application.created/${application}`,
              project: project.project,
              kind: 'application.created',
              actor: principal.name,
              subject: applicationSubject(application),
              detail: { application: made },
            }),
          );
        const stored = await records.application(application);
        if (!stored || canonicalize(stored) !== canonicalize(made)) throw taken;
        const by = { askedBy: principal.name, roles, project: project.project };
        for (const type of types) await startApplicationType(deps, { application, type }, by);
        return { status: before ? 200 : 201, body: stored };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/applications',
      operationId: 'listApplications',
      summary: "The project's applications",
      action: 'application.see',
      // An application's token sees only its own application: filtered below.
      scope: () => ({ own: true, found: undefined }),
      response: rowsOf(applicationView),
      async handler({ params: { project }, principal, grant }) {
        if (grant === 'yes') return { body: { rows: await records.applications({ project }) } };
        const own = await records.application(principal.name);
        return { body: { rows: own?.project === project ? [own] : [] } };
      },
    }),
    route({
      method: 'get',
      path: one,
      operationId: 'getApplication',
      summary: 'An application and its live releases',
      action: 'application.see',
      scope,
      response: z.object({
        application: applicationView.meta({ description: 'The application' }),
        live: z.array(liveView).readonly(),
        subscriptions: z.array(subscriptionView).readonly(),
      }),
      async handler({ found }) {
        const [live, access] = await Promise.all([
          Promise.all(found.types.map((type) => records.livePointer(found.application, type))),
          records.typeAccess(found.project),
        ]);
        const subscriptions = found.types.map((type) => {
          const owner = access.find((one) => one.type === type)?.owner ?? null;
          return { type, owner, granted: owner !== null };
        });
        return { body: { application: found, live, subscriptions } };
      },
    }),
    route({
      method: 'get',
      path: `${one}/deliveries`,
      operationId: 'listDeliveries',
      summary: 'Deliveries to the application',
      action: 'application.see',
      scope,
      query: pageQuery,
      response: pageOf(deliveryView),
      async handler({ found: { application }, query: { after, limit } }) {
        return { body: await records.deliveries({ application, limit, ...(after !== undefined && { after }) }) };
      },
    }),
    route({
      method: 'get',
      path: `${one}/deliveries/{release}`,
      operationId: 'getDelivery',
      summary: 'One delivery with the evidence of its gates',
      action: 'application.see',
      scope,
      response: deliveryView.extend({ waiting: z.array(waitingView).readonly() }),
      async handler({ found: { application }, params: { release } }) {
        const [delivery, waiting] = await Promise.all([
          records.delivery(application, release),
          deps.workflows.waiting(workflowId.delivery({ application, release }), deps.limits.answerMs),
        ]);
        if (!delivery) throw notFound(`delivery of "${release}"`);
        return { body: { ...delivery, waiting } };
      },
    }),
    route({
      method: 'get',
      path: `${one}/types/{type}/live`,
      operationId: 'getLive',
      summary: 'The live release, or the one that was live at a given time',
      action: 'application.see',
      scope,
      query: z.strictObject({ at: whenSchema.optional() }),
      response: liveView,
      async handler({ found, params, query: { at } }) {
        const type = typeOf(found, params.type);
        return {
          body:
            at === undefined
              ? await records.livePointer(found.application, type)
              : await records.liveAt(found.application, type, new Date(at).toISOString()),
        };
      },
    }),
    route({
      method: 'get',
      path: `${one}/types/{type}/history`,
      operationId: 'getLiveHistory',
      summary: 'Releases that were live, newest first',
      action: 'application.see',
      scope,
      query: pageQuery,
      response: pageOf(liveView),
      async handler({ found, params, query: { after, limit } }) {
        const of = { application: found.application, type: typeOf(found, params.type) };
        return { body: await records.liveHistory({ ...of, limit, ...(after !== undefined && { after }) }) };
      },
    }),
  ];
};

/** Records and starts the workflow that receives releases of one type. */
export async function startApplicationType(
  { records, workflows }: Pick<ApiDeps, 'records' | 'workflows'>,
  input: ApplicationInput,
  by: { readonly askedBy: string; readonly roles: readonly Role[]; readonly project: string },
): Promise<void> {
  const id = workflowId.application(input);
  await recordStart(
    records,
    { workflowId: id, type: 'application', input, ...by },
    auditEntry({
      key: `application.started/${id}`,
      project: by.project,
      kind: 'application.started',
      actor: by.askedBy,
      subject: `${input.application}/${input.type}`,
    }),
    [],
  );
  const { started } = await workflows.startApplication(input, by.project);
  if (started) return;
  // The type was removed and is added again: its workflow looks for the newest release.
  await workflows.wake(id).catch((error: unknown) => {
    // The sweep resumes it.
    if (!isGatewayError(error, 'closed')) throw error;
  });
}

/** Checks that the project's applications may consume the type: it must be the project's own or granted to it. */
export async function mustBeConsumable(records: Records, project: string, type: string): Promise<void> {
  if (!(await records.mayConsume(project, type)))
    throw problem(422, 'no-such-type', `types: project ${project} neither owns "${type}" nor was granted it`);
}

/** Checks that the owner is an enabled project member, so that someone can act for the application. */
export async function mustBeMember(records: Records, project: string, owner: string): Promise<void> {
  const member = (await records.members(project)).find(({ user }) => user === owner);
  if (!member) throw problem(422, 'no-such-member', `owner: "${owner}" is not a member of project ${project}`);
  if (member.disabled) throw problem(422, 'no-such-member', `owner: "${owner}" is disabled`);
}

/** The application's subject in the audit. */
export const applicationSubject = (application: string): string => `applications/${application}`;
