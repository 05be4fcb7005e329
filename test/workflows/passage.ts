// What people and machines do in a test world: submit, evaluate, decide, release, revert, report, and look at what became of it.
import { randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { once } from '../../activities/model-center.ts';
import type { AuditEntry } from '../../activities/records.ts';
import type { Stores } from '../../workers/wiring.ts';
import type { CommandArgs, CommandBody, Outcome } from '../../workflows/domain/command.ts';
import type { Evaluation, Policy, Scan, Version } from '../../workflows/domain/model.ts';
import { storePath } from '../../workflows/domain/names.ts';
import type { Beginning } from '../../workflows/messages.ts';
import { command, live, outcome, searchAttributes, status, taskQueues, workflowId } from '../../workflows/messages.ts';
import type { createApiKey } from './api-key.ts';
import { submissionFiles } from './submission-files.ts';
import { until } from './until.ts';

/** An audit entry of the platform's own. */
export const auditEntry = (kind: string): AuditEntry => ({
  key: randomUUID(),
  project: 'p',
  kind,
  actor: 'root',
  subject: 'p',
  digest: null,
  report: null,
  reason: '',
  detail: {},
  at: new Date().toISOString(),
});

/** Everything is of project `p`, model `m`, type `kind`. */
export function createPassage(deps: {
  stores: Stores;
  client: Client;
  policy: Policy;
  key: ReturnType<typeof createApiKey>;
}) {
  const { stores, client, policy } = deps;
  const { keys, signed } = deps.key;

  const put = (path: string, text: string | Uint8Array) =>
    stores.areas.write(storePath({ area: 'private', project: 'p', user: 'sam', path }), once(Buffer.from(text)), {
      ifExists: 'replace',
    });

  /** A lawful submission in sam's private area; `salt` makes its bytes differ from others'. */
  async function putSubmission(directory: string, salt: string, card: Record<string, unknown> = {}): Promise<void> {
    for (const [name, text] of Object.entries(submissionFiles(salt, card))) await put(`${directory}/${name}`, text);
  }

  const idOf = (submission: string): string => workflowId.modelLifecycle({ project: 'p', model: 'm', submission });

  /** Starts a lifecycle as the API does. */
  async function startLifecycle(
    submission: string,
    beginning: Beginning,
    more: { author?: string; policy?: Partial<Policy> } = {},
  ) {
    const { author = 'sam' } = more;
    const { Project, Model, ModelType, State, Author } = searchAttributes;
    return client.workflow.start('modelLifecycle', {
      workflowId: idOf(submission),
      taskQueue: taskQueues.core,
      args: [
        {
          project: 'p',
          model: 'm',
          type: 'kind',
          submission,
          author,
          beginning,
          policy: { ...policy, ...more.policy },
          keys,
        },
      ],
      workflowIdReusePolicy: 'REJECT_DUPLICATE',
      typedSearchAttributes: [
        { key: Project, value: 'p' },
        { key: Model, value: 'm' },
        { key: ModelType, value: 'kind' },
        { key: State, value: 'run' in beginning ? 'provisioning' : 'validating' },
        { key: Author, value: author },
      ],
    });
  }

  /** Waits until the version is in one of the states and nothing is being carried out. */
  async function untilState(submission: string, ...states: readonly Version['state'][]): Promise<Version> {
    const handle = client.workflow.getHandle(idOf(submission));
    return until(`${submission} to be ${states.join(' or ')}`, async () => {
      // The record first: a query is a whole replay.
      const recorded = await stores.records.version('p', 'm', submission);
      if (!recorded || !states.includes(recorded.state)) return undefined;
      const { version, busy } = await handle.query(status);
      return states.includes(version.state) && !busy ? version : undefined;
    });
  }

  /** Gives a command at the present revision and waits for its outcome. */
  async function give(
    submission: string,
    actor: string,
    name: string,
    args: CommandArgs = {},
    more: Partial<CommandBody> = {},
  ): Promise<Outcome> {
    const id = idOf(submission);
    const handle = client.workflow.getHandle(id);
    const { version } = await handle.query(status);
    const sent = signed({
      workflowId: id,
      name,
      actor,
      args,
      revision: version.revision,
      digest: version.digest,
      ...more,
    });
    await handle.signal(command, sent);
    return settled(id, sent.body.commandId);
  }

  async function settled(id: string, commandId: string): Promise<Outcome> {
    return until(`an outcome of ${commandId}`, async () => {
      const found = await client.workflow.getHandle(id).query(outcome, commandId);
      return found && found.status !== 'accepted' ? found : undefined;
    });
  }

  /** Reverts an application as somebody and waits for the outcome. */
  async function revert(
    application: string,
    actor: string,
    release: string | undefined,
    more: Partial<CommandBody> = {},
  ): Promise<Outcome> {
    const id = workflowId.application({ application, type: 'kind' });
    const { pointer } = await client.workflow.getHandle(id).query(live);
    const args: CommandArgs = { reason: 'it was better before', ...(release !== undefined && { release }) };
    const sent = signed({ workflowId: id, name: 'revert', actor, args, revision: pointer?.generation ?? 0, ...more });
    await client.workflow.getHandle(id).signal(command, sent);
    return settled(id, sent.body.commandId);
  }

  /** Evaluates a version as mia: the evaluation as it ended. */
  async function evaluation(submission: string): Promise<Evaluation> {
    const id = `e-${randomUUID().slice(0, 8)}`;
    return client.workflow.execute<(input: unknown) => Promise<Evaluation>>('evaluation', {
      workflowId: workflowId.evaluation({ project: 'p', evaluation: id }),
      taskQueue: taskQueues.core,
      args: [
        {
          project: 'p',
          evaluation: id,
          model: 'm',
          actor: 'mia',
          dataset: 'rows',
          subject: { submission },
          thresholds: {},
        },
      ],
    });
  }

  /** Evaluates a version and returns the digest of the report. */
  async function evaluate(submission: string): Promise<string> {
    const { report, detail } = await evaluation(submission);
    if (!report) throw new Error(`the evaluation of ${submission} failed: ${detail}`);
    return report.sha256;
  }

  /** A version in state `new`; returns the digest of a passing report. */
  async function submitted(submission: string, more: { policy?: Partial<Policy> } = {}): Promise<string> {
    await putSubmission(submission, submission);
    await startLifecycle(submission, { directory: submission }, more);
    await untilState(submission, 'new');
    return evaluate(submission);
  }

  async function approved(submission: string): Promise<string> {
    const report = await submitted(submission);
    const done = await give(submission, 'mia', 'approve', {}, { report });
    if (done.status !== 'done') throw new Error(JSON.stringify(done));
    return report;
  }

  /** Releases a version and returns the release id. */
  async function release(submission: string): Promise<string> {
    const done = await give(submission, 'mia', 'release');
    if (done.status !== 'done') throw new Error(JSON.stringify(done));
    return done.message.replace('released as ', '');
  }

  /** Approves and releases a version of these bytes in one go. */
  async function released(submission: string): Promise<string> {
    await approved(submission);
    return release(submission);
  }

  async function addApplication(application: string, gates: readonly string[] = ['function']): Promise<void> {
    await stores.records.createApplication(
      { application, project: 'p', owner: 'dev', types: ['kind'], gates, repository: `p/app-${application}` },
      auditEntry('application.created'),
    );
    await client.workflow.start('application', {
      workflowId: workflowId.application({ application, type: 'kind' }),
      taskQueue: taskQueues.core,
      args: [{ application, type: 'kind', owner: 'dev', keys }],
    });
  }

  /** Waits until a release is live in an application. */
  const untilLive = (application: string, release: string) =>
    until(`${release} to be live in ${application}`, async () => {
      const delivery = await stores.records.delivery(application, release);
      if (delivery?.state === 'failed') throw new Error(`${release} failed in ${application}: ${delivery.detail}`);
      return delivery?.state === 'live' && delivery;
    });

  /** Reports a scan of an application and starts its feedback. */
  async function startFeedback(scan: Scan): Promise<string> {
    await stores.records.createScan(scan, auditEntry('scan.reported'));
    const id = workflowId.feedback({ project: 'p', scan: scan.scan });
    await client.workflow.start('feedback', {
      workflowId: id,
      taskQueue: taskQueues.core,
      args: [{ project: 'p', scan: scan.scan, keys }],
    });
    return id;
  }

  /** The audit of a subject, or all of the project's. */
  async function auditOf(subject?: string) {
    const entries = [];
    for (let after: string | undefined; ;) {
      const filter = { ...(subject !== undefined && { subject }), ...(after !== undefined && { after }), limit: 500 };
      const { rows, next } = await stores.records.audit(filter);
      entries.push(...rows.map(({ entry }) => entry));
      if (!next) return entries;
      after = next;
    }
  }

  return {
    put,
    putSubmission,
    idOf,
    startLifecycle,
    signed,
    give,
    revert,
    settled,
    evaluation,
    evaluate,
    submitted,
    approved,
    release,
    released,
    untilState,
    untilLive,
    addApplication,
    startFeedback,
    auditOf,
  };
}
