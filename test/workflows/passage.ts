// Actions of people and machines in a test world: submit, evaluate, decide, release, revert, report, and read the results.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Client } from '@temporalio/client';
import { once } from '../../activities/model-center.ts';
import type { AuditEntry } from '../../activities/records.ts';
import type { Stores } from '../../workers/wiring.ts';
import type { WorkflowGateway } from '../../api/gateway.ts';
import type { CommandArgs, CommandBody, Outcome, SignedCommand } from '../../workflows/domain/command.ts';
import type { Evaluation, Policy, Scan, Version } from '../../workflows/domain/model.ts';
import { newVersion } from '../../workflows/domain/model.ts';
import { storePath } from '../../workflows/domain/names.ts';
import type { Beginning, EvaluationInput } from '../../workflows/messages.ts';
import { workflowId } from '../../workflows/messages.ts';
import type { signsFor } from './api-key.ts';
import { people } from './api-key.ts';
import { submissionFiles } from './submission-files.ts';
import { until } from './until.ts';

/** An audit entry written by the platform. */
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

/** Its name in the audit. */
function subjectOfWorkflow(id: string): string {
  const [kind, ...parts] = id.split('/');
  return kind === 'feedback' ? `${parts[0]}/scans/${parts[1]}` : parts.join('/');
}

/** Everything is of project `p`, model `m`, type `kind`. */
export function createPassage(deps: {
  stores: Stores;
  client: Client;
  policy: Policy;
  gateway: WorkflowGateway;
  signed: ReturnType<typeof signsFor>;
}) {
  const { stores, client, policy, gateway, signed } = deps;
  const { records } = stores;

  const put = (path: string, text: string | Uint8Array) =>
    stores.areas.write(storePath({ area: 'private', project: 'p', user: 'sam', path }), once(Buffer.from(text)), {
      ifExists: 'replace',
    });

  /** A valid submission in sam's private area; `salt` makes its bytes differ from others'. */
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
    await setPolicy({ ...policy, ...more.policy });
    const input = { project: 'p', model: 'm', type: 'kind', submission, author, beginning };
    const row = newVersion(input, 'k', new Date().toISOString());
    const roles = people[author] ?? [];
    await records.recordStart(
      { workflowId: idOf(submission), type: 'modelLifecycle', input, askedBy: author, roles, project: 'p' },
      auditEntry('version.started'),
      [{ kind: 'version', row }],
    );
    await gateway.startLifecycle(input);
    return client.workflow.getHandle(idOf(submission));
  }

  /** Sets the project's policy as a manager. */
  async function setPolicy(change: Partial<Policy>, actor = 'mia'): Promise<void> {
    const now = (await records.project('p'))?.policy ?? policy;
    const next = { ...now, ...change, version: now.version };
    if (isDeepStrictEqual(next, now)) return;
    next.version += 1;
    await records.setPolicy('p', next, { ...auditEntry('policy.set'), actor });
  }

  /** Waits until the version is in one of the states and nothing is being carried out. */
  async function untilState(submission: string, ...states: readonly Version['state'][]): Promise<Version> {
    return until(`${submission} to be ${states.join(' or ')}`, async () => {
      const { version, pending } = await standing(submission);
      return states.includes(version.state) && !pending ? version : undefined;
    });
  }

  /** Sends a command at the current revision and waits for its outcome. */
  async function give(
    submission: string,
    actor: string,
    name: string,
    args: CommandArgs = {},
    more: Partial<CommandBody> = {},
  ): Promise<Outcome> {
    const id = idOf(submission);
    const { version } = await standing(submission);
    const sent = signed({
      workflowId: id,
      name,
      actor,
      args,
      revision: version.revision,
      digest: version.digest,
      ...more,
    });
    return send(sent);
  }

  const standing = (submission: string) => records.versionStanding({ project: 'p', model: 'm', submission });

  /** Records and signals a command as the API does, and waits for its outcome. */
  async function send(sent: SignedCommand): Promise<Outcome> {
    const { workflowId: id, commandId } = sent.body;
    const row = await records.recordCommand(sent, { project: 'p', subject: subjectOfWorkflow(id) });
    if (row.isOpen) await gateway.sendCommand(id, sent).catch(() => undefined);
    return settled(id, commandId);
  }

  async function settled(id: string, commandId: string): Promise<Outcome> {
    return until(`an outcome of ${commandId}`, async () => {
      const found = (await records.command(id, commandId))?.outcome;
      return found && found.status !== 'accepted' ? found : undefined;
    });
  }

  /** Reverts an application as the given user and waits for the outcome. */
  async function revert(
    application: string,
    actor: string,
    release: string | undefined,
    more: Partial<CommandBody> = {},
  ): Promise<Outcome> {
    const id = workflowId.application({ application, type: 'kind' });
    const pointer = await records.livePointer(application, 'kind');
    const args: CommandArgs = { reason: 'it was better before', ...(release !== undefined && { release }) };
    const sent = signed({ workflowId: id, name: 'revert', actor, args, revision: pointer.generation, ...more });
    return send(sent);
  }

  /** Evaluates a version as mia; returns the finished evaluation. */
  async function evaluation(submission: string): Promise<Evaluation> {
    const id = `e-${randomUUID().slice(0, 8)}`;
    await startEvaluation(id, { submission });
    return until(`evaluation ${id} to end`, async () => {
      const row = await records.evaluation('p', id);
      return row && row.state !== 'running' ? row : undefined;
    });
  }

  /** Starts an evaluation as the API does. */
  async function startEvaluation(
    evaluation: string,
    subject: EvaluationInput['subject'],
    more: { actor?: string; dataset?: string } = {},
  ): Promise<string> {
    const { actor = 'mia', dataset = 'rows' } = more;
    const input: EvaluationInput = { project: 'p', evaluation, model: 'm', actor, dataset, subject };
    const id = workflowId.evaluation(input);
    const submission = 'submission' in subject ? subject.submission : null;
    const row: Evaluation = {
      ...{ evaluation, project: 'p', model: 'm', submission, actor, dataset, state: 'running', digest: null },
      ...{ report: null, passed: null, metrics: {}, detail: '', updatedAt: new Date().toISOString() },
    };
    await records.recordStart(
      { workflowId: id, type: 'evaluation', input, askedBy: actor, roles: people[actor] ?? [], project: 'p' },
      auditEntry('evaluation.started'),
      [{ kind: 'evaluation', row }],
    );
    await gateway.startEvaluation(input);
    return id;
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

  async function addApplication(
    application: string,
    gates: readonly string[] = ['function'],
    project = 'p',
  ): Promise<void> {
    const repository = `${project}/app-${application}`;
    await stores.records.createApplication(
      { application, project, owner: 'dev', types: ['kind'], gates, repository },
      auditEntry('application.created'),
    );
    const input = { application, type: 'kind' };
    const id = workflowId.application(input);
    await records.recordStart(
      { workflowId: id, type: 'application', input, askedBy: 'dev', roles: ['developer'], project },
      auditEntry('application.started'),
      [],
    );
    await gateway.startApplication(input, project);
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
    const input = { project: 'p', scan: scan.scan };
    const id = workflowId.feedback(input);
    await records.recordStart(
      { workflowId: id, type: 'feedback', input, askedBy: scan.application, roles: [], project: 'p' },
      auditEntry('scan.reported'),
      [{ kind: 'scan', row: scan }],
    );
    await gateway.startFeedback(input);
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
    startEvaluation,
    setPolicy,
    standing,
    send,
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
