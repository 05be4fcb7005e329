// The scene of cases on decisions: people, a key, a test set and a version in progress.
import assert from 'node:assert/strict';
import { generateKeyPairSync, randomUUID, sign as signBytes } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { CommandRow, Records } from '../../../activities/records.ts';
import type { CommandBody, SignedCommand } from '../../../workflows/domain/command.ts';
import { workflowId } from '../../../workflows/domain/ids.ts';
import type { DataSet, NamedArtifact, Policy } from '../../../workflows/domain/model.ts';
import { defaultPolicy, newVersion } from '../../../workflows/domain/model.ts';
import type { ArtifactUri } from '../../../workflows/domain/names.ts';
import type { Role } from '../../../workflows/domain/roles.ts';
import type { VersionStanding } from '../../../workflows/domain/standing.ts';
import type { Scene } from './scene.ts';
import { allot, digestOf, evaluationRow, START } from './scene.ts';

/** The members of the scene's project; each may be a member of other scenes' projects, too. */
export const people: Readonly<Record<string, readonly Role[]>> = {
  sam: ['scientist'],
  sue: ['scientist'],
  mia: ['manager'],
  max: ['manager'],
  moe: ['manager', 'scientist'],
  dan: ['developer'],
  eve: ['engineer'],
};

const pair = generateKeyPairSync('ed25519');
const keyId = randomUUID().slice(0, 16);
const publicKey = pair.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex');
/** The key that scenes sign with, as it is registered. */
export const sceneKeys = { [keyId]: publicKey };

type Given = Partial<CommandBody> & Pick<CommandBody, 'workflowId' | 'name' | 'actor'>;

/** Completes a command and signs it. */
export function signed(given: Given): SignedCommand {
  const body: CommandBody = {
    ...{ v: 1, keyId, commandId: randomUUID(), args: {}, roles: people[given.actor] ?? [], policyVersion: 1 },
    ...{ revision: 0, digest: null, report: null, issuedAt: START },
    ...given,
  };
  return {
    body,
    signature: signBytes(null, Buffer.from(canonicalize(body) ?? ''), pair.privateKey).toString('base64url'),
  };
}

const place = (type: string, file: NamedArtifact): NamedArtifact => ({
  ...file,
  uri: `memory:releases/${type}/${file.sha256}` as ArtifactUri,
});

export type Lifecycle = Awaited<ReturnType<typeof openLifecycle>>;

