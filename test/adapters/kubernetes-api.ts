// A small API server of Kubernetes for tests: Jobs and pods with lists and watches, whose connections fail as the test says.
import { readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { labels, nameAnnotation, objectName } from '../../activities/adapters/kubernetes/names.ts';
import { makeCertificates } from './git-certificates.ts';

type Kind = 'jobs' | 'pods';
interface Thing {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly labels: Readonly<Record<string, string>>;
  };
}
interface Change {
  readonly version: number;
  readonly kind: Kind;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: Thing;
}
interface Watch {
  readonly kind: Kind;
  readonly isOf: (object: Thing) => boolean;
  readonly response: ServerResponse;
  isSilent: boolean;
}

export const TOKEN = 'the-token-of-the-account';

/** Opens the server; its files are in the folder. */
export async function openScriptedApi(folder: string) {
  const { caFile, certFile, keyFile } = await makeCertificates(folder, 'api');
  const objects: Record<Kind, Map<string, Thing>> = { jobs: new Map(), pods: new Map() };
  const history: Change[] = [];
  const watches = new Set<Watch>();
  /** Every request, as `METHOD path`, and the credentials that came. */
  const requests: string[] = [];
  const credentials = new Set<string>();
  const state = { version: 1, oldest: 0, how: 'status' as 'status' | 'event', log: 'the log\n' };

  const change = (kind: Kind, type: Change['type'], object: Thing): void => {
    const one = { version: ++state.version, kind, type, object };
    history.push(one);
    for (const watch of watches) if (!watch.isSilent) deliver(watch, one);
  };
  const deliver = (watch: Watch, { version, kind, type, object }: Change): void => {
    if (kind !== watch.kind || !watch.isOf(object)) return;
    const metadata = { ...object.metadata, resourceVersion: String(version) };
    watch.response.write(`${JSON.stringify({ type, object: { ...object, metadata } })}\n`);
  };
  const refuse = (response: ServerResponse, code: number, reason: string): void =>
    void response.writeHead(code).end(JSON.stringify({ kind: 'Status', code, reason, message: reason }));

  const watch = (response: ServerResponse, kind: Kind, isOf: Watch['isOf'], from: number): void => {
    if (from < state.oldest && state.how === 'status') return refuse(response, 410, 'Expired');
    response.writeHead(200).flushHeaders();
    if (from < state.oldest) {
      const object = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' };
      return void response.end(`${JSON.stringify({ type: 'ERROR', object })}\n`);
    }
    const own: Watch = { kind, isOf, response, isSilent: false };
    watches.add(own);
    response.once('close', () => watches.delete(own));
    for (const one of history) if (one.version > from) deliver(own, one);
  };

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'https://api');
    requests.push(`${request.method} ${pathname}`);
    credentials.add(request.headers.authorization ?? '');
    request.resume();
    const [, namespace, kind, name, part] =
      /^\/apis?\/(?:batch\/)?v1(?:\/namespaces\/([^/]+))?\/(jobs|pods|events)(?:\/([^/]+))?(?:\/(log))?$/.exec(
        pathname,
      ) ?? [];
    if (pathname === '/version') return void response.end('{"gitVersion":"v1.34.4","minor":"34"}');
    if (part === 'log') return void response.end(state.log);
    if (kind === 'events') return void response.end('{"metadata":{},"items":[]}');
    if (kind !== 'jobs' && kind !== 'pods') return refuse(response, 404, 'NotFound');
    if (name !== undefined) {
      const found = objects[kind].get(`${namespace}/${name}`);
      if (found === undefined) return refuse(response, 404, 'NotFound');
      if (request.method === 'DELETE') api.remove(kind, found);
      return void response.end(JSON.stringify(found));
    }
    const wanted = (searchParams.get('labelSelector') ?? '').split(',').filter(Boolean);
    const isOf = ({ metadata }: Thing): boolean =>
      (namespace === undefined || metadata.namespace === namespace) &&
      wanted.every((word) => metadata.labels[word.split('=')[0] ?? ''] === word.split('=')[1]);
    if (searchParams.has('watch'))
      return watch(response, kind, isOf, Number(searchParams.get('resourceVersion') ?? state.version));
    const metadata = { resourceVersion: String(state.version) };
    response.end(JSON.stringify({ metadata, items: [...objects[kind].values()].filter(isOf) }));
  };

  const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'it' },
      clusters: [{ name: 'it', cluster: { server: `https://127.0.0.1:${port}`, 'certificate-authority': caFile } }],
      users: [{ name: 'it', user: { token: TOKEN } }],
      contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
    }),
  );
  const api = {
    ...{ kubeconfig, port, caFile, requests, credentials, objects },
    put(kind: Kind, object: Thing): void {
      const key = `${object.metadata.namespace}/${object.metadata.name}`;
      const type = objects[kind].has(key) ? 'MODIFIED' : 'ADDED';
      objects[kind].set(key, object);
      change(kind, type, object);
    },
    remove(kind: Kind, object: Thing): void {
      objects[kind].delete(`${object.metadata.namespace}/${object.metadata.name}`);
      change(kind, 'DELETED', object);
    },
    watching: (): number => [...watches].filter(({ isSilent }) => !isSilent).length,
    /** The open watches stay open, and nothing more comes. */
    silence(): void {
      for (const one of watches) one.isSilent = true;
    },
    /** Forgets all changes so far, and ends the open watches: their next attempt is answered with 410. */
    expire(how: 'status' | 'event'): void {
      Object.assign(state, { how, oldest: ++state.version });
      history.length = 0;
      for (const { response } of watches) response.end();
    },
    async close(): Promise<void> {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return api;
}

export type ScriptedApi = Awaited<ReturnType<typeof openScriptedApi>>;

/** A Job and its pod as the cluster shows them: at work, or ended with success. */
export function shownJob(name: string, installation: string, state: 'running' | 'ended') {
  const object = objectName(name);
  const metadata = {
    ...{ namespace: `${installation}-jobs`, labels: { [labels.installation]: installation, [labels.job]: object } },
    annotations: { [nameAnnotation]: name },
  };
  const exit = { exitCode: 0, reason: 'Completed', message: '{"status":"succeeded","seconds":1}' };
  const job = {
    metadata: { ...metadata, name: object, uid: `uid-of-${name}` },
    status: { conditions: state === 'ended' ? [{ type: 'Complete', status: 'True' }] : [] },
  };
  const pod = {
    metadata: { ...metadata, name: `${object}-abcde`, uid: `uid-of-pod-${name}` },
    spec: { containers: [{ image: 'registry.example/capsule:1' }] },
    status: {
      phase: state === 'ended' ? 'Succeeded' : 'Running',
      containerStatuses: [{ name: 'run', state: state === 'ended' ? { terminated: exit } : { running: {} } }],
    },
  };
  return { job, pod };
}
