// Evaluations: a model run over a data set, as a private test before submission or as evidence for a decision after it.
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { Records } from '../activities/records.ts';
import type { Evaluation, Version } from '../workflows/domain/model.ts';
import { LABELLED_ROWS, labelledRows } from '../workflows/domain/labelled-rows.ts';
import { unknownName } from '../workflows/domain/known-names.ts';
import type { Action } from '../workflows/domain/roles.ts';
import { EVALUATION_SECONDS, LONGEST_EVALUATION_SECONDS, workflowId } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import { offeredProfile } from './compute-profiles.ts';
import type { RouteDeps } from './deps.ts';
import { isGatewayError } from './gateway.ts';
import { recordStart } from './once.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { nameSchema, pageFields, pathSchema, thresholdsSchema } from './schemas.ts';
import { evaluationView, pageOf } from './views.ts';

const one = '/v1/projects/{project}/evaluations/{evaluation}';

const request = z.strictObject({
  evaluation: nameSchema,
  model: nameSchema,
  dataset: nameSchema,
  subject: z.union([z.strictObject({ submission: nameSchema }), z.strictObject({ directory: pathSchema })], {
    error: 'subject must be { submission: "…" } or { directory: "path in your private area" }',
  }),
  thresholds: thresholdsSchema.optional(),
  deadlineSeconds: z
    .int()
    .min(1)
    .max(LONGEST_EVALUATION_SECONDS)
    .optional()
    .meta({ description: `Time limit of the evaluation in seconds; by default ${EVALUATION_SECONDS}` }),
  compute: nameSchema.optional().meta({ description: 'Name of a compute profile; by default `cpu`' }),
});
type Given = z.output<typeof request>;

/** States in which a version has not been submitted, so that its bytes are only its author's concern. */
const unsubmitted: readonly Version['state'][] = ['provisioning', 'training', 'failed', 'trained'];

/** A version that ended before its files were accepted, or whose files were removed from staging. */
const hasNoFiles = ({ state, files }: Version): boolean =>
  state === 'invalid' || state === 'withdrawn' || (files.length === 0 && !unsubmitted.includes(state));

