// The pods of one service as they are now, also after they are gone, and how they change.
import { labels } from './names.ts';
import type { KubernetesClient } from './client.ts';
import { readPod, type PodFacts } from './objects.ts';
import { followObjects } from './watch.ts';

export interface PodWatch {
  pods(): readonly PodFacts[];
  /** Resolves with the first answer that is not undefined. It is asked now and after each change, until the watch stops. */
  until<T>(ask: (pods: readonly PodFacts[]) => Promise<T> | undefined): Promise<T>;
  readonly stop: () => Promise<void>;
}

/** Watches the pods of services with these labels. */
export function watchPods(
  client: Pick<KubernetesClient, 'ask' | 'stream'>,
  namespace: string,
  labelSelector: string,
  onWarn: (message: string) => void,
): PodWatch {
  const abort = new AbortController();
  const known = new Map<string, PodFacts>();
  const askers = new Set<() => void>();
  const pods = (): readonly PodFacts[] => [...known.values()];
  const take = (object: unknown, isGone: boolean): void => {
    const pod = readPod(object, labels.service);
    if (pod !== undefined) known.set(pod.pod, { ...pod, isGone });
  };
  const tell = (): void => {
    for (const ask of [...askers]) ask();
  };
  const following = followObjects(
    client,
    `/api/v1/namespaces/${namespace}/pods`,
    labelSelector,
    {
      reset: (objects) => {
        for (const [name, pod] of known) known.set(name, { ...pod, isGone: true });
        for (const object of objects) take(object, false);
        tell();
      },
      changed: (object) => {
        take(object, false);
        tell();
      },
      deleted: (object) => {
        take(object, true);
        tell();
      },
      interrupted: (reason) => onWarn(`the watch of a service’s pod was interrupted and goes on: ${reason}`),
    },
    abort.signal,
  );
  return {
    pods,
    until: (ask) =>
      new Promise((resolve) => {
        const asker = (): void => {
          const answer = ask(pods());
          if (answer === undefined) return;
          askers.delete(asker);
          resolve(answer);
        };
        askers.add(asker);
        asker();
      }),
    stop: async () => {
      abort.abort();
      askers.clear();
      await following;
    },
  };
}
