// Evaluations: a run of a model over a data set, before submission for oneself, after it for the decision.
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { Records } from '../activities/records.ts';
import type { Evaluation, Version } from '../workflows/domain/model.ts';
import type { Action } from '../workflows/domain/roles.ts';
import { workflowId } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import { sendBytes, storeOf } from './byte-stream.ts';
import type { ApiDeps } from './deps.ts';
import { recordOnce } from './once.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { metricsSchema, nameSchema, pageFields, pathSchema } from './schemas.ts';
import { evaluationView, pageOf } from './views.ts';

const one = '/v1/projects/{project}/evaluations/{evaluation}';

const request = z.strictObject({
  evaluation: nameSchema,
  model: nameSchema,
  dataset: nameSchema,
  subject: z.union([z.strictObject({ submission: nameSchema }), z.strictObject({ directory: pathSchema })], {
    error: 'subject must be { submission: "…" } or { directory: "path in your private area" }',
  }),
  thresholds: metricsSchema.optional(),
});
type Given = z.output<typeof request>;

/** States in which a version's bytes are still its author's affair. */
const unsubmitted: readonly Version['state'][] = ['provisioning', 'training', 'failed', 'trained'];

export const evaluationRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records, workflows } = deps;

  const subjectVersion = async (project: string, { model, subject }: Given): Promise<Version | undefined> =>
    'submission' in subject ? records.version(project, model, subject.submission) : undefined;

  const scope = async ({ params, principal }: { params: Ids; principal: { name: string } }) => {
    const found = await records.evaluation(params.project, params.evaluation);
    if (!found) return undefined;
    const asked = found.actor === principal.name;
    // A private test is its actor's alone, not even a manager's.
    if (found.submission === null) return asked ? { own: true, found } : undefined;
    const version = await records.version(params.project, found.model, found.submission);
    return { own: asked || version?.author === principal.name, found };
  };

  return [
    route({
      method: 'post',
      path: '/v1/projects/{project}/evaluations',
      operationId: 'startEvaluation',
      summary: 'Starts an evaluation; the same again is harmless, another one under the same id a conflict',
      action: ['evaluation.private', 'evaluation.staging'],
      actionOf: async ({ body, params }): Promise<Action> => {
        if ('directory' in body.subject) return 'evaluation.private';
        const version = await subjectVersion(params.project, body);
        return version && unsubmitted.includes(version.state) ? 'evaluation.private' : 'evaluation.staging';
      },
      scope: async ({ body, params, principal }) => {
        if ('directory' in body.subject) return { own: true, found: undefined };
        const version = await subjectVersion(params.project, body);
        return version && { own: version.author === principal.name, found: version };
      },
      body: request,
      response: evaluationView,
      statuses: [200, 201],
      async handler({ project, principal, roles, body }) {
        await checkDataSet(records, project.project, body.dataset, roles.includes('manager'));
        const thresholds = body.thresholds ?? project.policy.thresholds;
        const { evaluation, model, dataset, subject } = body;
        const input = {
          project: project.project,
          evaluation,
          model,
          actor: principal.name,
          dataset,
          subject,
          thresholds,
        };
        const read = () => records.evaluation(project.project, evaluation);
        await recordOnce(
          records,
          auditEntry({
            key: `evaluation.started/${workflowId.evaluation(input)}`,
            project: project.project,
            kind: 'evaluation.started',
            actor: principal.name,
            subject: `${project.project}/evaluations/${evaluation}`,
            detail: startedDetail(body, principal.name, thresholds),
          }),
          [{ kind: 'evaluation', row: firstRow(input) }],
          async () => (await read()) !== undefined,
        );
        const row = await read();
        if (!row) throw new Error(`evaluation ${evaluation} was written and is not there`);
        const { started } = row.state === 'running' ? await workflows.startEvaluation(input) : { started: false };
        return { status: started ? 201 : 200, body: row };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/evaluations',
      operationId: 'listEvaluations',
      summary: 'Evaluations with their figures: your own, those of your versions, for managers all but private ones',
      action: 'version.report',
      // The query leaves what the caller may see.
      scope: () => ({ own: true, found: undefined }),
      query: z
        .strictObject({ ...pageFields, model: nameSchema, submission: nameSchema })
        .partial({ model: true, submission: true }),
      response: pageOf(evaluationView),
      async handler({ params: { project }, principal, grant, query: { after, limit, model, submission } }) {
        const body = await records.evaluations({
          project,
          limit,
          seenBy: { user: principal.name, all: grant === 'yes' },
          ...(after !== undefined && { after }),
          ...(model !== undefined && { model }),
          ...(submission !== undefined && { submission }),
        });
        return { body };
      },
    }),
    route({
      method: 'get',
      path: one,
      operationId: 'getEvaluation',
      summary: 'An evaluation with its figures',
      action: 'version.report',
      scope,
      response: evaluationView,
      async handler({ found }) {
        return { body: found };
      },
    }),
    route({
      method: 'get',
      path: `${one}/report`,
      operationId: 'getReport',
      summary: 'The whole report, JSON; its digest is what a decision names',
      action: 'version.report',
      scope,
      response: 'bytes',
      statuses: [200, 206, 304],
      async handler({ found: { report, evaluation }, request: asked }) {
        if (!report) throw notFound(`report of evaluation "${evaluation}" yet`);
        const sent = await sendBytes(storeOf(deps, report.uri), report.uri, asked, 'report', report.sha256);
        sent.headers.set('content-type', 'application/json');
        return sent;
      },
    }),
  ];
};

type Ids = { readonly project: string; readonly evaluation: string };

/** What the audit keeps of a start. Managers read it: of a private test it says only enough to tell whether another one is the same. */
function startedDetail(body: Given, actor: string, thresholds: Readonly<Record<string, number>>) {
  // Defaults may change between two requests: what counts is what was asked.
  const request = { ...body, thresholds: body.thresholds ?? null, actor };
  if ('submission' in body.subject) return { request, thresholds };
  return {
    request: createHash('sha256')
      .update(canonicalize(request) ?? '')
      .digest('hex'),
  };
}

async function checkDataSet(records: Records, project: string, dataset: string, isManager: boolean): Promise<void> {
  const found = await records.dataSet(project, dataset);
  if (!found) throw problem(422, 'no-such-data-set', `dataset: there is no data set "${dataset}": register it`);
  if (found.kind === 'test' && !isManager)
    throw problem(403, 'forbidden', `dataset: "${dataset}" is a test set, over which managers evaluate`);
}

function firstRow(input: Given & { readonly project: string; readonly actor: string }): Evaluation {
  const { evaluation, project, model, subject, actor, dataset } = input;
  return {
    ...{ evaluation, project, model, actor, dataset },
    submission: 'submission' in subject ? subject.submission : null,
    state: 'running',
    digest: null,
    report: null,
    passed: null,
    metrics: {},
    detail: '',
    updatedAt: new Date().toISOString(),
  };
}
