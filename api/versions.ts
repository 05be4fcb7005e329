// Versions: submissions, their status, and the commands that move them.
import { z } from 'zod';
import type { Records } from '../activities/records.ts';
import { versionOrders } from '../activities/records.ts';
import { lifecycleCommands } from '../workflows/domain/command.ts';
import { transitions, versionStates } from '../workflows/domain/lifecycle.ts';
import { needsOf, profileBefore, waitReason, WATCHED_WITHIN_MS } from '../workflows/domain/compute.ts';
import { subjectOf, systemName } from '../workflows/domain/names.ts';
import { workflowId } from '../workflows/messages.ts';
import { carryOut, commandAnswer, commandFields, lookUpCommand } from './commands.ts';
import { offeredProfile } from './compute-profiles.ts';
import type { RouteDeps } from './deps.ts';
import { notFound } from './problems.ts';
import { recordRefused } from './refusals.ts';
import type { Asked, Route } from './route.ts';
import { route } from './route.ts';
import { nameSchema, pageFields, releaseSchema, textSchema } from './schemas.ts';
import { pageOf, releaseView, versionSummaryView, versionView, waitingView } from './views.ts';

const submission = '/v1/projects/{project}/models/{model}/submissions/{submission}';
type Ids = { readonly project: string; readonly model: string; readonly submission: string };

const command = z.strictObject({
  ...commandFields,
  name: z.enum(lifecycleCommands),
  args: z
    .strictObject({
      reason: textSchema(2_000),
      to: nameSchema,
      tags: z.array(nameSchema).max(20),
      compute: nameSchema,
      release: releaseSchema,
    })
    .partial()
    .default({}),
});

/** Filters can be combined. Indexes serve each combination in each order. */
const listQuery = z.strictObject({
  ...pageFields,
  after: pageFields.after.meta({ description: '`next` of the previous page; keep filters and order' }),
  model: nameSchema.optional().meta({ description: 'Versions of this model' }),
  type: nameSchema.optional().meta({ description: 'Versions of this type' }),
  state: z.enum(versionStates).optional().meta({ description: 'Versions in this state' }),
  author: nameSchema.optional().meta({ description: 'Versions that this person submitted' }),
  tag: nameSchema.optional().meta({ description: 'Versions with this tag' }),
  text: textSchema(200).min(1).optional().meta({
    description: 'Versions whose model, submission or detail has words that start with the given words',
    example: 'forest 12',
  }),
  order: z.enum(versionOrders).default('newest').meta({
    description:
      'Last updated first (`newest`), last updated last (`oldest`), or highest version number first (`number`)',
  }),
});
/** Characters of the detail shown in lists: the first problems of an invalid model. */
const DETAIL_SHOWN = 300;

const shown = z.object({
  version: versionView.meta({ description: 'The version' }),
  /** The command whose effects are in progress. */
  busy: z.string().nullable(),
  /** Managers whose approvals currently count, the number needed, and lapsed approvals with the reason. */
  approvals: z.array(z.string()).readonly(),
  quorum: z.number(),
  lapsed: z.array(z.object({ actor: z.string(), why: z.string() })).readonly(),
  /** Deadline for undoing a rejection. */
  undoUntil: z.string().nullable(),
  /** The version takes no more commands. */
  closed: z.boolean(),
  /** Its releases, and which of them were withdrawn. */
  releases: z.array(releaseView.pick({ release: true, state: true, releasedAt: true, withdrawn: true })).readonly(),
  /** The job of the current training, from its request to its end. */
  job: z.object({ state: z.enum(['queued', 'starting', 'running']), reason: z.string(), waits: z.string() }).nullable(),
  /** Failed steps that will be retried: what it waits for, and why. */
  waiting: z.array(waitingView).readonly(),
});

/** A version with its owner, for every route below one. */
export const versionScope =
  (records: Records) =>
  async ({ params, principal }: { readonly params: Ids; readonly principal: { readonly name: string } }) => {
    const found = await records.version(params.project, params.model, params.submission);
    return found && { own: found.author === principal.name, found };
  };

