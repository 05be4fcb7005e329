// Evaluations: resolve the exact bytes, run the model over the rows in the sandbox, and record the report.
import { isZipped, LABELLED_ROWS, labelledRows } from '../../workflows/domain/labelled-rows.ts';
import type { ComputeProfile } from '../../workflows/domain/compute.ts';
import type { Evaluation, NamedArtifact, Version } from '../../workflows/domain/model.ts';
import type { Digest, Location } from '../../workflows/domain/names.ts';
import { stagingFolder } from '../../workflows/domain/names.ts';
import type { EvaluationInput } from '../../workflows/messages.ts';
import { EVALUATION_SECONDS } from '../../workflows/messages.ts';
import { failure } from '../failures.ts';
import { beating, currentWorkflow, ofWorkflow } from '../heartbeat.ts';
import { failureOf, limitsOf, placementOf } from '../jobs.ts';
import { mustHave } from '../model-center.ts';
import type { ArtifactStore } from '../ports.ts';
import type { Job, Records } from '../records.ts';
import { readReport } from '../run-results.ts';
import type { RecordedJobs } from './recorded-jobs.ts';
import { runFolder, untilDone } from './recorded-jobs.ts';

export interface PreparedEvaluation {
  readonly digest: Digest;
  readonly inputs: readonly NamedArtifact[];
  /** Destination of the report. */
  readonly report: Location;
  /** The compute profile as it was then. Missing in evaluations from before profiles were recorded. */
  readonly profile?: ComputeProfile;
}

type EvaluatingInput = EvaluationInput & { readonly prepared: PreparedEvaluation };

/** The activities of evaluations. */
export function createEvaluationActivities(
  { records, releases, platformLock }: { records: Records; releases: ArtifactStore; platformLock: string },
  { results, onlyEarlier, profileFor, runRecorded, untilEnded, endOfJob, outputOf, keepLog }: RecordedJobs,
) {
  return {
    /** Resolves the exact bytes for an evaluation: the model, the rows, and the live version to compare with. */
    async prepareEvaluation(input: EvaluationInput): Promise<PreparedEvaluation> {
      const prepared = await beating((signal) => prepare(input, signal));
      await records.recordStep(currentWorkflow(), 'prepared', prepared);
      return prepared;
    },

    /**
     * Has the model run over the rows in the sandbox. The activity completes with the job, whose report is then stored;
     * {@link collectReport} reads it.
     */
    async runEvaluation(input: EvaluatingInput): Promise<void> {
      const known = await preparedFor(input);
      await runRecorded('evaluation', projectOf(), await jobOf(known));
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
        await untilEnded('evaluation', projectOf(), await jobOf(known), signal);
        return untilDone(() => collectReport(known, signal), signal, report);
      });
    },
  };

  /** What was prepared, from the record. The workflow's copy is not trusted. */
  async function preparedFor(input: EvaluatingInput): Promise<EvaluatingInput> {
    const prepared = await records.step<PreparedEvaluation>(currentWorkflow(), 'prepared');
    return prepared ? { ...input, prepared } : onlyEarlier(input);
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
    const profile = await profileFor(project, computeOf(input));
    const set = await mustHave(records.dataSet(project, dataset), `data set ${dataset} in project ${project}`);
    const rows = labelledRows(set.files);
    if (!rows)
      throw failure('InvalidInput', `data set ${dataset} has no labelled rows: an evaluation needs ${LABELLED_ROWS}`);
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
    const name = isZipped(rows) ? 'test.jsonl.gz' : 'test.jsonl';
    const baseline = version ? await liveVersion(version) : [];
    return { digest: bytes.sha256, inputs: [...files, { ...rows, name }, ...baseline], report, profile };
  }

  async function jobOf({ prepared, deadlineSeconds = EVALUATION_SECONDS, ...input }: EvaluatingInput): Promise<Job> {
    // For a version in staging, the project's policy sets the thresholds, whatever was requested.
    const own = prepared.report.area === 'private' ? input.thresholds : undefined;
    const thresholds = own ?? (await records.project(input.project))?.policy.thresholds ?? {};
    return {
      inputs: prepared.inputs,
      outputs: [{ name: 'report.json', required: true, location: prepared.report }],
      argv: ['python', '-m', 'ocdl.evaluate'],
      lock: platformLock,
      lockOwner: 'platform',
      parameters: { thresholds, seed: 0 },
      compute: computeOf(input),
      ...limitsOf(prepared.profile, deadlineSeconds),
      log: logBeside(prepared.report),
    };
  }

  function projectOf(): string {
    return ofWorkflow('evaluation', 'project').project;
  }

  async function collectReport(input: EvaluatingInput, signal: AbortSignal): Promise<Evaluation> {
    const { project, evaluation } = ofWorkflow('evaluation', 'project', 'evaluation');
    const { digest, report: at, profile } = input.prepared;
    const ended = await endOfJob();
    if (ended.status === 'failed') {
      throw failureOf(ended, await keepLog(logBeside(at), ended.log, signal));
    }
    const report = await outputOf(at, 'report.json', signal);
    const { passed, metrics } = readReport(await results.textOf(report, signal), digest);
    const row = await mustHave(records.evaluation(project, evaluation), `evaluation ${evaluation}`);
    const placement = placementOf(profile, ended);
    return records.endEvaluation(
      {
        ...row,
        ...(placement && { placement }),
        digest,
        report,
        passed,
        metrics,
        state: 'done',
        detail: '',
        updatedAt: new Date().toISOString(),
      },
      { inStaging: at.area === 'staging' },
    );
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

const computeOf = ({ compute }: EvaluationInput): string => compute ?? 'cpu';

/** Location of an evaluation's log: beside its report. */
const logBeside = (report: Location): Location => ({
  ...report,
  path: `${report.path.replace(/\.json$/, '')}.log.txt`,
});