export const evaluationRoutes = (deps: RouteDeps): readonly Route[] => {
  const { records, workflows } = deps;

  const subjectVersion = async (project: string, { model, subject }: Given): Promise<Version | undefined> =>
    'submission' in subject ? records.version(project, model, subject.submission) : undefined;

  const scope = async ({ params, principal }: { params: Ids; principal: { name: string } }) => {
    const found = await records.evaluation(params.project, params.evaluation);
    if (!found) return undefined;
    const asked = found.actor === principal.name;
    // A private test is visible only to its actor, not even to managers.
    if (found.submission === null) return asked ? { own: true, found } : undefined;
    const version = await records.version(params.project, found.model, found.submission);
    return { own: asked || version?.author === principal.name, found };
  };

  return [
    route({
      method: 'post',
      path: '/v1/projects/{project}/evaluations',
      operationId: 'startEvaluation',
      summary:
        'Starts an evaluation; repeating the request is harmless, a different one under the same id is a conflict',
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
      async handler({ project, principal, roles, body, found: version }) {
        if (version && hasNoFiles(version) && !(await records.evaluation(project.project, body.evaluation)))
          throw problem(
            409,
            'wrong-state',
            `subject: ${version.submission} is ${version.state} and has no files in staging${version.state === 'validating' ? ' yet' : ''}: there is nothing to evaluate`,
          );
        await checkDataSet(records, project.project, body.dataset, roles.includes('manager'));
        const { evaluation, model, dataset, subject, thresholds, deadlineSeconds, compute } = body;
        await offeredProfile(records, project.project, { compute: compute ?? 'cpu', deadlineSeconds, where: '' });
        const wrong = Object.keys(thresholds ?? project.policy.thresholds)
          .map((name) => unknownName('metric', name))
          .find(Boolean);
        // Catches a policy that was set before metric names were checked.
        if (wrong !== undefined)
          throw problem(
            422,
            'wrong-policy',
            `the policy of project ${project.project} has a threshold that no report can pass: ${wrong}; a manager must correct the policy first`,
          );
        const input = {
          ...{ project: project.project, evaluation, model, actor: principal.name, dataset, subject },
          ...(thresholds !== undefined && { thresholds }),
          ...(deadlineSeconds !== undefined && { deadlineSeconds }),
          ...(compute !== undefined && { compute }),
        };
        const id = workflowId.evaluation(input);
        await recordStart(
          records,
          { workflowId: id, type: 'evaluation', input, askedBy: principal.name, roles, project: project.project },
          auditEntry({
            key: `evaluation.started/${id}`,
            project: project.project,
            kind: 'evaluation.started',
            actor: principal.name,
            subject: `${project.project}/evaluations/${evaluation}`,
            detail: startedDetail(body, principal.name),
          }),
          [{ kind: 'evaluation', row: firstRow(input) }],
        );
        const row = await records.evaluation(project.project, evaluation);
        if (!row) throw new Error(`evaluation ${evaluation} was recorded but cannot be read`);
        // Only after the start is recorded: a refused request must not reference data sets.
        await records.nameDataSets(project.project, [dataset], { kind: 'evaluation', name: evaluation });
        const { started } = row.state === 'running' ? await workflows.startEvaluation(input) : { started: false };
        return { status: started ? 201 : 200, body: row };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/evaluations',
      operationId: 'listEvaluations',
      summary:
        'Evaluations with their metrics: your own and those of your versions; for managers, all but private ones',
      action: 'version.report',
      // The query filters by what the caller may see.
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
      summary: 'An evaluation with its metrics',
      action: 'version.report',
      scope,
      response: evaluationView,
      async handler({ found }) {
        return { body: found };
      },
    }),
    route({
      method: 'delete',
      path: one,
      operationId: 'cancelEvaluation',
      summary: 'Cancels an evaluation that has not ended; it is recorded as failed, with who cancelled it',
      action: 'evaluation.cancel',
      scope: async (asked) => {
        const scoped = await scope(asked);
        return scoped && { own: scoped.found.actor === asked.principal.name, found: scoped.found };
      },
      response: evaluationView,
      statuses: [200, 202],
      async handler({ params: { project }, principal, found }) {
        if (found.state !== 'running') return { status: 200, body: found };
        const id = workflowId.evaluation(found);
        // Recorded before the cancel, because the workflow reads from it who cancelled.
        const entry = auditEntry({
          key: `evaluation.cancel/${id}/${principal.name}`,
          project,
          kind: 'evaluation.cancel',
          actor: principal.name,
          subject: `${project}/evaluations/${found.evaluation}`,
        });
        await records.record([entry], []);
        await workflows.cancel(id).catch((error: unknown) => {
          // It has just ended on its own.
          if (!isGatewayError(error, 'closed')) throw error;
        });
        return { status: 202, body: (await records.evaluation(project, found.evaluation)) ?? found };
      },
    }),
    route({
      method: 'get',
      path: `${one}/report`,
      operationId: 'getReport',
      summary: 'The complete report as JSON; decisions name its digest',
      action: 'version.report',
      scope,
      response: 'bytes',
      statuses: [200, 206, 304],
      async handler({ found: { report, evaluation }, request: asked }) {
        if (!report) throw notFound(`report of evaluation "${evaluation}" yet`);
        return deps.send.recorded(report, { request: asked, what: 'report', contentType: 'application/json' });
      },
    }),
  ];
};

type Ids = { readonly project: string; readonly evaluation: string };

/**
 * Audit detail of a start. Managers can read it, so for a private test it contains only what is needed to recognize a
 * repeated request.
 */
function startedDetail(body: Given, actor: string) {
  const request = { ...body, thresholds: body.thresholds ?? null, actor };
  if ('submission' in body.subject) return { request };
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
    throw problem(403, 'forbidden', `dataset: "${dataset}" is a test set, which only managers may use for evaluations`);
  if (!labelledRows(found.files))
    throw problem(
      422,
      'no-labelled-rows',
      `dataset: "${dataset}" has no labelled rows: an evaluation needs ${LABELLED_ROWS}`,
    );
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
