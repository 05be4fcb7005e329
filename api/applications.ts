// Applications: registered by managers and developers; what is live in each, and what was delivered to it.
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { Principal, Records } from '../activities/records.ts';
import type { Application } from '../workflows/domain/model.ts';
import { workflowId } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { actorSchema, distinct, nameSchema, pageQuery, whenSchema } from './schemas.ts';
import { expiryFields, issueToken } from './tokens.ts';
import { applicationView, deliveryView, liveView, newTokenView, pageOf, rowsOf, waitingView } from './views.ts';

const one = '/v1/applications/{application}';
const names = distinct<string>((name) => name, 'a name');

/** Its owner's own, and its own token's. */
export const applicationScope =
  (records: Records) =>
  async ({ params, principal }: { params: { application: string }; principal: Principal }) => {
    const found = await records.application(params.application);
    if (!found) return undefined;
    const own = principal.name === (principal.kind === 'application' ? found.application : found.owner);
    // Of another application a token learns nothing, not even that there is one.
    if (principal.kind === 'application' && !own) return undefined;
    return { own, project: found.project, found };
  };

export const applicationRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records, code, workflows, signer } = deps;
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
        application: actorSchema,
        types: z.array(nameSchema).min(1).max(20).refine(names.check, names.message),
        gates: z.array(nameSchema).min(1).max(20).refine(names.check, names.message),
        owner: nameSchema.optional(),
      }),
      response: applicationView,
      statuses: [200, 201],
      async handler({ project, principal, body: { application, types, gates, owner = principal.name } }) {
        const foreign = types.find((type) => !project.types.includes(type));
        if (foreign !== undefined)
          throw problem(422, 'no-such-type', `types: project ${project.project} does not own "${foreign}"`);
        if (!(await records.members(project.project)).some(({ user }) => user === owner))
          throw problem(422, 'no-such-member', `owner: "${owner}" is no member of project ${project.project}`);
        const repository = `${project.project}/app-${application}`;
        const made: Application = { application, project: project.project, owner, types, gates, repository };
        const before = await records.application(application);
        const taken = problem(409, 'conflict', `application "${application}" exists already: choose another name`);
        if (before && canonicalize(before) !== canonicalize(made)) throw taken;
        await code.ensure(repository);
        if (!before)
          await records.createApplication(
            made,
            auditEntry({
              key: createdKey(application),
              project: project.project,
              kind: 'application.created',
              actor: principal.name,
              subject: applicationSubject(application),
              detail: { application: made, keyId: signer.newest },
            }),
          );
        const stored = await records.application(application);
        if (!stored || canonicalize(stored) !== canonicalize(made)) throw taken;
        const keys = signer.publicKeys();
        for (const type of types) await workflows.startApplication({ application, type, owner, keys }, project.project);
        return { status: before ? 200 : 201, body: stored };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/applications',
      operationId: 'listApplications',
      summary: "The project's applications",
      action: 'application.see',
      // An application's token sees itself alone: narrowed below.
      scope: () => ({ own: true, found: undefined }),
      response: rowsOf(applicationView),
      async handler({ params: { project }, principal, grant }) {
        if (grant === 'yes') return { body: { rows: await records.applications({ project }) } };
        const own = await records.application(principal.name);
        return { body: { rows: own?.project === project ? [own] : [] } };
      },
    }),
    route({
      method: 'post',
      path: `${one}/tokens`,
      operationId: 'issueApplicationToken',
      summary: "Makes a token for the application's own pipeline; it is shown this once",
      action: 'application.manage',
      scope,
      body: z.strictObject(expiryFields),
      response: newTokenView,
      statuses: [201],
      async handler({ found: { application: name, project }, principal, body }) {
        const given = { kind: 'application', name, actor: principal.name, project, ...body } as const;
        return { status: 201, body: await issueToken(records, given) };
      },
    }),
    route({
      method: 'get',
      path: one,
      operationId: 'getApplication',
      summary: 'An application and what is live in it',
      action: 'application.see',
      scope,
      response: z.object({ application: applicationView, live: z.array(liveView).readonly() }),
      async handler({ found }) {
        const live = await Promise.all(found.types.map((type) => records.livePointer(found.application, type)));
        return { body: { application: found, live } };
      },
    }),
    route({
      method: 'get',
      path: `${one}/deliveries`,
      operationId: 'listDeliveries',
      summary: 'What was delivered to the application',
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
      summary: 'What is live, or what was at a time',
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
      summary: 'What has been live, newest first',
      action: 'application.see',
      scope,
      response: rowsOf(liveView),
      async handler({ found, params }) {
        return { body: { rows: await records.liveHistory(found.application, typeOf(found, params.type)) } };
      },
    }),
  ];
};

/** What an application is called in the audit. */
export const applicationSubject = (application: string): string => `applications/${application}`;
const createdKey = (application: string): string => `application.created/${application}`;

/** The key that an application's workflows were started with. */
export async function keyOfApplication(records: Records, application: string): Promise<string> {
  const created = await records.audited(createdKey(application));
  return z.string().parse(created?.detail['keyId']);
}