/** Makes the scene's project with its people, key and test set; versions are of the model `forest`. */
export async function openLifecycle(
  records: Records,
  scene: Scene,
  policy: Partial<Policy> = {},
  members: readonly string[] = Object.keys(people),
) {
  const { project, type, application, entry } = scene;
  await records.createProject({ project, types: [type], policy: { ...defaultPolicy, ...policy } }, entry());
  for (const user of members) {
    const roles = people[user] ?? [];
    await records.createUser(user, false, entry());
    await records.setMember(project, { user, roles }, entry());
  }
  await records.registerKeys(sceneKeys);
  await setTestSet('held-out');

  async function setTestSet(dataset: string, given: Partial<DataSet> = {}): Promise<void> {
    const row = { project, dataset, kind: 'test', files: [], registeredBy: 'max', registeredAt: START } as const;
    await records.registerDataSet({ ...row, ...given }, entry());
  }

  const keyOf = (submission: string) => ({ project, model: 'forest', submission });
  const idOf = (submission: string): string => workflowId.modelLifecycle(keyOf(submission));
  const standing = (submission: string) => records.versionStanding(keyOf(submission));

  /** Starts a lifecycle of a directory, as the API does. */
  async function start(submission: string, author = 'sam'): Promise<void> {
    const input = { ...keyOf(submission), type, author, beginning: { directory: submission } };
    const row = newVersion(input, keyId, START);
    await records.recordStart(
      { workflowId: idOf(submission), type: 'modelLifecycle', input, askedBy: author, roles: ['scientist'], project },
      entry(),
      [{ kind: 'version', row }],
    );
  }

  /** Records that the submission was staged and is valid; by default its bytes are its own. */
  async function validate(submission: string, bytes = submission): Promise<VersionStanding> {
    const sha256 = digestOf(bytes);
    const file = { name: 'model.onnx', uri: `memory:${submission}/model.onnx` as ArtifactUri, sha256, bytes: 1 };
    await records.recordStaged(keyOf(submission), [file]);
    await records.recordValidation(keyOf(submission), { digest: sha256, revises: null });
    const { version } = await standing(submission);
    return records.advanceVersion(idOf(submission), { revision: version.revision });
  }

  /** A version that is `new`. */
  async function submit(submission: string, author = 'sam'): Promise<void> {
    await start(submission, author);
    assert.equal((await validate(submission)).version.state, 'new');
  }

  interface Asked {
    readonly evaluation?: string;
    readonly actor?: string;
    readonly roles?: readonly Role[];
    readonly dataset?: string;
    readonly metrics?: Readonly<Record<string, number | null>>;
    readonly bytes?: string;
    readonly inStaging?: boolean;
  }

  /** Requests an evaluation of a version; the returned function ends it and returns the digest of its report. */
  async function ask(submission: string, asked: Asked = {}): Promise<() => Promise<string>> {
    const { actor = 'mia', roles = people[actor] ?? [], dataset = 'held-out', metrics = {} } = asked;
    const evaluation = asked.evaluation ?? `e-${randomUUID().slice(0, 8)}`;
    const input = { project, evaluation, model: 'forest', actor, dataset, subject: { submission } };
    const row = evaluationRow(scene, { evaluation, submission, actor, dataset });
    await records.recordStart(
      { workflowId: workflowId.evaluation(input), type: 'evaluation', input, askedBy: actor, roles, project },
      entry(),
      [{ kind: 'evaluation', row }],
    );
    return async () => {
      const sha256 = digestOf(evaluation);
      const report = { name: 'report.json', uri: `memory:${evaluation}` as ArtifactUri, sha256, bytes: 1 };
      const digest = digestOf(asked.bytes ?? submission);
      const { inStaging = true } = asked;
      await records.endEvaluation({ ...row, state: 'done', digest, report, metrics, passed: true }, { inStaging });
      return sha256;
    };
  }

  const evaluate = async (submission: string, asked: Asked = {}): Promise<string> => (await ask(submission, asked))();

  /** A command about the current state of a version. */
  async function about(submission: string, name: string, actor: string, given: Partial<CommandBody> = {}) {
    const { version } = await standing(submission);
    const { revision, digest } = version;
    return signed({ workflowId: idOf(submission), name, actor, revision, digest, ...given });
  }

  const subject = { project, subject: `${project}/forest` };
  const record = (command: SignedCommand): Promise<CommandRow> => records.recordCommand(command, subject);

  async function decide(command: SignedCommand, doubt?: { reason: string; message: string }): Promise<VersionStanding> {
    return records.decideVersion(command.body.workflowId, command, { place, doubt });
  }

  async function outcomeOf({ body }: SignedCommand): Promise<string> {
    const row = await records.command(body.workflowId, body.commandId);
    if (!row) return 'unknown';
    if (row.isOpen) return 'open';
    const { outcome } = row;
    return outcome.status === 'refused' ? outcome.reason : outcome.status;
  }

  /** Records and decides a command; returns its outcome and message. */
  async function give(submission: string, name: string, actor: string, given: Partial<CommandBody> = {}) {
    const command = await about(submission, name, actor, given);
    const row = await record(command);
    if (row.isOpen) await decide(command);
    const end = (await records.command(command.body.workflowId, command.body.commandId))?.outcome;
    const message = end && 'message' in end ? end.message : '';
    return { command, came: await outcomeOf(command), message };
  }

  /** A version that is approved. */
  async function approve(submission: string, author = 'sam'): Promise<void> {
    await submit(submission, author);
    const { came, message } = await give(submission, 'approve', 'mia', { report: await evaluate(submission) });
    assert.equal(came, 'done', message);
  }

  /** Releases an approved version, announced, as its workflows do: the id of the release. */
  async function release(submission: string): Promise<string> {
    const { command, came, message } = await give(submission, 'release', 'mia');
    assert.equal(came, 'accepted', message);
    const { pending } = await standing(submission);
    assert.ok(pending?.release);
    await records.announced(pending.release);
    const done = await records.completeDecision(command.body.workflowId, command.body.commandId);
    assert.equal(done.version.state, 'released');
    return pending.release;
  }

  /** Approves and releases a version of these bytes in one go. */
  async function released(submission: string): Promise<string> {
    await approve(submission);
    return release(submission);
  }

  const pointerId = workflowId.application({ application, type });

  /** The scene's application, which consumes its type. */
  async function addApplication(gates: readonly string[] = []): Promise<void> {
    await records.createApplication(
      { application, project, owner: 'dan', types: [type], gates, repository: `${project}/app` },
      entry(),
    );
    await records.recordStart(
      {
        ...{ workflowId: pointerId, type: 'application', input: { application, type }, askedBy: 'dan' },
        ...{ roles: people['dan'] ?? [], project },
      },
      entry(),
      [],
    );
  }

  /** Gives a release of a version its number without any decision. */
  async function addRelease(submission: string): Promise<string> {
    const version = Number(submission.replace('rf-', ''));
    return (await allot(records, scene, version)).release;
  }

  /** Makes a release live as its delivery does. */
  async function deliver(release: string) {
    const { generation } = await records.livePointer(application, type);
    const key = randomUUID();
    return records.moveLivePointer(
      { key, application, type, generation, release, revert: false },
      entry({ key, kind: 'application.moved', subject: application }),
    );
  }

  /** Records and decides a command about the live pointer. */
  async function movePointer(name: string, actor: string, given: Partial<CommandBody> = {}) {
    const { generation: revision } = await records.livePointer(application, type);
    const args = { reason: 'it was better', ...given.args };
    const command = signed({ workflowId: pointerId, name, actor, revision, ...given, args });
    const row = await record(command);
    const decided = row.isOpen ? await records.decidePointer(pointerId, command) : undefined;
    const end = (await records.command(pointerId, command.body.commandId))?.outcome;
    return { command, decided, came: await outcomeOf(command), message: end && 'message' in end ? end.message : '' };
  }

  const setPolicy = async (version: number, change: Partial<Policy>, actor = 'mia'): Promise<void> =>
    records.setPolicy(project, { ...defaultPolicy, ...change, version }, entry({ actor }));

  return {
    ...{ idOf, keyOf, standing, start, validate, submit, setTestSet, ask, evaluate, about, record, decide, outcomeOf },
    ...{
      give,
      approve,
      release,
      released,
      pointerId,
      addApplication,
      addRelease,
      deliver,
      movePointer,
      setPolicy,
      signed,
      place,
    },
  };
}
