// The people and projects of the upgrade test, and their actions through the API of either program.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { ApiClient } from '../../api/cli/demo/api-client.ts';
import { ApiProblem, createApiClient } from '../../api/cli/demo/api-client.ts';
import type { Site } from '../adapters/web-server.ts';
import type { Files } from './files.ts';
import { filesOf, MANY_ROWS, testRows, trainingCode } from './files.ts';

/** A step takes seconds; a busy machine, a first Python environment and the pauses between retries are in this. */
export const PATIENCE_MS = 240_000;

const people = {
  sam: ['scientist'],
  sue: ['scientist'],
  mia: ['manager'],
  max: ['manager'],
  dev: ['developer'],
  eve: ['engineer'],
} as const;
export type Person = keyof typeof people;

/** Types of `p`: `t` is taken in by an application with a gate, `r` by one that reverts, `u` by one that waits, `w` by none. */
export const types = ['t', 'r', 'u', 'w'] as const;
export type ModelType = (typeof types)[number];
export const applications = { scanner: 't', reverter: 'r', waiter: 'u' } as const;
export type ApplicationName = keyof typeof applications;
/** Project `p` asks for two approvals and lets a rejection be undone for an hour, `q` for one and for seconds. */
const policies = {
  p: { quorum: 2, undoWithinSeconds: 3_600 },
  q: { quorum: 1, undoWithinSeconds: 45 },
} as const;
export type ProjectName = keyof typeof policies;
/** The one type of `q`. */
export const shortUndoType = 'q';

const any = z.unknown();
const fileSchema = z.object({ sha256: z.string() });
const decisionSchema = z.object({ commandId: z.string(), name: z.string(), actor: z.string(), reason: z.string() });
const versionSchema = z.object({
  submission: z.string(),
  author: z.string(),
  state: z.string(),
  revision: z.number(),
  version: z.number().nullable(),
  digest: z.string().nullable(),
  detail: z.string(),
  decisions: z.array(decisionSchema),
});
export type Version = z.infer<typeof versionSchema>;
const evaluationSchema = z.object({
  evaluation: z.string(),
  state: z.string(),
  detail: z.string(),
  passed: z.boolean().nullable(),
  report: fileSchema.nullable(),
});
const answerSchema = z.object({ address: z.string() });
const outcomeSchema = z.object({
  outcome: z.object({ status: z.string(), message: z.string().default('') }).nullable(),
});

/** What a person gives besides a command's name. */
interface Given {
  readonly args?: Readonly<Record<string, unknown>>;
  readonly report?: string | null;
}

export type Scene = Awaited<ReturnType<typeof openScene>>;

