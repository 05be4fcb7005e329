// Rover (paper 4.2): provisions compute and data, trains models, and evaluates them on data sets.
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import type { Evaluation, NamedArtifact, RunRecord, Version } from '../workflows/domain/model.ts';
import type { Digest, Location } from '../workflows/domain/names.ts';
import { stagingFolder } from '../workflows/domain/names.ts';
import type { EvaluationInput, TrainingRunInput } from '../workflows/messages.ts';
import { EVALUATION_SECONDS } from '../workflows/messages.ts';
import { failure, isFinal } from './failures.ts';
import { beating, currentWorkflow, ofWorkflow } from './heartbeat.ts';
import { sharedName } from './input-names.ts';
import type { Job, JobDeps, JobEnd } from './jobs.ts';
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
  /** Destination of the report. */
  readonly report: Location;
}

type TrainingInput = TrainingRunInput & { readonly provisioned: ProvisionedRun };
type EvaluatingInput = EvaluationInput & { readonly prepared: PreparedEvaluation };

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
    /** Resolves all inputs of a run to bytes with digests: commit, environment lock, data. */
    async provisionRun(input: TrainingRunInput): Promise<ProvisionedRun> {
      const provisioned = await beating((signal) => provision(input, signal));
      await records.recordStep(currentWorkflow(), 'prepared', provisioned);
      return provisioned;
    },

    /** Runs the training job to completion. Its outputs are then in the author's area; {@link collectRun} records them. */
    async runTraining(input: TrainingInput): Promise<void> {
      await beating(async (signal, report) => train(await provisionedFor(input), { signal, onProgress: report }));
    },

    /**
     * Stores the log of a run that has ended, and records the run. Only reads and writes, so it may be retried any number
     * of times.
     */
    async collectRun(input: TrainingInput): Promise<RunRecord> {
      return beating(async (signal) => collectRun(await provisionedFor(input), signal));
    },

    /** Training and collecting in one activity, for runs started by earlier versions of the platform. */
    async trainModel(input: TrainingInput): Promise<RunRecord> {
      return beating(async (signal, report) => {
        const known = await provisionedFor(input);
        await train(known, { signal, onProgress: report });
        return untilDone(() => collectRun(known, signal), signal, report);
      });
    },

    /** Resolves the exact bytes for an evaluation: the model, the rows, and the live version to compare with. */
    async prepareEvaluation(input: EvaluationInput): Promise<PreparedEvaluation> {
      const prepared = await beating((signal) => prepare(input, signal));
      await records.recordStep(currentWorkflow(), 'prepared', prepared);
      return prepared;
    },

    /** Runs the model over the rows in the sandbox and stores the report; {@link collectReport} reads it. */
    async runEvaluation(input: EvaluatingInput): Promise<void> {
      await beating(async (signal, report) => evaluate(await preparedFor(input), { signal, onProgress: report }));
    },

    /**
     * Reads and records the report of an evaluation that has ended; for a failed one, stores the log beside the report's
     * path.
     */
    async collectReport(input: EvaluatingInput): Promise<Evaluation> {
      return beating(async (signal) => collectReport(await preparedFor(input), signal));
    },

    /** Evaluating and collecting in one activity, for evaluations started by earlier versions of the platform. */
    async evaluateModel(input: EvaluatingInput): Promise<Evaluation> {
      return beating(async (signal, report) => {
        const known = await preparedFor(input);
        await evaluate(known, { signal, onProgress: report });
        return untilDone(() => collectReport(known, signal), signal, report);
      });
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

  async function train(input: TrainingInput, watch: Watch): Promise<void> {
    const { spec, provisioned } = input;
    await runRecorded(
      {
        inputs: [...provisioned.inputs, { ...provisioned.code, unpack: true }],
        outputs: RUN_OUTPUTS.map((name) => ({ name, required: true, location: inRun(input, name) })),
        argv: ['python', '-m', 'ocdl.run', 'code', spec.entrypoint],
        lock: await readLock(input),
        parameters: { ...spec.parameters, seed: spec.seed },
        compute: spec.compute,
        deadlineSeconds: spec.deadlineSeconds,
      },
      watch,
      inRun(input, 'log.txt'),
    );
  }

  /** What was provisioned, from the record. The workflow's copy is not trusted. */
  async function provisionedFor(input: TrainingInput): Promise<TrainingInput> {
    const provisioned = await records.step<ProvisionedRun>(currentWorkflow(), 'prepared');
    return provisioned ? { ...input, provisioned } : onlyEarlier(input);
  }

  /** The same for an evaluation. */
  async function preparedFor(input: EvaluatingInput): Promise<EvaluatingInput> {
    const prepared = await records.step<PreparedEvaluation>(currentWorkflow(), 'prepared');
    return prepared ? { ...input, prepared } : onlyEarlier(input);
  }

  /**
   * Accepts the input of a workflow from before its steps were recorded. Any other workflow without a recorded step is
   * refused.
   */
  async function onlyEarlier<Input>(input: Input): Promise<Input> {
    if ((await records.start(currentWorkflow()))?.broughtOver) return input;
    throw failure('NotAuthorized', `${currentWorkflow()} has prepared nothing: there is nothing to run`);
  }

  /** Runs a job and records how it ended. If it is interrupted, stores the log so far, because no later step does. */
  async function runRecorded(job: Job, watch: Watch, log: Location): Promise<void> {
    const said = { text: '' };
    const onLog = (line: string): void => {
      said.text += `${line}\n`;
      if (said.text.length > 2 * LOG_KEPT) said.text = said.text.slice(-LOG_KEPT);
    };
    try {
      await records.recordStep(currentWorkflow(), 'ended', await runJob(job, { ...watch, onLog }));
    } catch (error) {
      if (watch.signal.aborted && said.text !== '')
        await results
          .keep(log, `${said.text.slice(-LOG_KEPT)}(interrupted)\n`, AbortSignal.timeout(LOG_WITHIN_MS))
          .catch((why: unknown) =>
            deps.onWarn?.(`the log ${log.path} of an interrupted job was not kept: ${String(why)}`),
          );
      throw error;
    }
  }

  async function endOfJob(): Promise<JobEnd> {
    const ended = await records.step<JobEnd>(currentWorkflow(), 'ended');
    if (!ended)
      throw failure('NotAuthorized', `the job of ${currentWorkflow()} has not ended: there is nothing to collect`);
    return ended;
  }

  async function collectRun(input: TrainingInput, signal: AbortSignal): Promise<RunRecord> {
    const { attempt, spec, provisioned } = input;
    const ended = await endOfJob();
    const at = inRun(input, 'log.txt');
    if (ended.status === 'failed') throw failureOf(ended, await keepLog(at, ended.log, signal));
    const { metrics, notes } = readMetrics(await results.textAt(inRun(input, 'metrics.json'), signal));
    const outputs: NamedArtifact[] = [];
    for (const name of RUN_OUTPUTS) outputs.push({ ...(await results.artifactAt(inRun(input, name), signal)), name });
    const kept = await results.keep(at, [ended.log.trimEnd(), ...notes, ''].join('\n'), signal);
    const run: RunRecord = {
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
    const { project, model, submission } = ofWorkflow('trainingRun', 'project', 'model', 'submission');
    await records.recordRun({ project, model, submission }, attempt, run);
    return run;
  }

  /** Stores a failed job's log and returns where it is. An unavailable store must not hide why the job failed. */
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

  /** Evidence is about the recorded request: a workflow whose input differs from it prepares nothing. */
  async function mustBeAsRecorded({
    project,
    model,
    actor,
    dataset,
    subject,
    evaluation,
  }: EvaluationInput): Promise<void> {
    const row = await records.evaluation(project, evaluation);
    const submission = 'submission' in subject ? subject.submission : null;
    const isSame =
      row?.model === model && row.actor === actor && row.dataset === dataset && row.submission === submission;
    if (row && !isSame)
      throw failure('NotAuthorized', `evaluation ${evaluation} was requested for another model, data set or person`);
  }

  async function prepare(input: EvaluationInput, signal: AbortSignal): Promise<PreparedEvaluation> {
    const { project, model, actor, dataset, subject, evaluation } = input;
    await mustBeAsRecorded(input);
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

  async function evaluate(input: EvaluatingInput, watch: Watch): Promise<void> {
    const { prepared, deadlineSeconds = EVALUATION_SECONDS } = input;
    // For a version in staging, the project's policy sets the thresholds, whatever was requested.
    const own = prepared.report.area === 'private' ? input.thresholds : undefined;
    const thresholds = own ?? (await records.project(input.project))?.policy.thresholds ?? {};
    await runRecorded(
      {
        inputs: prepared.inputs,
        outputs: [{ name: 'report.json', required: true, location: prepared.report }],
        argv: ['python', '-m', 'ocdl.evaluate'],
        lock: deps.platformLock,
        lockOwner: 'platform',
        parameters: { thresholds, seed: 0 },
        compute: 'cpu',
        deadlineSeconds,
      },
      watch,
      logBeside(prepared.report),
    );
  }

  async function collectReport(input: EvaluatingInput, signal: AbortSignal): Promise<Evaluation> {
    const { project, evaluation } = ofWorkflow('evaluation', 'project', 'evaluation');
    const { digest, report: at } = input.prepared;
    const ended = await endOfJob();
    if (ended.status === 'failed') {
      throw failureOf(ended, await keepLog(logBeside(at), ended.log, signal));
    }
    const { passed, metrics } = readReport(await results.textAt(at, signal), digest);
    const report = { ...(await results.artifactAt(at, signal)), name: 'report.json' };
    const row = await mustHave(records.evaluation(project, evaluation), `evaluation ${evaluation}`);
    return records.endEvaluation(
      { ...row, digest, report, passed, metrics, state: 'done', detail: '', updatedAt: new Date().toISOString() },
      { inStaging: at.area === 'staging' },
    );
  }

  async function readLock({ spec }: TrainingRunInput): Promise<string> {
    const { repository, commit } = spec.code;
    const bytes = await code.read(repository, commit, spec.lock);
    if (!bytes)
      throw failure('InvalidInput', `the environment's lock ${spec.lock} is not in ${repository} at ${commit}`);
    return Buffer.from(bytes).toString('utf8');
  }

  /** Files of a live version of this type, as `baseline.*`; none if no other version is live. */
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

/** Outputs of a run: the submission, and metrics for its author. */
const RUN_OUTPUTS = ['model.onnx', 'model.json', 'golden.json', 'metrics.json'] as const;
/** For an interrupted job: the size that a cluster keeps for a finished job, and a time that fits a stopping worker. */
const LOG_KEPT = 64 * 1024;
const LOG_WITHIN_MS = 5_000;
/** About three minutes of attempts to store the log of a failed job. */
const LOG_TRIES = 10;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

/** Current attempt number of the activity. */
const tries = (): number => Context.current().info.attempt;

/** Location of an evaluation's log: beside its report. */
const logBeside = (report: Location): Location => ({
  ...report,
  path: `${report.path.replace(/\.json$/, '')}.log.txt`,
});

const inRun = ({ project, author, submission, attempt }: TrainingRunInput, file: string): Location => ({
  ...{ area: 'private', project, user: author },
  path: `${runFolder(submission, attempt)}/${file}`,
});

/** Retries transient failures within the activity. Retrying the activity would run its job again. */
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

/** Folder of a run's outputs in its author's private area. */
export const runFolder = (submission: string, attempt: number): string => `runs/${submission}-${attempt}`;

const digestOf = (text: string): Digest => createHash('sha256').update(text).digest('hex') as Digest;
