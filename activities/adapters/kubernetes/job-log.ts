// The log of a job: the end of its container's output, with progress lines apart; read once, or followed while it runs.
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobProgress } from '../../ports.ts';
import { keepTail, parseProgress, splitLines } from '../local-process/program-log.ts';
import { Refused, type KubernetesClient } from './client.ts';
import { containers } from './job-manifests.ts';
import type { PodFacts } from './objects.ts';

export interface LogSoFar {
  /** The last 64 KiB. */
  readonly text: string;
  readonly progress?: JobProgress;
}

/** Lines to ask for: 64 KiB of short lines. Longer ones are read and dropped. */
const LINES = 8_000;
const ANSWER_MS = 30_000;
/** A program may say nothing for days: a lost connection is noticed by the pod's end, or after this. */
const SILENCE_MS = 3_600_000;
const PAUSE_MS = 2_000;

/** The log so far, of a job's pod or of the given container; undefined if the cluster does not have it (any more). */
export async function readLog(
  client: KubernetesClient,
  pod: PodFacts,
  of?: { readonly container: string; readonly previous: boolean },
): Promise<LogSoFar | undefined> {
  const { container, previous } = of ?? { container: spoken(pod), previous: undefined };
  if (container === undefined || pod.isGone) return undefined;
  const log = collect();
  try {
    const query = { container, previous, tailLines: LINES };
    for await (const chunk of await client.stream(pathOf(pod), query, { silenceMs: ANSWER_MS }))
      log.write(chunk as Buffer);
  } catch (error) {
    // The container has just started, or the pod has just gone.
    if (error instanceof Refused) return undefined;
    throw error;
  }
  const soFar = log.end();
  return isLost(soFar.text) ? undefined : soFar;
}

/** Follows the log of the program of a running pod until the signal aborts; `onProgress` is told each step. */
export function followLog(
  client: KubernetesClient,
  pod: PodFacts,
  onProgress: (progress: JobProgress) => void,
  signal: AbortSignal,
): { readonly soFar: () => LogSoFar } {
  const state = { log: collect(onProgress) };
  const follow = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        const query = { container: containers.run, tailLines: LINES, follow: true };
        const stream = await client.stream(pathOf(pod), query, { signal, silenceMs: SILENCE_MS });
        // The answer begins with what was said before.
        const log = collect(onProgress);
        for await (const chunk of stream) {
          if (isLost((chunk as Buffer).toString('utf8'))) break;
          log.write(chunk as Buffer);
          state.log = log;
        }
      } catch {
        // Its container's end, or an interruption: both are told by the watch of the pod.
      }
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
    }
  };
  void follow();
  return { soFar: () => state.log.soFar() };
}

/** What a node answers instead of a log that it has deleted. */
const isLost = (text: string): boolean => text.startsWith('unable to retrieve container logs for ');

const pathOf = ({ namespace, pod }: PodFacts): string => `/api/v1/namespaces/${namespace}/pods/${pod}/log`;

/** The container whose output is the job's log: the program's, or that of the step which failed before it. */
function spoken(pod: PodFacts): string | undefined {
  const has = (name: string): boolean =>
    pod.containers.some((one) => one.name === name && (one.isRunning || one.ended !== undefined));
  return [containers.run, containers.fetch].find(has);
}

function collect(onProgress: (progress: JobProgress) => void = () => undefined) {
  const tail = keepTail();
  const state: { progress?: JobProgress } = {};
  const lines = splitLines(
    (line) => {
      const progress = parseProgress(line);
      if (progress === undefined) return tail.push(Buffer.from(`${line}\n`));
      state.progress = progress;
      onProgress(progress);
    },
    () => false,
    tail.push,
  );
  const soFar = (): LogSoFar => ({ text: tail.text(), ...state });
  return {
    write: (chunk: Buffer) => lines.write(chunk),
    soFar,
    end: (): LogSoFar => {
      lines.end();
      return soFar();
    },
  };
}