/** Makes the cast, the projects, the applications and the test set on a platform of the earlier program. */
export async function openScene(place: {
  readonly api: string;
  readonly home: string;
  readonly adminToken: string;
  readonly site: Site;
  readonly signal: AbortSignal;
}) {
  const { api, signal } = place;
  const client = (who: string, token: string): ApiClient => createApiClient({ api, signal, who, token });
  const admin = client('admin', place.adminToken);
  const tokenSchema = z.object({ token: z.string() });
  const tokens: Record<string, string> = {};
  for (const [project, policy] of Object.entries(policies))
    await admin.post('/v1/projects', { project, types: project === 'p' ? types : [shortUndoType], policy }, any);
  for (const [user, roles] of Object.entries(people)) {
    await admin.post('/v1/users', { user, admin: false }, any);
    for (const project of Object.keys(policies)) await admin.put(`/v1/projects/${project}/members/${user}`, { roles });
    tokens[user] = (await admin.post(`/v1/users/${user}/tokens`, {}, tokenSchema)).token;
  }
  const as = (user: Person): ApiClient => client(user, tokens[user] ?? '');
  const [sam, mia, dev] = [as('sam'), as('mia'), as('dev')];
  for (const [application, type] of Object.entries(applications))
    await dev.post('/v1/projects/p/applications', { application, types: [type], gates: ['function'] }, any);
  const scanner = (await dev.post('/v1/applications/scanner/tokens', {}, tokenSchema)).token;

  await put(mia, 'p', 'rows.jsonl', Buffer.from(testRows(4)));
  await put(mia, 'p', 'many.jsonl', Buffer.from(testRows(MANY_ROWS)));
  for (const [dataset, name] of [
    ['rows', 'rows.jsonl'],
    ['many', 'many.jsonl'],
  ] as const)
    await mia.post(
      '/v1/projects/p/datasets',
      { dataset, kind: 'test', files: [{ name, area: 'private', path: name }] },
      any,
    );
  const commitSchema = z.object({ commit: z.string() });
  const code = { branch: 'main', message: 'train', files: trainingCode };
  const { commit } = await sam.post('/v1/projects/p/code/commits', code, commitSchema);

  const pathOf = (submission: string, project: ProjectName = 'p'): string =>
    `/v1/projects/${project}/models/m/submissions/${submission}`;
  const version = async (submission: string, project: ProjectName = 'p'): Promise<Version> =>
    (await mia.get(pathOf(submission, project), z.object({ version: versionSchema }))).version;

  /** Waits until a version is in one of `states`, and returns it. Throws if it fails unexpectedly. */
  async function becomes(submission: string, states: readonly string[], project: ProjectName = 'p'): Promise<Version> {
    const what = `${submission} to be ${states.join(' or ')}`;
    const found = await mia.until(
      what,
      () => version(submission, project),
      ({ state }) => [...states, 'invalid', 'failed'].includes(state),
      PATIENCE_MS,
    );
    if (!states.includes(found.state)) throw new Error(`${submission} is ${found.state}: ${found.detail}`);
    return found;
  }

  /** Gives a command at what the version is now, and waits for its effects. */
  async function give(user: Person, submission: string, name: string, { args = {}, report = null }: Given = {}) {
    const { revision, digest } = await version(submission);
    return as(user).command(`${pathOf(submission)}/commands`, { name, args, revision, digest, report });
  }

  /** Sends a command and waits only until it is accepted; returns the address of its outcome. */
  async function send(user: Person, path: string, command: object): Promise<string> {
    return (await as(user).post(path, { commandId: randomUUID(), ...command }, answerSchema)).address;
  }

  /** What came of a command that was sent. One that no workflow has looked at yet is not known after the upgrade. */
  async function outcomeOf(user: Person, address: string) {
    const ask = () => as(user).find(address, outcomeSchema);
    const open = [undefined, 'accepted'];
    const what = `an outcome of ${address}`;
    return (await mia.until(what, ask, (found) => !open.includes(found?.outcome?.status), PATIENCE_MS))?.outcome;
  }

  /** Uploads a submission's files into its author's private area. */
  async function upload(submission: string, how: How = {}): Promise<void> {
    const { project = 'p', type = 'w' } = how;
    for (const [name, content] of Object.entries(filesOf({ type, submission, ...how })))
      await put(sam, project, `${submission}/${name}`, content);
  }

  /** Starts a submission from uploaded files. */
  async function start(submission: string, { type = 'w', project = 'p' }: How = {}): Promise<void> {
    const from = { directory: submission };
    await sam.post(`/v1/projects/${project}/models/m/submissions`, { submission, type, from }, any);
  }

  async function submit(submission: string, how: How = {}): Promise<void> {
    await upload(submission, how);
    await start(submission, how);
  }

  /** Starts a submission from a training. */
  async function train(
    submission: string,
    parameters: Readonly<Record<string, number>> = {},
    lock = 'none.lock',
  ): Promise<void> {
    const model64 = Buffer.from(filesOf({ submission, type: 'w' })['model.onnx']).toString('base64');
    const from = {
      run: { commit, entrypoint: 'train.py', lock, data: [], parameters: { ...parameters, model: model64 } },
    };
    await sam.post('/v1/projects/p/models/m/submissions', { submission, type: 'w', from }, any);
  }

  async function startEvaluation(submission: string, dataset = 'rows', evaluation = `e-${submission}`): Promise<void> {
    const asked = { evaluation, model: 'm', dataset, subject: { submission } };
    await mia.post('/v1/projects/p/evaluations', asked, any);
  }

  const evaluation = (id: string) => mia.get(`/v1/projects/p/evaluations/${id}`, evaluationSchema);

  /** Waits for an evaluation's end; answers its report's digest. */
  async function reportOf(submission: string, id = `e-${submission}`): Promise<string> {
    const ended = await mia.until(
      `evaluation ${id}`,
      () => evaluation(id),
      ({ state }) => state !== 'running',
      PATIENCE_MS,
    );
    if (ended.report === null) throw new Error(`evaluation ${id} is ${ended.state}: ${ended.detail}`);
    return ended.report.sha256;
  }

  /** Evaluates and gives the approvals of `managers`. */
  async function approve(submission: string, managers: readonly Person[]): Promise<void> {
    await startEvaluation(submission);
    const report = await reportOf(submission);
    for (const manager of managers) await give(manager, submission, 'approve', { report });
  }

  /** From uploaded files to `approved`. */
  async function approved(submission: string, how: How = {}): Promise<void> {
    await submit(submission, how);
    await becomes(submission, ['new']);
    await approve(submission, ['mia', 'max']);
  }

  /** A request that has no place among a client's. */
  async function ask(user: Person, method: 'GET' | 'DELETE', path: string): Promise<Buffer> {
    const headers = { authorization: `Bearer ${tokens[user] ?? ''}` };
    const response = await fetch(new URL(path, api), { method, headers, signal });
    const body = Buffer.from(await response.arrayBuffer());
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${body.toString()}`);
    return body;
  }

  return {
    ...{ api, home: place.home, site: place.site, signal, admin, as, scanner: client('scanner', scanner) },
    ...{
      pathOf,
      version,
      becomes,
      give,
      send,
      outcomeOf,
      upload,
      start,
      submit,
      train,
      startEvaluation,
      evaluation,
      reportOf,
    },
    ...{ approve, approved },
    read: (user: Person, path: string) => ask(user, 'GET', path),
    remove: async (user: Person, path: string) => void (await ask(user, 'DELETE', path)),
  };
}

type How = Partial<Files> & { readonly project?: ProjectName };

/** Uploads a file. Making one takes so long on a busy machine that the server has closed the idle connection: then once more. */
async function put(as: ApiClient, project: ProjectName, path: string, bytes: Uint8Array): Promise<void> {
  const address = `/v1/projects/${project}/files/private/${path}?replace=true`;
  for (let tries = 1; ; tries += 1)
    try {
      return await as.upload(address, bytes);
    } catch (error) {
      if (error instanceof ApiProblem || tries === UPLOAD_TRIES) throw error;
      // The client notices closed connections meanwhile.
      await sleep(1_000);
    }
}
const UPLOAD_TRIES = 5;
