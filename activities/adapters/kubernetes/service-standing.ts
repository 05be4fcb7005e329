// How a model service stands, judged from its pods: pure rules, with the reasons in words for a person.
import { containers } from './job-manifests.ts';
import type { EndFacts, PodFacts } from './objects.ts';
import { serveContainer } from './service-manifests.ts';
import { disruptions, hinderedBy, isImageMissing, resultOf, STARTING, whyWaiting } from './standing.ts';

export type ServiceStanding =
  | { readonly phase: 'ready' }
  /** `isOfCluster`: what hinders it is not the model's fault. */
  | { readonly phase: 'waiting'; readonly why: string; readonly isOfCluster: boolean }
  | {
      readonly phase: 'ended';
      /** From outside, so that another attempt may succeed. */
      readonly killed: boolean;
      /** Completes "service NAME …". */
      readonly how: string;
      readonly status: number | undefined;
      /** Whose log tells more; undefined if there is none. */
      readonly log: { readonly pod: PodFacts; readonly container: string; readonly previous: boolean } | undefined;
    };

type Ended = Extract<ServiceStanding, { phase: 'ended' }>;

/** Judges a service by its pods, those that are gone included. `hindrance` is what the cluster reported instead of making one. */
export function serviceStanding(
  pods: readonly PodFacts[],
  given: { readonly memoryBytes: number; readonly hindrance?: string | undefined },
): ServiceStanding {
  const each = pods.map((pod) => podStanding(pod, given.memoryBytes));
  const [waiting] = each.filter(({ phase }) => phase === 'waiting');
  return (
    each.find(({ phase }) => phase === 'ready') ??
    // A replacement of a pod that has ended is never the service that was started.
    each.find(({ phase }) => phase === 'ended') ??
    waiting ??
    clusterWaits(given.hindrance ? hinderedBy(given.hindrance) : STARTING)
  );
}

/** What happened to a service that has ended, with the last lines of its log. */
export const endedText = (name: string, { how, status }: Ended, log: string): string =>
  `service ${name} ${how} (status ${status ?? 'none'}); last lines of its log:\n${log.slice(-4_000)}`;

const clusterWaits = (why: string): ServiceStanding => ({ phase: 'waiting', why, isOfCluster: true });

function podStanding(pod: PodFacts, memoryBytes: number): ServiceStanding {
  const of = (name: string) => pod.containers.find((one) => one.name === name);
  const serve = of(serveContainer);
  const fetch = of(containers.fetch);
  const log = { pod, container: serveContainer, previous: serve?.before !== undefined };
  const outside = outsideReason(pod);
  if (outside !== undefined)
    return { phase: 'ended', killed: true, how: `was killed from outside: ${outside}`, status: undefined, log };
  const ended = serve?.before ?? serve?.ended;
  if (ended !== undefined) return serveStanding(ended, memoryBytes, log);
  if (pod.isReady) return { phase: 'ready' };
  const failedFetch = [fetch?.before, fetch?.ended].find((one) => one !== undefined && one.exitCode !== 0);
  if (failedFetch !== undefined) {
    const fetchLog = { pod, container: containers.fetch, previous: fetch?.before !== undefined };
    return fetchStanding(failedFetch, fetchLog);
  }
  if (fetch?.isRunning) return clusterWaits('its pod fetches the model’s files from the API');
  if (serve?.isRunning) return { phase: 'waiting', why: 'it loads its model', isOfCluster: false };
  return clusterWaits(whyWaiting(withImage(pod)));
}

function serveStanding(
  { exitCode, reason, message }: EndFacts,
  memoryBytes: number,
  log: Ended['log'],
): ServiceStanding {
  if (['StartError', 'ContainerCannotRun', 'CreateContainerError'].includes(reason))
    return clusterWaits(`its container does not start: ${message}`);
  const ended = { phase: 'ended', status: exitCode, log } as const;
  if (reason === 'OOMKilled')
    return { ...ended, killed: false, how: `needed more memory than its limit of ${memoryBytes} bytes` };
  if (exitCode === 137 || exitCode === 143) return { ...ended, killed: true, how: 'was killed from outside' };
  return { ...ended, killed: false, how: 'exited on its own' };
}

/** Files that are not what was recorded stay so; an API that does not answer may answer later. */
function fetchStanding({ exitCode, reason, message }: EndFacts, log: Ended['log']): ServiceStanding {
  const result = resultOf(message);
  if (result?.status === 'failed' && result.reason === 'inputs')
    return { phase: 'ended', killed: false, how: 'did not get its files as they were recorded', status: exitCode, log };
  return clusterWaits(`its pod cannot fetch the model’s files from the API (${reason}, status ${exitCode})`);
}

function outsideReason(pod: PodFacts): string | undefined {
  const { reason, message, disruption = '' } = pod;
  if (reason === 'Evicted' || reason === 'EvictedByKubelet') return `its machine ended it: ${message}`;
  const disrupted = disruptions[disruption] ?? disruptions[reason];
  if (disrupted !== undefined) return disrupted;
  if (pod.isGone || pod.isBeingRemoved) return 'its pod was deleted on the cluster, by a person or another program';
  return pod.phase === 'Failed' ? `its pod failed: ${reason} ${message}`.trimEnd() : undefined;
}

/** A pod has two images; the message of the container names the one that is missing. */
const withImage = (pod: PodFacts): PodFacts => {
  const missing = pod.containers.find(isImageMissing);
  return missing?.image === undefined ? pod : { ...pod, image: missing.image };
};