export const versionRoutes = (deps: RouteDeps): readonly Route[] => {
  const { records } = deps;
  return [
    route({
      method: 'get',
      path: '/v1/projects/{project}/versions',
      operationId: 'listVersions',
      summary: "Summaries of the project's versions, by page; scientists see only their own",
      action: 'version.see',
      // The rows are filtered to the caller's own below.
      scope: () => ({ own: true, found: undefined }),
      query: listQuery,
      response: pageOf(versionSummaryView),
      async handler({ params: { project }, query: { author, ...asked }, principal, grant }) {
        if (grant === 'own' && author !== undefined && author !== principal.name) return { body: { rows: [] } };
        const by = grant === 'own' ? principal.name : author;
        const { rows, ...next } = await records.versions({
          project,
          ...asked,
          ...(by !== undefined && { author: by }),
        });
        const body = { rows: rows.map((row) => ({ ...row, detail: row.detail.slice(0, DETAIL_SHOWN) })), ...next };
        return { body };
      },
    }),
    route({
      method: 'get',
      path: submission,
      operationId: 'getVersion',
      summary: 'A submission: its state, evidence, approvals and decisions',
      action: 'version.see',
      scope: versionScope(records),
      response: shown,
      async handler({ found }) {
        const { project, model, submission: id } = found;
        const [standing, releases, waiting] = await Promise.all([
          records.versionStanding(found),
          records.releasesOf(project, model, id),
          deps.workflows.waiting(workflowId.modelLifecycle(found), deps.limits.answerMs),
        ]);
        const { version, counting, quorum, lapsed, undoUntil, closed, pending } = standing;
        const busy = pending?.commandId ?? null;
        const job = version.state === 'training' ? await jobNow(records, found, standing.attempt) : null;
        return {
          body: { version, busy, job, approvals: counting, quorum, lapsed, undoUntil, closed, releases, waiting },
        };
      },
    }),
    route({
      method: 'get',
      path: `${submission}/files/{name}`,
      operationId: 'getVersionFile',
      summary: "A file of a submission's artifact",
      action: 'staging.read',
      scope: versionScope(records),
      response: 'bytes',
      statuses: [200, 206, 304],
      async handler({ found, params: { name }, request }) {
        const file = found.files.find((one) => one.name === name);
        if (!file) throw notFound(`file "${name}"`);
        return deps.send.recorded(file, { request, what: `file "${name}"` });
      },
    }),
    route({
      method: 'post',
      path: `${submission}/commands`,
      operationId: 'commandVersion',
      summary: 'Submit, withdraw, approve, reject, release …: recorded, then decided in one transaction',
      action: ['version.author', 'version.decide'],
      actionOf: ({ body }) => transitions[body.name].action,
      // The workflow decides by the version's actual owner. Here it only matters that the caller may do it to some version.
      scope: async (asked) => {
        const scope = await versionScope(records)(asked);
        return scope && { ...scope, own: true };
      },
      onRefused: ({ params, principal, roles, body }, action) =>
        recordRefused(records, { principal, roles, action, body, project: params.project, subject: subjectOf(params) }),
      body: command,
      response: commandAnswer,
      statuses: [200, 202],
      async handler({ params, principal, roles, project, body, request }) {
        const { compute } = body.args;
        if (compute !== undefined) await offeredProfile(records, project.project, { compute, where: 'args.' });
        return carryOut(deps, {
          ...{ principal, roles, request, body },
          project: project.project,
          policyVersion: project.policy.version,
          workflowId: workflowId.modelLifecycle(params),
          subject: subjectOf(params),
          commands: addressOf(params),
        });
      },
    }),
    route({
      method: 'get',
      path: `${submission}/commands/{commandId}`,
      operationId: 'getVersionCommand',
      summary: 'The outcome of a command',
      action: 'version.see',
      scope: versionScope(records),
      response: commandAnswer,
      statuses: [200, 202],
      handler: ({ params }) =>
        lookUpCommand(deps, {
          workflowId: workflowId.modelLifecycle(params),
          commandId: params.commandId,
          address: `${addressOf(params)}/${params.commandId}`,
        }),
    }),
  ];
};

/** How the job of a training stands, and why it waits. */
async function jobNow(records: Records, version: Ids, attempt: number) {
  const { project, model, submission: id } = version;
  const row = await records.job(systemName(workflowId.trainingRun({ project, model, submission: id, attempt })));
  if (!row) return null;
  const { state, reason, why, job } = row;
  if (state !== 'queued') return { state, reason, waits: '' };
  const needs = needsOf(job.profile ?? profileBefore(job.compute));
  const waits = waitReason(needs, await records.pools(WATCHED_WITHIN_MS)) || why || 'for a free place';
  return { state, reason, waits };
}

const addressOf = ({ project, model, submission: id }: Asked<typeof submission, unknown, unknown>['params']): string =>
  `/v1/projects/${project}/models/${model}/submissions/${id}/commands`;
