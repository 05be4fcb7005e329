// Model services on Kubernetes: starts a Deployment with its Service, waits until it answers, watches its pod, and removes it.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { failure, messageOf, SystemUnavailable } from '../../failures.ts';
import { ServiceNotReady, type Cluster, type ServiceEnd, type ServiceSpec } from '../../ports.ts';
import { oneAtATime } from '../one-at-a-time.ts';
import { isRefused, Refused, type KubernetesClient } from './client.ts';
import { readLog } from './job-log.ts';
import { checkName, labels, namespaceName, ofInstallation, ofService } from './names.ts';
import { readDeployment, type DeploymentFacts } from './objects.ts';
import { servicePort } from './project-manifests.ts';
import { removeOwner } from './removal.ts';
import { openForwarder } from './service-forwarder.ts';
import {
  deploymentManifest,
  memoryOf,
  servedFile,
  serveContainer,
  serviceManifest,
  serviceSecretManifest,
  startName,
  type ServiceSetting,
  type ServiceStart,
} from './service-manifests.ts';
import { endedText, serviceStanding, type ServiceStanding } from './service-standing.ts';
import { watchPods, type PodWatch } from './pod-watch.ts';
import { listObjects } from './watch.ts';

/** Tokens that open exactly the files of one service. */
export interface ServiceTokens {
  /** Issues one; those of earlier starts of this name are revoked. */
  issue(spec: ServiceSpec): Promise<string>;
  /** Idempotent. */
  revoke(name: string): Promise<void>;
}

export interface ServicesSetting extends Omit<ServiceSetting, 'fetchSeconds' | 'memoryBytes'> {
  readonly client: KubernetesClient;
  readonly serviceTokens: ServiceTokens;
  readonly readyWithinMs?: number;
  readonly serviceMemoryBytes?: number;
  readonly onWarn: (message: string) => void;
  /** Makes the namespace of a project. */
  readonly prepareProject: (project: string | undefined) => Promise<void>;
  /** Called when the namespace turns out to be missing. */
  readonly forgetProject: (project: string | undefined) => void;
}

export type KubernetesServices = Pick<Cluster, 'startService' | 'stopService'> & {
  /** Stops the services that this process started. */
  close(): Promise<void>;
};

/** Loading an image with Node and ONNX Runtime takes a minute or two; a gate has ten. */
const READY_WITHIN_MS = 240_000;
/** Gates stop their services after ten minutes; one this old has lost its worker. */
const LIFETIME_MS = 3_600_000;
const POLL_MS = 200;
/** Only the Deployment says why it has no pod, and it is not watched. */
const LOOK_MS = 2_000;
const ANSWER_MS = 2_000;
const NEVER = new AbortController().signal;

interface Served {
  readonly address: `http://${string}`;
  readonly ended: Promise<ServiceEnd>;
  readonly close: () => Promise<void>;
}

