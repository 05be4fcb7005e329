// The scientist's part: commits code and data, trains two models in parallel, tests them privately, submits them.
import {
  anySchema,
  commitSchema,
  type Evaluation,
  evaluationSchema,
  shownVersionSchema,
  type Version,
} from './answers.ts';
import { versionPageSchema } from './answers.ts';
import type { ApiClient } from './api-client.ts';
import { type Algorithm, algorithms, leftOut, model, modelType, privateSet, privateThresholds } from './case-study.ts';
import { project, readCode, readData, trainingSet } from './case-study.ts';
import type { Terminal } from './terminal.ts';

const TRAINED_WITHIN_MS = 900_000;
const EXPLAIN_AFTER_MS = 40_000;
const EVALUATED_WITHIN_MS = 300_000;

export type Candidate = { readonly algorithm: Algorithm; readonly version: Version };
export type Run = {
  /** Number of the demo's run on this home: part of every id, and the seed. */
  readonly number: number;
  readonly shuffleLabels: boolean;
};

export const submissionPath = (submission: string): string =>
  `/v1/projects/${project}/models/${model}/submissions/${submission}`;
export const readVersion = async (as: ApiClient, submission: string): Promise<Version> =>
  (await as.get(submissionPath(submission), shownVersionSchema)).version;

/** The next run's number: one more than the highest among the submissions. */
export async function nextRun(sam: ApiClient): Promise<number> {
  const used: number[] = [];
  let after = '';
  do {
    const page = await sam.get(`/v1/projects/${project}/versions?limit=500${after}`, versionPageSchema);
    used.push(...page.rows.map(({ submission }) => Number(/-(\d+)$/.exec(submission)?.[1] ?? 0)));
    after = page.next === undefined ? '' : `&after=${page.next}`;
  } while (after !== '');
  return Math.max(0, ...used) + 1;
}

/** Everything up to the submission; returns the submitted candidates. */
export async function playScientist(sam: ApiClient, terminal: Terminal, run: Run): Promise<readonly Candidate[]> {
  const commit = await terminal.step(
    'sam',
    'commits the training code and registers the data',
    () => provision(sam),
    (made) => `commit ${made.slice(0, 10)}; 14 projects, 2 of them (${leftOut}) held out as private test rows`,
  );
  const ids = algorithms.map((algorithm) => `${algorithm}-${run.number}`);
  const trained = await terminal.step(
    'sam',
    `trains ${ids.join(' and ')}${run.shuffleLabels ? ', with shuffled labels' : ''}`,
    (tell) => announced(train(sam, run, commit, tell), terminal),
    (versions) => versions.map(trainingTime).join(', '),
  );
  await terminal.step(
    'sam',
    'tests both privately on the 2 held-out training projects',
    (tell) => testPrivately(sam, trained, tell),
    (tests) => tests.map((test, i) => `${algorithms[i] ?? ''} ${privateVerdict(test)}`).join(', '),
  );
  if (run.shuffleLabels)
    terminal.say('               (and submits them anyway: the manager evaluates them on other projects)');
  return terminal.step(
    'sam',
    'submits both',
    () => Promise.all(trained.map((version, i) => submit(sam, version, algorithms[i] ?? 'svm'))),
    (candidates) => candidates.map(({ algorithm, version }) => `${algorithm} is version ${version.version}`).join(', '),
  );
}

async function provision(sam: ApiClient): Promise<string> {
  const message = 'train a vulnerability detector';
  const body = { branch: 'main', message, files: await readCode() };
  const { commit } = await sam.post(`/v1/projects/${project}/code/commits`, body, commitSchema);
  await register(sam, trainingSet, 'training', 'train.npz');
  await register(sam, privateSet, 'training', 'validation.jsonl.gz');
  return commit;
}

/** Uploads a committed file to the user's private area and registers it as a data set; idempotent. */
export async function register(as: ApiClient, dataset: string, kind: 'training' | 'test', name: string): Promise<void> {
  const path = `data/${name}`;
  await as.upload(`/v1/projects/${project}/files/private/${path}?replace=true`, await readData(name));
  const files = [{ name, area: 'private', path }];
  await as.post(`/v1/projects/${project}/datasets`, { dataset, kind, files }, anySchema);
}

