// Scans: findings that an application's model flagged, and the engineers' labels.
import canonicalize from 'canonicalize';
import { z } from 'zod';
import { feedbackCommands } from '../workflows/domain/command.ts';
import type { Finding, Scan } from '../workflows/domain/model.ts';
import { workflowId } from '../workflows/messages.ts';
import { applicationScope } from './applications.ts';
import { auditEntry } from './audit-entry.ts';
import { carryOut, commandAnswer, commandFields, lookUpCommand } from './commands.ts';
import type { ApiDeps } from './deps.ts';
import { recordStart } from './once.ts';
import { problem } from './problems.ts';
import { recordRefused } from './refusals.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { digestSchema, distinct, findingSchema, nameSchema, pageFields, releaseSchema, textSchema } from './schemas.ts';
import { pageOf, scanSummaryView, scanView } from './views.ts';

const one = '/v1/projects/{project}/scans/{scan}';
type Ids = { readonly project: string; readonly scan: string };
const scanSubject = ({ project, scan }: Ids): string => `${project}/scans/${scan}`;
const addressOf = ({ project, scan }: Ids): string => `/v1/projects/${project}/scans/${scan}/commands`;

const ids = distinct<{ finding: string }>(({ finding }) => finding, 'a finding');
const report = z.strictObject({
  scan: nameSchema,
  type: nameSchema,
  release: releaseSchema,
  findings: z
    .array(
      z.strictObject({
        finding: findingSchema,
        name: textSchema(512).min(1),
        /** Path in the scanned project. Shown, never opened. */
        path: textSchema(1_024),
        vulnerable: z.boolean(),
        probability: z.number().min(0).max(1),
        source: digestSchema,
      }),
    )
    .max(5_000)
    .refine(ids.check, ids.message),
});

export const scanRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records, workflows, signer } = deps;
  const scope = async ({ params, principal }: { params: Ids; principal: { name: string; kind: string } }) => {
    const found = await records.scan(params.project, params.scan);
    if (!found) return undefined;
    const own = principal.kind === 'application' && found.application === principal.name;
    return principal.kind === 'application' && !own ? undefined : { own, found };
  };
  return [
    route({
      method: 'post',
      path: '/v1/applications/{application}/scans',
      operationId: 'reportScan',
      summary: 'Reports the findings of a release that is or was live here; repeating the request is harmless',
      action: 'finding.report',
      scope: applicationScope(records),
      isLarge: true,
      body: report,
      response: scanView,
      statuses: [200, 201],
      async handler({ found: application, principal, roles, body }) {
        if (!application.types.includes(body.type))
          throw problem(422, 'no-such-type', `type: ${application.application} does not consume "${body.type}"`);
        if ((await records.release(body.release))?.type !== body.type)
          throw problem(422, 'no-such-release', `release: there is no "${body.release}" of type "${body.type}"`);
        if (!(await records.wasLive(application.application, body.type, body.release)))
          throw problem(
            422,
            'never-live',
            `release: "${body.release}" was never live in ${application.application}: report a scan under the release that was live while it ran`,
          );
        const made: Scan = {
          scan: body.scan,
          project: application.project,
          application: application.application,
          type: body.type,
          release: body.release,
          findings: body.findings.map((finding) => ({ ...finding, label: null })),
          state: 'open',
          revision: 0,
          commit: null,
          keyId: signer.newest,
          updatedAt: new Date().toISOString(),
        };
        const input = { project: application.project, scan: body.scan };
        const id = workflowId.feedback(input);
        await recordStart(
          records,
          { workflowId: id, type: 'feedback', input, askedBy: principal.name, roles, project: application.project },
          auditEntry({
            key: `scan.reported/${application.project}/${body.scan}`,
            project: application.project,
            kind: 'scan.reported',
            actor: principal.name,
            subject: scanSubject(made),
            detail: { release: body.release, findings: body.findings.length },
          }),
          [{ kind: 'scan', row: made }],
        );
        const scan = await records.scan(application.project, body.scan);
        if (!scan || reported(scan) !== reported(made))
          throw problem(409, 'conflict', `scan "${body.scan}" exists with other findings: choose another id`);
        const { started } = scan.revision === 0 ? await workflows.startFeedback(input) : { started: false };
        return { status: started ? 201 : 200, body: scan };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/scans',
      operationId: 'listScans',
      summary: "The project's scans, newest first, with the numbers of their findings and labels",
      action: 'finding.see',
      // An application's token sees only its own scans: filtered below.
      scope: () => ({ own: true, found: undefined }),
      query: z.strictObject({ ...pageFields, application: nameSchema.optional() }),
      response: pageOf(scanSummaryView),
      async handler({ params: { project }, principal, grant, query: { after, limit, application } }) {
        if (grant === 'own' && application !== undefined && application !== principal.name)
          return { body: { rows: [] } };
        const of = grant === 'own' ? principal.name : application;
        return {
          body: await records.scans({
            project,
            limit,
            ...(after !== undefined && { after }),
            ...(of !== undefined && { application: of }),
          }),
        };
      },
    }),
    route({
      method: 'get',
      path: one,
      operationId: 'getScan',
      summary: 'A scan with its findings and labels',
      action: 'finding.see',
      scope,
      response: scanView,
      async handler({ found }) {
        return { body: found };
      },
    }),
    route({
      method: 'post',
      path: `${one}/commands`,
      operationId: 'commandScan',
      summary: 'Confirms or denies findings',
      action: 'finding.label',
      scope,
      onRefused: ({ params, principal, roles, body }, action) =>
        recordRefused(records, {
          principal,
          roles,
          action,
          body,
          project: params.project,
          subject: scanSubject(params),
        }),
      body: z.strictObject({
        ...commandFields,
        name: z.enum(feedbackCommands),
        args: z.strictObject({
          findings: z.array(findingSchema).min(1).max(200),
          reason: textSchema(2_000).default(''),
        }),
      }),
      response: commandAnswer,
      statuses: [200, 202],
      handler: ({ params, principal, roles, project, body, request }) =>
        carryOut(deps, {
          ...{ principal, roles, body, request },
          project: project.project,
          policyVersion: project.policy.version,
          workflowId: workflowId.feedback(params),
          subject: scanSubject(params),
          commands: addressOf(params),
        }),
    }),
    route({
      method: 'get',
      path: `${one}/commands/{commandId}`,
      operationId: 'getScanCommand',
      summary: 'The outcome of a command',
      action: 'finding.see',
      scope,
      response: commandAnswer,
      statuses: [200, 202],
      handler: ({ params }) =>
        lookUpCommand(deps, {
          workflowId: workflowId.feedback(params),
          commandId: params.commandId,
          address: `${addressOf(params)}/${params.commandId}`,
        }),
    }),
  ];
};

/** The application's report without later labels, in a canonical form independent of the order of keys and rows. */
function reported({ application, type, release, findings }: Scan): string | undefined {
  const rows = findings.map(({ label: _, ...rest }: Finding) => rest).sort((a, b) => (a.finding < b.finding ? -1 : 1));
  return canonicalize({ application, type, release, rows });
}
