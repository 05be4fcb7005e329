// Rover (paper 4.2): provisions compute and data, trains, and runs models over data sets.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Evaluation, NamedArtifact, RunRecord, Version } from '../workflows/domain/model.ts';
import type { Digest, Location } from '../workflows/domain/names.ts';
import { stagingFolder, storePath } from '../workflows/domain/names.ts';
import type { EvaluationInput, TrainingRunInput } from '../workflows/messages.ts';
import { failure } from './failures.ts';
import { beating } from './heartbeat.ts';
import { createJobRunner } from './jobs.ts';
import { mustHave, once } from './model-center.ts';
import type { ArtifactStore, Cluster, CodeHost } from './ports.ts';
import type { Records } from './records.ts';

export type RoverActivities = ReturnType<typeof createRoverActivities>;

/** An evaluation of a few thousand rows takes seconds; one that takes an hour hangs. */
const EVALUATION_DEADLINE_SECONDS = 3600;

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

export function createRoverActivities(deps: {
  records: Records;
  areas: ArtifactStore;
  releases: ArtifactStore;
  cluster: Cluster;
  code: CodeHost;
  /** Address of the API as jobs' wrappers reach it. */
  apiUrl: string;
  /** Text of the lock of the platform's own Python environment. */
  platformLock: string;
}) {
  const { records, areas, releases, code } = deps;
  const runJob = createJobRunner(deps);

  return {
    /** Resolves everything a run is made from to bytes with digests: commit, environment lock, data. */
    async provisionRun(input: TrainingRunInput): Promise<ProvisionedRun> {
      return beating((signal) => provision(input, signal));
    },

    /** Trains: runs the job to its end and returns the whole record of the run. */
    async trainModel(input: TrainingRunInput & { provisioned: ProvisionedRun }): Promise<RunRecord> {
      return beating((signal, report) => train(input, { signal, onProgress: report }));
    },

    /** Finds the exact bytes an evaluation is about: the model's, the rows', and the live version's to compare with. */
    async prepareEvaluation(input: EvaluationInput): Promise<PreparedEvaluation> {
      return beating((signal) => prepare(input, signal));
    },

    /** Runs the model over the rows in the sandbox and reads the report. */
    async evaluateModel(
      input: EvaluationInput & { prepared: PreparedEvaluation },
    ): Promise<Pick<Evaluation, 'digest' | 'report' | 'passed' | 'metrics'>> {
      return beating((signal, report) => evaluate(input, { signal, onProgress: report }));
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
    const twice = inputs.find(
      ({ name }, i) => name === 'code.tar' || inputs.findIndex((other) => other.name === name) !== i,
    );
    if (twice)
      throw failure('InvalidInput', `two inputs of the run are called ${twice.name}: rename one in its data set`);
    return {
      inputs,
      code: { ...archived, name: 'code.tar' },
      environment: digestOf(lock),
      startedAt: new Date().toISOString(),
    };
  }

  async function train(input: TrainingRunInput & { provisioned: ProvisionedRun }, watch: Watch): Promise<RunRecord> {
    const { project, submission, attempt, author, spec, provisioned } = input;
    const { signal } = watch;
    const folder = (file: string): Location => ({
      area: 'private',
      project,
      user: author,
      path: `${runFolder(submission, attempt)}/${file}`,
    });
    const outputs = ['model.onnx', 'model.json', 'golden.json', 'metrics.json'];
    const job = {
      inputs: [...provisioned.inputs, { ...provisioned.code, unpack: true }],
      outputs: outputs.map((name) => ({ name, required: true, location: folder(name) })),
      argv: ['python', '-m', 'ocdl.run', 'code', spec.entrypoint],
      lock: await readLock(input),
      parameters: { ...spec.parameters, seed: spec.seed },
      compute: spec.compute,
      deadlineSeconds: spec.deadlineSeconds,
    };
    const log = await runJob(job, watch);
    const stored = await Promise.all(
      outputs.map(async (name) => ({ ...(await artifactAt(folder(name), signal)), name })),
    );
    const options = { ifExists: 'replace', signal } as const;
    const kept = await areas.write(storePath(folder('log.txt')), once(Buffer.from(log)), options);
    return {
      attempt,
      spec,
      inputs: [...provisioned.inputs, provisioned.code],
      environment: provisioned.environment,
      outputs: stored,
      metrics: parse(metricsSchema, await readText(folder('metrics.json'), signal), 'metrics.json'),
      log: { ...kept, name: 'log.txt' },
      startedAt: provisioned.startedAt,
      endedAt: new Date().toISOString(),
    };
  }

  async function prepare(input: EvaluationInput, signal: AbortSignal): Promise<PreparedEvaluation> {
    const { project, model, actor, dataset, subject, evaluation } = input;
    const set = await mustHave(records.dataSet(project, dataset), `data set ${dataset} in project ${project}`);
    const rows = set.files[0];
    if (set.files.length !== 1 || !rows || !/\.jsonl(\.gz)?$/.test(rows.name))
      throw failure(
        'InvalidInput',
        `data set ${dataset} is no labelled rows: an evaluation needs one file *.jsonl or *.jsonl.gz`,
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
            ...(await artifactAt({ area: 'private', project, user: actor, path: `${directory}/${name}` }, signal)),
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

  async function evaluate(input: EvaluationInput & { prepared: PreparedEvaluation }, watch: Watch) {
    const { prepared, thresholds } = input;
    const job = {
      inputs: prepared.inputs,
      outputs: [{ name: 'report.json', required: true, location: prepared.report }],
      argv: ['python', '-m', 'ocdl.evaluate'],
      lock: deps.platformLock,
      lockOwner: 'platform',
      parameters: { thresholds, seed: 0 },
      compute: 'cpu',
      deadlineSeconds: EVALUATION_DEADLINE_SECONDS,
    } as const;
    await runJob(job, watch);
    const report = parse(reportSchema, await readText(prepared.report, watch.signal), 'report.json');
    if (report.model.sha256 !== prepared.digest)
      throw failure('DigestMismatch', `the report speaks of ${report.model.sha256}, not of ${prepared.digest}`);
    const stored = await artifactAt(prepared.report, watch.signal);
    return {
      digest: prepared.digest,
      report: { ...stored, name: 'report.json' },
      passed: report.passed,
      metrics: report.metrics,
    };
  }

  async function readLock({ spec }: TrainingRunInput): Promise<string> {
    const { repository, commit } = spec.code;
    const bytes = await code.read(repository, commit, spec.lock);
    if (!bytes)
      throw failure('InvalidInput', `the environment's lock ${spec.lock} is not in ${repository} at ${commit}`);
    return Buffer.from(bytes).toString('utf8');
  }

  async function artifactAt(location: Location, signal: AbortSignal) {
    const uri = areas.uri(storePath(location));
    const found = await areas.stat(uri);
    if (!found)
      throw failure('NotFound', `there is no ${location.path} in the ${location.area} area of ${location.project}`);
    return { uri, sha256: await areas.digest(uri, signal), bytes: found.bytes };
  }

  async function readText(location: Location, signal: AbortSignal): Promise<string> {
    const chunks: Uint8Array[] = [];
    const options = { range: { start: 0, end: TEXT_LIMIT }, signal };
    for await (const chunk of await areas.read(areas.uri(storePath(location)), options)) chunks.push(chunk);
    return Buffer.concat(chunks).toString('utf8');
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

/** A report's largest size: its curves are thinned to 200 points. */
const TEXT_LIMIT = 2 * 2 ** 20;

const metricsSchema = z.record(z.string().max(64), z.number());
const reportSchema = z.object({
  v: z.literal(1),
  model: z.object({ sha256: z.string() }),
  metrics: z.record(z.string().max(64), z.number().nullable()),
  passed: z.boolean(),
});

function parse<T>(schema: z.ZodType<T>, text: string, what: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw failure(
      'JobFailed',
      `the job's ${what} is malformed: ${error instanceof Error ? error.message.slice(0, 500) : String(error)}`,
    );
  }
}

/** Where a run's outputs lie in its author's private area. */
export const runFolder = (submission: string, attempt: number): string => `runs/${submission}-${attempt}`;

const digestOf = (text: string): Digest => createHash('sha256').update(text).digest('hex') as Digest;
