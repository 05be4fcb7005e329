// Tells how all jobs of an installation change: one watch of Jobs, one of pods, and the log of each program that runs.
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobProgress, JobState } from '../../ports.ts';
import type { KubernetesClient } from './client.ts';
import { followLog, readLog, type LogSoFar } from './job-log.ts';
import { containers } from './job-manifests.ts';
import { ofInstallation } from './names.ts';
import { readJob, readPod, type JobFacts, type PodFacts } from './objects.ts';
import { outcomeOf, standingOf, type Standing } from './standing.ts';
import { followObjects } from './watch.ts';

export const jobsPath = '/apis/batch/v1/jobs';
export const podsPath = '/api/v1/pods';

/** A job without a pod is looked at again after this time: only events say why, and they are not watched. */
const LOOK_MS = 5_000;

interface Followed {
  job?: JobFacts | undefined;
  pod?: PodFacts | undefined;
  log?: { readonly soFar: () => LogSoFar; readonly stop: () => void; readonly pod: string } | undefined;
  progress?: JobProgress | undefined;
  /** The last state that was told. */
  told?: string;
  /** The Job whose end was told: its pod may be removed later, and its log with it. */
  endTold?: string | undefined;
  /** Tells one state after another. */
  turn: Promise<void>;
}

export interface WatchSetting {
  readonly client: KubernetesClient;
  readonly installation: string;
  readonly hindranceOf: (job: JobFacts) => Promise<string | undefined>;
  readonly onWarn: (message: string) => void;
  readonly silenceMs?: number | undefined;
}

/** Calls `onChange` for every job, and for every change, until the signal aborts. */
export async function watchAllJobs(
  setting: WatchSetting,
  onChange: (name: string, state: JobState) => void,
  signal: AbortSignal,
): Promise<void> {
  const { client, onWarn } = setting;
  const all = new Map<string, Followed>();
  /** Without one of the lists, every job would look as if it had no pod. */
  const listed = { jobs: false, pods: false };
  const keyOf = (namespace: string, object: string): string => `${namespace}/${object}`;
  const at = (key: string): Followed => {
    const found = all.get(key) ?? { turn: Promise.resolve() };
    all.set(key, found);
    return found;
  };

  const look = (key: string): void => {
    const followed = at(key);
    if (!listed.jobs || !listed.pods) return;
    // After an error, the next look tells the state.
    followed.turn = followed.turn.then(() => tell(key, followed)).catch((error: unknown) => onWarn(String(error)));
  };

  const tell = async (key: string, followed: Followed): Promise<void> => {
    const { job, pod } = followed;
    if (signal.aborted || (job === undefined && followed.told === undefined)) return;
    const hindrance = job && pod === undefined ? await setting.hindranceOf(job) : undefined;
    const standing = standingOf(job, pod, hindrance);
    if (standing.phase === 'ended' && followed.endTold === job?.uid) return;
    followProgram(followed, standing, () => look(key));
    const state = await stateOf(client, standing, followed);
    const name = job?.name ?? followed.told?.split(' ')[0] ?? '';
    const told = `${name} ${JSON.stringify(state)}`;
    if (told !== followed.told && !signal.aborted) onChange(name, state);
    followed.told = told;
    followed.endTold = standing.phase === 'ended' ? job?.uid : undefined;
    if (standing.phase === 'missing') all.delete(key);
  };

  const followProgram = (followed: Followed, standing: Standing, onProgress: () => void): void => {
    const { pod } = followed;
    const runs =
      standing.phase === 'running' && pod?.containers.some((one) => one.name === containers.run && one.isRunning);
    if (followed.log?.pod === pod?.pod && (runs || followed.log === undefined)) return;
    if (!runs || pod === undefined) return void followed.log?.stop();
    followed.log?.stop();
    const abort = new AbortController();
    const keep = (progress: JobProgress): void => {
      followed.progress = progress;
      onProgress();
    };
    const { soFar } = followLog(client, pod, keep, AbortSignal.any([signal, abort.signal]));
    followed.log = { soFar, stop: () => abort.abort(), pod: pod.pod };
  };

  const jobs = followObjects(
    client,
    jobsPath,
    ofInstallation(setting.installation),
    {
      reset: (objects) => {
        const now = new Map(objects.flatMap((object) => entryOf(readJob(object))));
        for (const [key, followed] of all) followed.job = now.get(key);
        for (const [key, job] of now) at(key).job = job;
        listed.jobs = true;
        for (const key of all.keys()) look(key);
      },
      changed: (object) => {
        for (const [key, job] of entryOf(readJob(object))) {
          at(key).job = job;
          look(key);
        }
      },
      deleted: (object) => {
        for (const [key, job] of entryOf(readJob(object))) {
          // Another one of this name may exist already.
          if (at(key).job?.uid === job.uid) at(key).job = undefined;
          look(key);
        }
      },
      interrupted: (reason) => onWarn(`the watch of jobs was interrupted and goes on: ${reason}`),
    },
    signal,
    setting.silenceMs,
  );
  const take = (pod: PodFacts | undefined, isGone: boolean): void => {
    if (pod === undefined) return;
    const key = keyOf(pod.namespace, pod.job);
    // A job that was removed leaves its pod's last events behind.
    if (isGone && !all.has(key)) return;
    if (isGone && at(key).pod?.pod !== pod.pod) return;
    at(key).pod = { ...pod, isGone };
    look(key);
  };
  const pods = followObjects(
    client,
    podsPath,
    ofInstallation(setting.installation),
    {
      reset: (objects) => {
        const there = new Set<string>();
        listed.pods = true;
        for (const object of objects) {
          const pod = readPod(object);
          if (pod) there.add(pod.pod);
          take(pod, false);
        }
        for (const [key, followed] of all) {
          if (followed.pod && !there.has(followed.pod.pod)) followed.pod = { ...followed.pod, isGone: true };
          look(key);
        }
      },
      changed: (object) => take(readPod(object), false),
      deleted: (object) => take(readPod(object), true),
      interrupted: (reason) => onWarn(`the watch of pods was interrupted and goes on: ${reason}`),
    },
    signal,
    setting.silenceMs,
  );
  const again = async (): Promise<void> => {
    while (!signal.aborted) {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
      for (const [key, { job, pod }] of all) if (job && pod === undefined && job.finished === undefined) look(key);
    }
  };
  await Promise.all([jobs, pods, again()]);

  function entryOf(job: JobFacts | undefined): (readonly [string, JobFacts])[] {
    return job === undefined ? [] : [[keyOf(job.namespace, job.object), job]];
  }
}

async function stateOf(client: KubernetesClient, standing: Standing, followed: Followed): Promise<JobState> {
  const { pod, progress } = followed;
  if (standing.phase === 'running') return { phase: 'running', ...(progress && { progress }) };
  if (standing.phase !== 'ended') return standing;
  const log = (pod && (await readLog(client, pod))) ?? followed.log?.soFar();
  return { phase: 'ended', outcome: outcomeOf(standing, log?.text ?? '') };
}