export function createKubernetesServices(given: ServicesSetting): KubernetesServices {
  const { client, installation, serviceTokens, onWarn } = given;
  const readyWithinMs = given.readyWithinMs ?? READY_WITHIN_MS;
  const fetchSeconds = Math.ceil(readyWithinMs / 1000);
  const setting: ServiceSetting = { ...given, fetchSeconds, memoryBytes: given.serviceMemoryBytes };
  const names = oneAtATime();
  const served = new Map<string, Served>();
  const sweeps = new Set<Promise<void>>();

  const find = async (labelSelector: string): Promise<readonly DeploymentFacts[]> => {
    const { items } = await listObjects(client, '/apis/apps/v1/deployments', { labelSelector });
    return items.flatMap((item) => readDeployment(item) ?? []);
  };

  const remove = (one: DeploymentFacts): Promise<void> =>
    removeOwner(client, { ...one, path: pathOf(one), pods: ofService(installation, one.name) });

  const revoke = (name: string): Promise<void> =>
    serviceTokens
      .revoke(name)
      .catch((error: unknown) => onWarn(`the token of service ${name} was not revoked: ${messageOf(error)}`));

  const stop = async (name: string): Promise<void> => {
    await served.get(name)?.close();
    served.delete(name);
    await Promise.all((await find(ofService(installation, name))).map(remove));
    await revoke(name);
  };

  /** Removes services whose worker ended without stopping them. */
  const sweep = async (): Promise<void> => {
    for (const one of await find(`${ofInstallation(installation)},${labels.service}`)) {
      if (!(Date.parse(one.until) < Date.now())) continue;
      onWarn(`service ${one.name} was left by a worker that ended, and is removed`);
      await remove(one);
      await revoke(one.name);
    }
  };
  const sweepBeside = (): void => {
    const sweeping = sweep()
      .catch((error: unknown) => onWarn(`services that were left are not removed yet: ${messageOf(error)}`))
      .finally(() => sweeps.delete(sweeping));
    sweeps.add(sweeping);
  };

  const create = async (spec: ServiceSpec, path: string, body: object): Promise<unknown> => {
    try {
      return await client.ask('POST', path, { body });
    } catch (error) {
      if (isRefused(error, 404)) given.forgetProject(spec.project);
      if (error instanceof Refused && error.status !== 404 && error.status !== 409)
        throw failure('InvalidInput', `service ${spec.name}: the cluster refuses it: ${error.message}`);
      throw error;
    }
  };

  /** Creates the Deployment; one of another worker under this name is removed first. */
  const createDeployment = async (spec: ServiceSpec, begun: ServiceStart): Promise<DeploymentFacts> => {
    const body = deploymentManifest(spec, setting, begun);
    for (;;)
      try {
        const made = await create(spec, `/apis/apps/v1/namespaces/${body.metadata.namespace}/deployments`, body);
        const facts = readDeployment(made);
        if (facts === undefined) throw new Error(`the cluster made no Deployment for service ${spec.name}`);
        return facts;
      } catch (error) {
        if (!isRefused(error, 409)) throw error;
        await Promise.all((await find(ofService(installation, spec.name))).map(remove));
      }
  };

  const start = async (spec: ServiceSpec, signal: AbortSignal): Promise<Served> => {
    await stop(spec.name);
    const begun = { id: randomBytes(4).toString('hex'), until: new Date(Date.now() + LIFETIME_MS).toISOString() };
    const namespace = namespaceName(installation, spec.project);
    const closing: (() => Promise<void>)[] = [];
    const close = async (): Promise<void> => {
      for (const one of closing.splice(0)) await one();
    };
    try {
      const deployment = await createDeployment(spec, begun);
      const { uid } = deployment;
      const token = await serviceTokens.issue(spec);
      const secret = serviceSecretManifest(spec, setting, begun, { uid, token });
      await create(spec, `/api/v1/namespaces/${namespace}/secrets`, secret);
      await create(spec, `/api/v1/namespaces/${namespace}/services`, serviceManifest(spec, setting, begun, uid));
      const watch = watchPods(client, namespace, `${ofInstallation(installation)},${labels.start}=${begun.id}`, onWarn);
      closing.push(watch.stop);
      const name = startName(spec, begun);
      const proxy = `/api/v1/namespaces/${namespace}/services/http:${name}:${servicePort}/proxy`;
      const inCluster = `http://${name}.${namespace}.svc:${servicePort}` as const;
      const isInside = client.ownNamespace !== undefined;
      const answers = isInside ? () => answersAt(inCluster) : () => answersThrough(client, proxy);
      await ready(spec, { deployment, watch, answers, signal });
      const ended = watch.until((pods) => {
        const standing = serviceStanding(pods, { memoryBytes: memoryOf(spec, setting) });
        return standing.phase === 'ended' ? endOf(spec, standing) : undefined;
      });
      if (isInside) return { address: inCluster, ended, close };
      const forwarder = await openForwarder(client, proxy, onWarn);
      closing.push(forwarder.close);
      return { address: forwarder.address, ended, close };
    } catch (error) {
      await close();
      await stop(spec.name).catch((after: unknown) =>
        onWarn(`service ${spec.name} is not removed yet: ${messageOf(after)}`),
      );
      throw error;
    }
  };

  const ready = async (
    spec: ServiceSpec,
    at: {
      readonly deployment: DeploymentFacts;
      readonly watch: PodWatch;
      readonly answers: () => Promise<boolean>;
      readonly signal: AbortSignal;
    },
  ): Promise<void> => {
    const memoryBytes = memoryOf(spec, setting);
    const until = Date.now() + readyWithinMs;
    const state: { hindrance?: string | undefined; lookAt: number } = { lookAt: Date.now() + LOOK_MS };
    for (;;) {
      at.signal.throwIfAborted();
      const pods = at.watch.pods();
      if (pods.length === 0 && Date.now() >= state.lookAt) {
        state.hindrance = await hindranceOf(at.deployment);
        state.lookAt = Date.now() + LOOK_MS;
      }
      const standing = serviceStanding(pods, { memoryBytes, hindrance: state.hindrance });
      if (standing.phase === 'ended') {
        const { killed, detail } = await endOf(spec, standing);
        // A killed service may succeed next time; a model that cannot be served never will.
        if (killed) throw new Error(`${detail}\nIt will be started again.`);
        throw failure('JobFailed', `not ready: ${detail}`);
      }
      if (standing.phase === 'ready' && (await at.answers())) return;
      if (Date.now() > until) throw await notReady(spec, standing, at.watch);
      await sleep(POLL_MS);
    }
  };

  /** What the cluster reported instead of making a pod. */
  const hindranceOf = async (deployment: DeploymentFacts): Promise<string | undefined> => {
    const now = await client.ask('GET', pathOf(deployment)).catch((error: unknown) => {
      if (isRefused(error, 404)) return undefined;
      throw error;
    });
    const facts = readDeployment(now);
    if (facts?.uid === deployment.uid) return facts.hindrance;
    throw failure('Conflict', `service ${deployment.name} was stopped: the same name was started again, or removed`);
  };

  const notReady = async (
    { name }: ServiceSpec,
    standing: Exclude<ServiceStanding, { phase: 'ended' }>,
    watch: PodWatch,
  ): Promise<ServiceNotReady> => {
    const [pod] = watch.pods();
    const isRunning = pod?.containers.some((one) => one.name === serveContainer && one.isRunning);
    const log = pod && isRunning ? await logOf(pod, serveContainer, false) : '';
    const isOfCluster = standing.phase === 'ready' || standing.isOfCluster;
    const why = standing.phase === 'ready' ? 'its pod is ready, but does not answer through the cluster' : standing.why;
    return new ServiceNotReady(
      `service ${name} was not ready within ${readyWithinMs / 1000} seconds: ${why}; last lines of its log:\n${log}`,
      { isOfCluster },
    );
  };

  const endOf = async (
    { name }: ServiceSpec,
    standing: Extract<ServiceStanding, { phase: 'ended' }>,
  ): Promise<ServiceEnd> => {
    const { log, killed } = standing;
    const text = log ? await logOf(log.pod, log.container, log.previous) : '';
    return { killed, detail: endedText(name, standing, text) };
  };

  const logOf = async (pod: Parameters<typeof readLog>[1], container: string, previous: boolean): Promise<string> => {
    const log = await readLog(client, pod, { container, previous }).catch(() => undefined);
    return log?.text.slice(-4_000) ?? '(its log is not available)';
  };

  return {
    async startService(spec, signal) {
      checkName(spec.name);
      servedFile(spec);
      if (spec.compute === 'gpu') throw failure('InvalidInput', `service ${spec.name}: services run on cpu`);
      await given.prepareProject(spec.project);
      sweepBeside();
      return names.run(`service ${spec.name}`, signal, async (stopped) => {
        const { close, ...rest } = await start(spec, stopped);
        served.set(spec.name, { ...rest, close });
        return rest;
      });
    },
    async stopService(name) {
      checkName(name);
      await names.run(`service ${name}`, NEVER, () => stop(name));
    },
    async close() {
      await names.close();
      const stopping = [...served.keys()].map((name) =>
        stop(name).catch((error: unknown) => onWarn(`service ${name} is not removed: ${messageOf(error)}`)),
      );
      await Promise.all([...stopping, ...sweeps]);
    },
  };
}

const pathOf = ({ namespace, object }: DeploymentFacts): string =>
  `/apis/apps/v1/namespaces/${namespace}/deployments/${object}`;

/** Whether the service answers under its name in the cluster. */
async function answersAt(address: string): Promise<boolean> {
  const asked = fetch(`${address}/v2/health/ready`, { signal: AbortSignal.timeout(ANSWER_MS) });
  return asked.then(({ status }) => status === 200).catch(() => false);
}

/** Whether the service answers through the API server. Rejects if the platform may not ask it. */
async function answersThrough(client: KubernetesClient, proxy: string): Promise<boolean> {
  try {
    await client.ask('GET', `${proxy}/v2/health/ready`);
    return true;
  } catch (error) {
    if (error instanceof SystemUnavailable && (error.code === '401' || error.code === '403')) throw error;
    return false;
  }
}
