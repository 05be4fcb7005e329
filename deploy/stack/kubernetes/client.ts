// Requests to the stack's own API servers: readiness, first objects and tests. The platform itself uses its Kubernetes adapter.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { keyFile, tokenOf, type ClusterPlace } from './identities.ts';

export type ClusterAnswer = { readonly status: number; readonly text: string };

/** Sends one request with the administrator's token; verifies the server by the cluster's CA. */
export async function askCluster(
  { folder, url }: Pick<ClusterPlace, 'folder' | 'url'>,
  path: string,
  method: 'GET' | 'POST' | 'DELETE' = 'GET',
  body?: object,
): Promise<ClusterAnswer> {
  return await askHttps(`${url}${path}`, {
    ca: readFileSync(keyFile(folder, 'ca.crt')),
    method,
    headers: { authorization: `Bearer ${tokenOf(folder, 'admin')}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** Creates an object that may exist already. */
export async function ensureObject(place: ClusterPlace, path: string, object: object): Promise<void> {
  const { status, text } = await askCluster(place, path, 'POST', object);
  if (status === 409 || (status >= 200 && status < 300)) return;
  throw new Error(
    `The API server of ${place.name} answered ${status} to a new object at ${path}: ${text.slice(0, 500)}`,
  );
}

export type HttpsRequest = {
  readonly ca: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

/** Sends one HTTPS request with the given authority and client certificate; Node's fetch accepts neither. */
export function askHttps(url: string, { body, headers, ...options }: HttpsRequest): Promise<ClusterAnswer> {
  return new Promise((resolve, reject) => {
    // 10 s: a server that is starting or busy answers late; callers ask again.
    const sent = request(url, { ...options, headers: { ...headers }, agent: false, timeout: 10_000 }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') }),
      );
    });
    sent.once('timeout', () => sent.destroy(new Error(`${url} did not answer within 10 s.`)));
    sent.once('error', reject);
    sent.end(body);
  });
}
