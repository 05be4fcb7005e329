// Sets up the demo's team: people with their tokens, the project with its rules, the application. Later runs reuse them.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { anySchema, meSchema, projectSchema, tokenSchema } from './answers.ts';
import { type ApiClient, ApiProblem, createApiClient } from './api-client.ts';
import { application, modelType, people, type Person, project, thresholds } from './case-study.ts';

export type Team = Readonly<Record<Person, ApiClient>> & {
  /** The token of the application's program. */
  readonly applicationToken: string;
};

type Place = { readonly api: string; readonly home: string; readonly signal: AbortSignal };

const tokensSchema = z.record(z.string(), z.string());
type Tokens = z.infer<typeof tokensSchema>;

/** Creates whatever is missing. `adminToken` is known only at a home's first start; it is stored with the other tokens. */
export async function gatherTeam(place: Place, adminToken: string | undefined): Promise<Team> {
  const kept = await readTokens(place.home);
  const tokens: Tokens = { ...kept, ...(adminToken !== undefined && { admin: adminToken }) };
  // Store it first: the administrator's token is shown only once.
  await keepTokens(place.home, tokens);
  const client = (who: string, token: string): ApiClient => createApiClient({ ...place, who, token });
  const admin = client('admin', tokens['admin'] ?? '');
  if (tokens['admin'] === undefined || !(await isGood(admin)))
    throw new Error(
      `${place.home}/demo-tokens.json has no valid administrator's token, which is shown only once: ` +
        'remove the folder, or set --home to another one',
    );

  const names = Object.keys(people) as Person[];
  for (const user of names) await admin.post('/v1/users', { user, admin: false }, anySchema);
  for (const user of names) {
    const token = tokens[user];
    if (token !== undefined && (await isGood(client(user, token)))) continue;
    tokens[user] = (await admin.post(`/v1/users/${user}/tokens`, {}, tokenSchema)).token;
  }
  if ((await admin.find(`/v1/projects/${project}`, projectSchema)) === undefined)
    await admin.post('/v1/projects', { project, types: [modelType], policy: { thresholds } }, projectSchema);
  for (const user of names) await admin.put(`/v1/projects/${project}/members/${user}`, { roles: [people[user]] });

  const dev = client('dev', tokens['dev'] ?? '');
  await dev.post(
    `/v1/projects/${project}/applications`,
    { application, types: [modelType], gates: ['function'] },
    anySchema,
  );
  const own = tokens['application'];
  const isApplication =
    own !== undefined && (await isGood(client(application, own), `/v1/applications/${application}`));
  if (!isApplication)
    tokens['application'] = (await dev.post(`/v1/applications/${application}/tokens`, {}, tokenSchema)).token;
  await keepTokens(place.home, tokens);

  const person = (user: Person): ApiClient => client(user, tokens[user] ?? '');
  const cast = { sam: person('sam'), mia: person('mia'), dev, eve: person('eve') };
  return { ...cast, applicationToken: tokens['application'] ?? '' };
}

/** Whether the token is still valid. Throws on any problem other than a refusal. */
async function isGood(client: ApiClient, path = '/v1/me'): Promise<boolean> {
  try {
    await client.get(path, path === '/v1/me' ? meSchema : anySchema);
    return true;
  } catch (error) {
    if (error instanceof ApiProblem && [401, 403, 404].includes(error.status)) return false;
    throw error;
  }
}

const tokensPath = (home: string): string => join(home, 'demo-tokens.json');

async function readTokens(home: string): Promise<Tokens> {
  const text = await readFile(tokensPath(home), 'utf8').catch(() => '{}');
  try {
    return tokensSchema.parse(JSON.parse(text));
  } catch {
    throw new Error(`${tokensPath(home)} is damaged: remove ${home}, or set --home to another folder`);
  }
}

/** Writes the tokens atomically, readable by this user only. */
async function keepTokens(home: string, tokens: Tokens): Promise<void> {
  const path = tokensPath(home);
  await writeFile(`${path}.new`, `${JSON.stringify(tokens, null, 2)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
