// The API over a real database and real stores, with a fake gateway instead of workflows, and people in two projects.
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { createGitHost } from '../../activities/adapters/git.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { createApp } from '../../api/app.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import type { ApiDeps, Limits } from '../../api/deps.ts';
import { defaultLimits } from '../../api/deps.ts';
import { registeredSigner } from '../../activities/signing.ts';
import { issueToken } from '../../api/tokens.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import type { Role } from '../../workflows/domain/roles.ts';
import { freshDatabase } from '../servers.ts';
import type { FakeGateway } from './fake-gateway.ts';
import { createFakeGateway } from './fake-gateway.ts';

export const PROJECT = 'vulnerability';
export const TYPE = 'code-vulnerability';

/** Everybody in the tests: their roles in the project, or in the other one. */
export const people: Readonly<Record<string, { readonly project: string | null; readonly roles: readonly Role[] }>> = {
  admin: { project: null, roles: [] },
  sam: { project: PROJECT, roles: ['scientist'] },
  sid: { project: PROJECT, roles: ['scientist'] },
  mia: { project: PROJECT, roles: ['manager'] },
  dev: { project: PROJECT, roles: ['developer'] },
  dan: { project: PROJECT, roles: ['developer'] },
  eng: { project: PROJECT, roles: ['engineer'] },
  olga: { project: 'other', roles: ['scientist', 'manager', 'developer', 'engineer'] },
  nobody: { project: null, roles: [] },
};
export type Person = keyof typeof people;

export interface World {
  readonly deps: ApiDeps & { readonly workflows: FakeGateway };
  readonly api: ReturnType<typeof createApp>;
  /** Tokens by person; `tokens.of` issues more. */
  readonly tokens: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly databaseUrl: string;
  /** Lines of the log, parsed. */
  readonly lines: readonly Record<string, unknown>[];
  /** A request as somebody. An object body goes as JSON, bytes as an upload. */
  ask(
    who: string | null,
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Response>;
  close(): Promise<void>;
}

/** Opens a world with its own database. */
export async function openWorld(limits: Partial<Limits> = {}): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'ocdl-api-'));
  const databaseUrl = await freshDatabase();
  const records = await createPostgresRecords({ url: databaseUrl, poolSize: 4 });
  const lines: Record<string, unknown>[] = [];
  const log = pino(
    { level: 'debug' },
    { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const deps = {
    records,
    areas: await createLocalDisk({ root: join(folder, 'areas'), name: 'areas' }),
    releases: await createLocalDisk({ root: join(folder, 'releases'), name: 'releases' }),
    code: await createGitHost({ root: join(folder, 'git') }),
    workflows: createFakeGateway(),
    signer: await registeredSigner(join(folder, 'keys'), records),
    log,
    counters: () => ({ alluxio_reads: 3, alluxio_fallbacks: 1 }),
    limits: { ...defaultLimits, pollMs: 5, answerMs: 100, ...limits },
  };
  const api = createApp(deps);
  const tokens = await populate(records);
  return {
    ...{ deps, api, tokens, folder, databaseUrl, lines },
    ask: (who, method, path, body, headers = {}) => {
      const isBytes = body instanceof Uint8Array || body instanceof ReadableStream;
      const type = isBytes ? 'application/octet-stream' : 'application/json';
      return Promise.resolve(
        api.app.request(`http://localhost${path}`, {
          method,
          headers: {
            ...(who !== null && { authorization: `Bearer ${tokens[who] ?? who}` }),
            ...(body !== undefined && { 'content-type': type }),
            ...headers,
          },
          ...(body !== undefined && { body: isBytes ? body : typeof body === 'string' ? body : JSON.stringify(body) }),
          ...(body instanceof ReadableStream && { duplex: 'half' }),
        }),
      );
    },
    async close() {
      await records.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function populate(records: Records): Promise<Record<string, string>> {
  const audit = (key: string) => auditEntry({ key, kind: 'test', actor: 'test', subject: 'test' });
  for (const user of Object.keys(people)) await records.createUser(user, user === 'admin', audit(`user/${user}`));
  await records.createProject(
    { project: PROJECT, types: [TYPE, 'sentiment'], policy: defaultPolicy },
    audit('project/1'),
  );
  await records.createProject({ project: 'other', types: ['weather'], policy: defaultPolicy }, audit('project/2'));
  for (const [user, { project, roles }] of Object.entries(people))
    if (project) await records.setMember(project, { user, roles }, audit(`member/${user}`));
  const tokens = Object.keys(people).map(
    async (name) => [name, (await issueToken(records, { kind: 'user', name, actor: 'test' })).token] as const,
  );
  return Object.fromEntries(await Promise.all(tokens));
}

/** SHA-256 in hexadecimal, and as the value of a `Repr-Digest` header. */
export const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');
export const reprDigest = (bytes: Uint8Array | string): string =>
  `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`;

/** The JSON of an answer, as loosely as a test needs it. */
export async function json(response: Response | Promise<Response>): Promise<Record<string, unknown>> {
  return (await (await response).json()) as Record<string, unknown>;
}
