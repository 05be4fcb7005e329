// The platform's API as a process of its own, with an administrator who may ask it.
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { anyFreePort } from '../../deploy/local/ports.ts';

export interface ApiProcess {
  readonly url: string;
  /** As the administrator; anything but a good answer is an error that shows it. */
  ask(method: string, path: string, body: object): Promise<unknown>;
  /** Makes a user with a role in a project, and returns the token. */
  addPerson(user: string, project: string, role: string): Promise<string>;
  stop(): Promise<void>;
}

/** Starts it in a new home, over the systems that the variables name. */
export async function startApi(home: string, variables: Readonly<Record<string, string>>): Promise<ApiProcess> {
  const api = fork(fileURLToPath(new URL('../../api/main.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    env: {
      ...{ PATH: process.env.PATH, HOME: process.env.HOME, AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true' },
      ...variables,
      OCDL_HOME: home,
      OCDL_API_PORT: String(await anyFreePort('127.0.0.1')),
    },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const stop = async (): Promise<void> => {
    if (api.exitCode !== null) return;
    api.kill('SIGTERM');
    await new Promise((resolve) => api.once('exit', resolve));
  };
  try {
    const { url, adminToken } = await readiness(api);
    const ask = async (method: string, path: string, body: object): Promise<unknown> => {
      const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' };
      const response = await fetch(`${url}${path}`, { method, headers, body: JSON.stringify(body) });
      if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
      return response.status === 204 ? undefined : await response.json();
    };
    const addPerson = async (user: string, project: string, role: string): Promise<string> => {
      await ask('POST', '/v1/users', { user });
      await ask('PUT', `/v1/projects/${project}/members/${user}`, { roles: [role] });
      return z.object({ token: z.string() }).parse(await ask('POST', `/v1/users/${user}/tokens`, {})).token;
    };
    return { url, ask, addPerson, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function readiness(api: ChildProcess): Promise<{ url: string; adminToken: string }> {
  const schema = z.object({ type: z.literal('ready'), url: z.string(), adminToken: z.string() });
  return new Promise((resolve, reject) => {
    api.once('message', (message) => resolve(schema.parse(message)));
    api.once('error', reject);
    api.once('exit', (code) => reject(new Error(`the API ended with ${code}`)));
  });
}
