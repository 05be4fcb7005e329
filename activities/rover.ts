// Rover (paper 4.2): provisions compute and data, trains, and runs models over data sets.
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import type { Evaluation, NamedArtifact, RunRecord, Version } from '../workflows/domain/model.ts';
import type { Digest, Location } from '../workflows/domain/names.ts';
import { stagingFolder } from '../workflows/domain/names.ts';
import type { EvaluationInput, TrainingRunInput } from '../workflows/messages.ts';
import { EVALUATION_SECONDS } from '../workflows/messages.ts';
import { failure, isFinal } from './failures.ts';
import { beating } from './heartbeat.ts';
import { sharedName } from './input-names.ts';
import type { JobDeps, JobEnd } from './jobs.ts';
import { createJobRunner, failureOf } from './jobs.ts';
import { mustHave } from './model-center.ts';
import { storePath } from './place.ts';
import type { ArtifactStore, Cluster, CodeHost } from './ports.ts';
import { openResults, readMetrics, readReport } from './run-results.ts';

export type RoverActivities = ReturnType<typeof createRoverActivities>;

export interface ProvisionedRun {
  readonly inputs: readonly NamedArtifact[];
  readonly code: NamedArtifact;
  /** SHA-256 of the environment's lock. */
  readonly environment: Digest;
  readonly startedAt: string;
}

type Watch = Parameters<Cluster['runJob']>[1];

export interface PreparedEvaluation {
  readonly digest: Digest;
  readonly inputs: readonly NamedArtifact[];
  /** Where the report goes. */
  readonly report: Location;
}

type TrainingInput = TrainingRunInput & { readonly provisioned: ProvisionedRun };
type EvaluatingInput = EvaluationInput & { readonly prepared: PreparedEvaluation };
type Evaluated = Pick<Evaluation, 'digest' | 'report' | 'passed' | 'metrics'>;

