// What all passages share: their types, and what both contenders find before a passage.
import { randomUUID } from 'node:crypto';
import { once } from '../../../activities/model-center.ts';
import type { CommandBody } from '../../../workflows/domain/command.ts';
import type { Application, Decision, NamedArtifact, Release, Version } from '../../../workflows/domain/model.ts';
import { newVersion } from '../../../workflows/domain/model.ts';
import type { Digest } from '../../../workflows/domain/names.ts';
import { releasePath, stagingFolder, storePath } from '../../../workflows/domain/names.ts';
import { workflowId } from '../../../workflows/messages.ts';
import { auditEntry } from '../../workflows/passage.ts';
import { submissionFiles } from '../../workflows/submission-files.ts';
import type { InstantSystems } from './instant-systems.ts';
import { insert, releaseColumns } from './plain-rows.ts';
import { plainQueues } from './plain-workflows.ts';
import type { LifecycleStage } from './stage.ts';

export type Arm = 'platform' | 'plain';
export interface Passage {
  readonly name: string;
  /** Takes the n-th passage, and returns the milliseconds that count. */
  readonly platform: (n: number) => Promise<number>;
  readonly plain: (n: number) => Promise<number>;
}

/** Types of models: what one passage releases must not be news for another one's application. */
export const types = ['kind', 'own-app', 'plain-app', 'own-delivery', 'plain-delivery'] as const;

export const now = (): string => new Date().toISOString();
/** The milliseconds that the work takes. */
export const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
};

export type PassageScene = ReturnType<typeof openPassageScene>;

/** Opened once for all passages. */
export function openPassageScene(stage: LifecycleStage) {
  const { records, client, gateway, signed, write, systems } = stage;
  const started = { project: 'p', roles: [] as const };

  async function startPlain<Given>(name: string, id: string, given: Given) {
    return client.workflow.start(name, {
      ...{ workflowId: id, taskQueue: plainQueues.core, args: [given], workflowTaskTimeout: '30 seconds' },
    });
  }
  /** Records and signals a command as the API does. */
  async function give(id: string, given: Pick<CommandBody, 'name' | 'actor' | 'revision'> & Partial<CommandBody>) {
    const sent = signed({ workflowId: id, ...given });
    await records.recordCommand(sent, { project: 'p', subject: id });
    await gateway.sendCommand(id, sent);
  }
  const decisionOf = (name: string, actor: string): Decision => ({
    ...{ commandId: randomUUID(), name, actor, reason: '', report: 'b'.repeat(64), policyVersion: 1, at: now() },
  });
  const end = (id: string) =>
    client.workflow
      .getHandle(id)
      .terminate('the passage is over')
      .catch(() => undefined);

  /** A version's files in staging, as both contenders find them. */
  async function layFiles({ areas }: InstantSystems, submission: string): Promise<readonly NamedArtifact[]> {
    const files: NamedArtifact[] = [];
    for (const [name, text] of Object.entries(submissionFiles(submission))) {
      const path = storePath({ area: 'staging', project: 'p', path: `${stagingFolder('m', submission)}/${name}` });
      files.push({ ...(await areas.write(path, once(Buffer.from(text)))), name });
    }
    return files;
  }
  function versionOf(submission: string, type: string, change: Partial<Version>): Version {
    const given = { project: 'p', model: 'm', type, submission, author: 'sam', beginning: { directory: 'd' } };
    return { ...newVersion(given, 'k', now()), ...change };
  }
  /** A version that was released, with its release, as the passage of a lifecycle leaves them. */
  async function layRelease(arm: Arm, type: string, n: number): Promise<Release> {
    const submission = `${type}-${n}`;
    const { releases } = systems[arm];
    const files: NamedArtifact[] = [];
    for (const [name, text] of Object.entries(submissionFiles(submission))) {
      const bytes = Buffer.from(text);
      const draft = await releases.write(releasePath(type, 'a'.repeat(64) as Digest, name), once(bytes));
      files.push({ ...(await releases.write(releasePath(type, draft.sha256, name), once(bytes))), name });
    }
    const digest = files[0]?.sha256 as Digest;
    const change = { state: 'released', digest, version: n, decisions: [decisionOf('approve', 'mia')] } as const;
    const version = versionOf(submission, type, change);
    const release: Release = {
      ...{
        release: `${type}-${n}`,
        type,
        sequence: n,
        project: 'p',
        model: 'm',
        submission,
        version: n,
        digest,
        files,
      },
      ...{ report: null, approvedBy: ['mia'], releasedBy: 'mia', state: 'announced', releasedAt: now() },
    };
    const key = { project: 'p', model: 'm', submission };
    const { state, revision } = version;
    await records.record([], [{ kind: 'version', row: version }]);
    await write([
      insert('authoritative.standings', {
        ...{ ...key, state, revision, attempt: 1, approvals: '[]', closed: false, row: JSON.stringify(version) },
      }),
      insert('authoritative.releases', releaseColumns(release)),
    ]);
    return release;
  }
  async function addApplication(arm: Arm, type: string): Promise<Application> {
    const application = `shop-${type}`;
    const row = {
      application,
      project: 'p',
      owner: 'dev',
      types: [type],
      gates: ['function'],
      repository: `p/${type}`,
    };
    await records.createApplication(row, auditEntry('application.created'));
    const input = { application, type };
    const id = workflowId.application(input);
    await records.recordStart(
      { ...started, workflowId: id, type: 'application', input, askedBy: 'dev' },
      auditEntry('application.started'),
      [],
    );
    if (arm === 'platform') await records.applicationStanding(id);
    return { ...row, revision: 0 };
  }

  return { started, startPlain, give, decisionOf, end, layFiles, versionOf, layRelease, addApplication };
}
