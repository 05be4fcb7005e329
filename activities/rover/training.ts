// Trainings: resolve the inputs of a run, train in the sandbox, and record the outputs.
import { createHash } from 'node:crypto';
import type { ComputeProfile } from '../../workflows/domain/compute.ts';
import type { NamedArtifact, RunRecord } from '../../workflows/domain/model.ts';
import type { Digest, Location } from '../../workflows/domain/names.ts';
import type { TrainingRunInput } from '../../workflows/messages.ts';
import { failure } from '../failures.ts';
import { beating, currentWorkflow, ofWorkflow } from '../heartbeat.ts';
import { sharedName } from '../input-names.ts';
import { failureOf, limitsOf, placementOf } from '../jobs.ts';
import { mustHave } from '../model-center.ts';
import { storePath } from '../place.ts';
import type { ArtifactStore, CodeHost } from '../ports.ts';
import type { Job, Records } from '../records.ts';
import { readMetrics } from '../run-results.ts';
import type { RecordedJobs } from './recorded-jobs.ts';
import { runFolder, untilDone } from './recorded-jobs.ts';

export interface ProvisionedRun {
  readonly inputs: readonly NamedArtifact[];
  readonly code: NamedArtifact;
  /** SHA-256 of the environment's lock. */
  readonly environment: Digest;
  readonly startedAt: string;
  /** The compute profile as it was then. Missing in runs from before profiles were recorded. */
  readonly profile?: ComputeProfile;
}

type TrainingInput = TrainingRunInput & { readonly provisioned: ProvisionedRun };

/** The activities of training runs. */
export function createTrainingActivities(
  { records, areas, code }: { records: Records; areas: ArtifactStore; code: CodeHost },
  { results, onlyEarlier, profileFor, runRecorded, untilEnded, endOfJob, outputOf, keepLog }: RecordedJobs,
) {
  return {
    /** Resolves all inputs of a run to bytes with digests: commit, environment lock, data. */
    async provisionRun(input: TrainingRunInput): Promise<ProvisionedRun> {
      const provisioned = await beating((signal) => provision(input, signal));
      await records.recordStep(currentWorkflow(), 'prepared', provisioned);
      return provisioned;
    },

    /**
     * Has the training job run. The activity completes with the job, whose outputs are then in the author's area;
     * {@link collectRun} records them.
     */
    async runTraining(input: TrainingInput): Promise<void> {
      const known = await provisionedFor(input);
      await runRecorded('training', projectOf(), await jobOf(known));
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
        await untilEnded('training', projectOf(), await jobOf(known), signal);
        return untilDone(() => collectRun(known, signal), signal, report);
      });
    },
  };

  async function provision(input: TrainingRunInput, signal: AbortSignal): Promise<ProvisionedRun> {
    const { project, submission, attempt, author, spec } = input;
    const { repository, commit } = spec.code;
    const profile = await profileFor(project, spec.compute);
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
      profile,
    };
  }

  async function jobOf(input: TrainingInput): Promise<Job> {
    const { spec, provisioned } = input;
    return {
      inputs: [...provisioned.inputs, { ...provisioned.code, unpack: true }],
      outputs: [...SUBMISSION, METRICS].map((name) => ({ name, required: true, location: inRun(input, name) })),
      argv: ['python', '-m', 'ocdl.run', 'code', spec.entrypoint],
      lock: await readLock(input),
      parameters: { ...spec.parameters, seed: spec.seed },
      compute: spec.compute,
      ...limitsOf(provisioned.profile, spec.deadlineSeconds),
      log: inRun(input, 'log.txt'),
    };
  }

  function projectOf(): string {
    return ofWorkflow('trainingRun', 'project').project;
  }

  /** What was provisioned, from the record. The workflow's copy is not trusted. */
  async function provisionedFor(input: TrainingInput): Promise<TrainingInput> {
    const provisioned = await records.step<ProvisionedRun>(currentWorkflow(), 'prepared');
    return provisioned ? { ...input, provisioned } : onlyEarlier(input);
  }

  async function collectRun(input: TrainingInput, signal: AbortSignal): Promise<RunRecord> {
    const { attempt, spec, provisioned } = input;
    const ended = await endOfJob();
    const at = inRun(input, 'log.txt');
    if (ended.status === 'failed') throw failureOf(ended, await keepLog(at, ended.log, signal));
    const outputs: NamedArtifact[] = [];
    for (const name of SUBMISSION) outputs.push(await outputOf(inRun(input, name), name, signal));
    const figures = await outputOf(inRun(input, METRICS), METRICS, signal);
    const { metrics, notes } = readMetrics(await results.textOf(figures, signal));
    const kept = await results.keep(at, [ended.log.trimEnd(), ...notes, ''].join('\n'), signal);
    const placement = placementOf(provisioned.profile, ended);
    const run: RunRecord = {
      attempt,
      spec,
      inputs: [...provisioned.inputs, provisioned.code],
      environment: provisioned.environment,
      outputs: [...outputs, figures],
      metrics,
      log: { ...kept, name: 'log.txt' },
      ...(placement && { placement }),
      startedAt: provisioned.startedAt,
      endedAt: new Date().toISOString(),
    };
    const { project, model, submission } = ofWorkflow('trainingRun', 'project', 'model', 'submission');
    await records.recordRun({ project, model, submission }, attempt, run);
    return run;
  }

  async function readLock({ spec }: TrainingRunInput): Promise<string> {
    const { repository, commit } = spec.code;
    const bytes = await code.read(repository, commit, spec.lock);
    if (!bytes)
      throw failure('InvalidInput', `the environment's lock ${spec.lock} is not in ${repository} at ${commit}`);
    return Buffer.from(bytes).toString('utf8');
  }
}

/** Outputs of a run: the submission, and metrics for its author. */
const SUBMISSION = ['model.onnx', 'model.json', 'golden.json'] as const;
const METRICS = 'metrics.json';
const inRun = ({ project, author, submission, attempt }: TrainingRunInput, file: string): Location => ({
  ...{ area: 'private', project, user: author },
  path: `${runFolder(submission, attempt)}/${file}`,
});

const digestOf = (text: string): Digest => createHash('sha256').update(text).digest('hex') as Digest;