/** Explains a wait that takes longer than a training. */
async function announced<T>(training: Promise<T>, terminal: Terminal): Promise<T> {
  const line = '               (a first run installs its Python packages, which takes a minute or more)';
  const timer = setTimeout(() => terminal.say(line), EXPLAIN_AFTER_MS);
  return training.finally(() => clearTimeout(timer));
}

async function train(sam: ApiClient, run: Run, commit: string, tell: (progress: string) => void): Promise<Version[]> {
  const states: string[] = [];
  return Promise.all(
    algorithms.map(async (algorithm, i) => {
      const submission = `${algorithm}-${run.number}`;
      const spec = {
        commit,
        entrypoint: 'train.py',
        lock: 'requirements.lock',
        data: [trainingSet],
        parameters: { model: algorithm, shuffle_labels: run.shuffleLabels, leave_out: leftOut },
        // A different seed per run: identical bytes would be the version of an earlier run that is still open.
        seed: run.number,
      };
      await sam.post(
        `/v1/projects/${project}/models/${model}/submissions`,
        { submission, type: modelType, from: { run: spec } },
        anySchema,
      );
      const ask = async () => {
        const version = await readVersion(sam, submission);
        states[i] = `${algorithm} ${version.state}`;
        tell(states.filter(Boolean).join(', '));
        return version;
      };
      const done = ({ state }: Version) => state !== 'provisioning' && state !== 'training';
      const version = await sam.until(`training ${submission}`, ask, done, TRAINED_WITHIN_MS);
      if (version.state !== 'trained') throw new Error(`${submission} is ${version.state}: ${version.detail}`);
      return version;
    }),
  );
}

async function testPrivately(
  sam: ApiClient,
  trained: readonly Version[],
  tell: (progress: string) => void,
): Promise<readonly Evaluation[]> {
  return Promise.all(
    trained.map(({ submission }) =>
      evaluate(sam, { submission, dataset: privateSet, thresholds: privateThresholds }, tell),
    ),
  );
}

/** Runs one evaluation to its end. Without thresholds, those of the project's policy apply. */
export async function evaluate(
  as: ApiClient,
  asked: {
    readonly submission: string;
    readonly dataset: string;
    readonly thresholds?: Readonly<Record<string, number>>;
  },
  tell: (progress: string) => void,
): Promise<Evaluation> {
  const { submission, dataset, thresholds } = asked;
  const evaluation = `${submission}-by-${as.who}`;
  const body = { evaluation, model, dataset, subject: { submission }, ...(thresholds && { thresholds }) };
  await as.post(`/v1/projects/${project}/evaluations`, body, anySchema);
  const ask = () => as.get(`/v1/projects/${project}/evaluations/${evaluation}`, evaluationSchema);
  const ended = await as.until(
    `evaluation ${evaluation}`,
    ask,
    ({ state }) => state !== 'running',
    EVALUATED_WITHIN_MS,
  );
  if (ended.state === 'failed') throw new Error(`evaluation ${evaluation} failed: ${ended.detail}`);
  tell(`${submission} done`);
  return ended;
}

async function submit(sam: ApiClient, { submission }: Version, algorithm: Algorithm): Promise<Candidate> {
  const { revision } = await readVersion(sam, submission);
  await sam.command(`${submissionPath(submission)}/commands`, { name: 'submit', revision });
  const ask = () => readVersion(sam, submission);
  const version = await sam.until(
    `submitting ${submission}`,
    ask,
    ({ state }) => state !== 'validating',
    TRAINED_WITHIN_MS,
  );
  if (version.state !== 'new') throw new Error(`${submission} is ${version.state}: ${version.detail}`);
  return { algorithm, version };
}

function trainingTime({ submission, run }: Version): string {
  const ms = run === null ? 0 : Date.parse(run.endedAt) - Date.parse(run.startedAt);
  return `${submission} in ${(ms / 1000).toFixed(0)} s`;
}

const privateVerdict = ({ metrics, passed }: Evaluation): string =>
  `AUC ${metrics['roc_auc']?.toFixed(3) ?? 'none'} (${passed === true ? 'enough' : 'too low'})`;