export function createRoverActivities(
  deps: JobDeps & {
    areas: ArtifactStore;
    releases: ArtifactStore;
    code: CodeHost;
    /** Text of the lock of the platform's own Python environment. */
    platformLock: string;
  },
) {
  const { records, areas, releases, code } = deps;
  const runJob = createJobRunner(deps);
  const results = openResults(areas);

  return {
    /** Resolves everything a run is made from to bytes with digests: commit, environment lock, data. */
    async provisionRun(input: TrainingRunInput): Promise<ProvisionedRun> {
      return beating((signal) => provision(input, signal));
    },

    /** Trains: runs the job to its end. Its outputs lie in the author's area then; {@link collectRun} makes the record of them. */
    async runTraining(input: TrainingInput): Promise<JobEnd> {
      return beating((signal, report) => train(input, { signal, onProgress: report }));
    },

    /** Keeps the log of a run that has ended, and makes its record. Only reads and writes: it may be done as often as it takes. */
    async collectRun(input: TrainingInput & { ended: JobEnd }): Promise<RunRecord> {
      return beating((signal) => collectRun(input, signal));
    },

    /** Both in one, as runs of earlier versions of the platform ask for it. */
    async trainModel(input: TrainingInput): Promise<RunRecord> {
      return beating(async (signal, report) => {
        const ended = await train(input, { signal, onProgress: report });
        return untilDone(() => collectRun({ ...input, ended }, signal), signal, report);
      });
    },

    /** Finds the exact bytes an evaluation is about: the model's, the rows', and the live version's to compare with. */
    async prepareEvaluation(input: EvaluationInput): Promise<PreparedEvaluation> {
      return beating((signal) => prepare(input, signal));
    },

    /** Runs the model over the rows in the sandbox. Its report lies where it should then; {@link collectReport} reads it. */
    async runEvaluation(input: EvaluatingInput): Promise<JobEnd> {
      return beating((signal, report) => evaluate(input, { signal, onProgress: report }));
    },

    /** Reads the report of an evaluation that has ended, or keeps the log of a failed one beside where it would be. */
    async collectReport(input: EvaluatingInput & { ended: JobEnd }): Promise<Evaluated> {
      return beating((signal) => collectReport(input, signal));
    },

    /** Both in one, as evaluations of earlier versions of the platform ask for it. */
    async evaluateModel(input: EvaluatingInput): Promise<Evaluated> {
      return beating(async (signal, report) => {
        const ended = await evaluate(input, { signal, onProgress: report });
        return untilDone(() => collectReport({ ...input, ended }, signal), signal, report);
      });
    },

    /** Who asked for the end of an evaluation through the API; `null` when Temporal itself was asked. */
    async readCanceller(input: Pick<EvaluationInput, 'project' | 'evaluation'>): Promise<{ by: string | null }> {
      const subject = `${input.project}/evaluations/${input.evaluation}`;
      const { rows } = await records.audit({ project: input.project, subject, limit: 100 });
      return { by: rows.find(({ entry }) => entry.kind === 'evaluation.cancel')?.entry.actor ?? null };
    },
  };

  async function provision(input: TrainingRunInput, signal: AbortSignal): Promise<ProvisionedRun> {
    const { project, submission, attempt, author, spec } = input;
    const { repository, commit } = spec.code;
    const lock = await readLock(input);
    if (!(await code.read(repository, commit, spec.entrypoint)))
      throw failure('InvalidInput', `${spec.entrypoint} is not in ${repository} at ${commit}`);
    const tree = storePath({
      area: 'private',
      project,
      user: author,
      path: `${runFolder(submission, attempt)}/code.tar`,
    });
    const archived = await areas.write(tree, await code.archive(repository, commit), { signal });
    const inputs: NamedArtifact[] = [];
    for (const name of spec.data)
      inputs.push(...(await mustHave(records.dataSet(project, name), `data set ${name} in project ${project}`)).files);
    const shared = sharedName([...inputs, { name: 'code.tar', unpack: true }]);
    if (shared !== undefined)
      throw failure(
        'InvalidInput',
        `two inputs of the run would lie at ${shared}: rename one in its data set (the code lies at code)`,
      );
    return {
      inputs,
      code: { ...archived, name: 'code.tar' },
      environment: digestOf(lock),
      startedAt: new Date().toISOString(),
    };
  }

  function train(input: TrainingInput, watch: Watch): Promise<JobEnd> {
    const { spec, provisioned } = input;
    return readLock(input).then((lock) =>
      runJob(
        {
          inputs: [...provisioned.inputs, { ...provisioned.code, unpack: true }],
          outputs: RUN_OUTPUTS.map((name) => ({ name, required: true, location: inRun(input, name) })),
          argv: ['python', '-m', 'ocdl.run', 'code', spec.entrypoint],
          lock,
          parameters: { ...spec.parameters, seed: spec.seed },
          compute: spec.compute,
          deadlineSeconds: spec.deadlineSeconds,
        },
        watch,
      ),
    );
  }

  async function collectRun(input: TrainingInput & { ended: JobEnd }, signal: AbortSignal): Promise<RunRecord> {
    const { attempt, spec, provisioned, ended } = input;
    const at = inRun(input, 'log.txt');
    if (ended.status === 'failed') throw failureOf(ended, await keepLog(at, ended.log, signal));
    const { metrics, notes } = readMetrics(await results.textAt(inRun(input, 'metrics.json'), signal));
    const outputs: NamedArtifact[] = [];
    for (const name of RUN_OUTPUTS) outputs.push({ ...(await results.artifactAt(inRun(input, name), signal)), name });
    const kept = await results.keep(at, [ended.log.trimEnd(), ...notes, ''].join('\n'), signal);
    return {
      attempt,
      spec,
      inputs: [...provisioned.inputs, provisioned.code],
      environment: provisioned.environment,
      outputs,
      metrics,
      log: { ...kept, name: 'log.txt' },
      startedAt: provisioned.startedAt,
      endedAt: new Date().toISOString(),
    };
  }

  /** Keeps a failed job's log and says where it lies. A store that stays unavailable does not hold up why the job failed. */
  async function keepLog(location: Location, log: string, signal: AbortSignal): Promise<string> {
    try {
      await results.keep(location, log, signal);
      const owner = location.area === 'private' ? `${location.user}'s private area` : `${location.area} area`;
      return `its log: ${location.path} in ${owner}`;
    } catch (error) {
      signal.throwIfAborted();
      if (!isFinal(error) && tries() < LOG_TRIES) throw error;
      return `its log could not be kept: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  async function prepare(input: EvaluationInput, signal: AbortSignal): Promise<PreparedEvaluation> {
    const { project, model, actor, dataset, subject, evaluation } = input;
    const set = await mustHave(records.dataSet(project, dataset), `data set ${dataset} in project ${project}`);
    const rows = set.files[0];
    if (set.files.length !== 1 || !rows || !/\.jsonl(\.gz)?$/.test(rows.name))
      throw failure(
        'InvalidInput',
        `data set ${dataset} has no labelled rows: an evaluation needs one file *.jsonl or *.jsonl.gz`,
      );
    const version =
      'submission' in subject
        ? await mustHave(records.version(project, model, subject.submission), `version ${model}/${subject.submission}`)
        : undefined;
    const staged = version && version.files.length > 0;
    const directory =
      'directory' in subject
        ? subject.directory
        : `${runFolder(version?.submission ?? '', version?.run?.attempt ?? 1)}`;
    const files = staged
      ? version.files.filter(({ name }) => name === 'model.onnx' || name === 'model.json')
      : await Promise.all(
          ['model.onnx', 'model.json'].map(async (name) => ({
            ...(await results.artifactAt(
              { area: 'private', project, user: actor, path: `${directory}/${name}` },
              signal,
            )),
            name,
          })),
        );
    const bytes = files.find(({ name }) => name === 'model.onnx');
    if (!bytes) throw failure('NotFound', `${model} has no model.onnx`);
    const report: Location = staged
      ? { area: 'staging', project, path: `${stagingFolder(model, version.submission)}/reports/${evaluation}.json` }
      : { area: 'private', project, user: actor, path: `${directory}/reports/${evaluation}.json` };
    const name = rows.name.endsWith('.gz') ? 'test.jsonl.gz' : 'test.jsonl';
    const baseline = version ? await liveVersion(version) : [];
    return { digest: bytes.sha256, inputs: [...files, { ...rows, name }, ...baseline], report };
  }

  function evaluate(input: EvaluatingInput, watch: Watch): Promise<JobEnd> {
    const { prepared, thresholds, deadlineSeconds = EVALUATION_SECONDS } = input;
    return runJob(
      {
        inputs: prepared.inputs,
        outputs: [{ name: 'report.json', required: true, location: prepared.report }],
        argv: ['python', '-m', 'ocdl.evaluate'],
        lock: deps.platformLock,
        parameters: { thresholds, seed: 0 },
        compute: 'cpu',
        deadlineSeconds,
      },
      watch,
    );
  }

  async function collectReport(input: EvaluatingInput & { ended: JobEnd }, signal: AbortSignal): Promise<Evaluated> {
    const { digest, report: at } = input.prepared;
    if (input.ended.status === 'failed') {
      const beside = { ...at, path: `${at.path.replace(/\.json$/, '')}.log.txt` };
      throw failureOf(input.ended, await keepLog(beside, input.ended.log, signal));
    }
    const { passed, metrics } = readReport(await results.textAt(at, signal), digest);
    return { digest, report: { ...(await results.artifactAt(at, signal)), name: 'report.json' }, passed, metrics };
  }

  async function readLock({ spec }: TrainingRunInput): Promise<string> {
    const { repository, commit } = spec.code;
    const bytes = await code.read(repository, commit, spec.lock);
    if (!bytes)
      throw failure('InvalidInput', `the environment's lock ${spec.lock} is not in ${repository} at ${commit}`);
    return Buffer.from(bytes).toString('utf8');
  }

  /** Files of the version that is live somewhere for this type, as `baseline.*`; none when nothing else is live. */
  async function liveVersion({ type, digest }: Version): Promise<NamedArtifact[]> {
    for (const { application } of await records.applications({ type })) {
      const { release } = await records.livePointer(application, type);
      const live = release ? await records.release(release) : undefined;
      if (!live || live.digest === digest) continue;
      return live.files.flatMap((file) => {
        const name =
          file.name === 'model.onnx' ? 'baseline.onnx' : file.name === 'model.json' ? 'baseline.json' : undefined;
        return name && releases.path(file.uri) ? [{ ...file, name }] : [];
      });
    }
    return [];
  }
}

/** What a run leaves: the submission, and the figures that its author looks at. */
const RUN_OUTPUTS = ['model.onnx', 'model.json', 'golden.json', 'metrics.json'] as const;
/** About three minutes of tries to keep the log of a job that failed anyway. */
const LOG_TRIES = 10;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

/** Which try of the activity this is. */
const tries = (): number => Context.current().info.attempt;

const inRun = ({ project, author, submission, attempt }: TrainingRunInput, file: string): Location => ({
  ...{ area: 'private', project, user: author },
  path: `${runFolder(submission, attempt)}/${file}`,
});

/** Does again, within the activity, what fails and may pass: to try the activity again would run its job again. */
async function untilDone<R>(
  work: () => Promise<R>,
  signal: AbortSignal,
  report: (progress: unknown) => void,
): Promise<R> {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS))
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      if (isFinal(error)) throw error;
      report({ waits: error instanceof Error ? error.message : String(error) });
      await sleep(pause, undefined, { signal });
    }
}

/** Where a run's outputs lie in its author's private area. */
export const runFolder = (submission: string, attempt: number): string => `runs/${submission}-${attempt}`;

const digestOf = (text: string): Digest => createHash('sha256').update(text).digest('hex') as Digest;
