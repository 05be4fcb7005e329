// The contract of the Cluster port: what every cluster does with jobs and services, as a list of cases.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, JobOutcome, JobProgress, JobSpec, JobState } from '../../activities/ports.ts';
import type { NamedArtifact } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { patience } from './cases.ts';
import { artifactOf, tarOf, type JobApi } from './cluster-job-api.ts';
import { runJob } from './run-job.ts';

/** What a cluster under test brings with it. */
export interface ClusterHarness {
  readonly cluster: Cluster;
  /** The job resource that the cluster's wrapper can reach. */
  readonly api: JobApi;
  /** Is a program whose command line holds this text running on the cluster? */
  readonly running: (marker: string) => Promise<boolean>;
  /** Sends a signal to the cluster's innermost program whose command line holds this text. */
  readonly kill: (marker: string, signal: NodeJS.Signals) => Promise<void>;
  /** Files of a model that can be served, and of one that cannot. */
  readonly model: readonly NamedArtifact[];
  readonly brokenModel: readonly NamedArtifact[];
  /** Status of a GET at a service's address. */
  readonly get: (address: string, path: string) => Promise<number>;
  readonly close: () => Promise<void>;
}

export interface ClusterCase {
  readonly name: string;
  readonly run: (harness: ClusterHarness) => Promise<void>;
}

export type JobGiven = Partial<Omit<JobSpec, 'data'>> & { readonly code: string };

/** A job of one Python program, `code`, whose inputs the API stand-in holds. */
export function pythonJob(api: JobApi, given: JobGiven, more: Readonly<Record<string, string>> = {}): JobSpec {
  const { code, ...rest } = given;
  const job = `j${randomUUID().slice(0, 8)}`;
  const files = new Map([['code.tar', tarOf({ 'main.py': code })]]);
  for (const [name, text] of Object.entries(more)) files.set(name, Buffer.from(text));
  api.open(job, `token-${randomUUID()}`, files);
  return {
    name: job,
    inputs: [...files].map(([name, bytes]) => ({ ...artifactOf(name, bytes), name, unpack: name === 'code.tar' })),
    outputs: [],
    argv: ['python', 'in/code/main.py'],
    lock: '',
    parameters: {},
    compute: 'cpu',
    // Two run side by side on a machine with two processors.
    resources: { cpus: 0.5, memoryBytes: 512 * 1024 ** 2, diskBytes: 64 * 1024 ** 2 },
    deadlineSeconds: 60,
    ...rest,
    data: { api: api.url, job },
  };
}

const runCode = (harness: ClusterHarness, given: JobGiven): Promise<JobOutcome> =>
  runJob(harness, pythonJob(harness.api, given));

const tokenOf =
  (api: JobApi, spec: JobSpec): (() => Promise<string>) =>
  () =>
    Promise.resolve(api.tokenOf(spec.data.job));

const uniqueSleep = (): { code: string; marker: string } => {
  const marker = `marker-${randomUUID()}`;
  // The child takes a session of its own, so that ending a process group does not reach it.
  const code = [
    'import subprocess, sys, time',
    `subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", "${marker}-child"], start_new_session=True,`,
    '  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)',
    'print("started", flush=True)',
    `time.sleep(120)`,
  ].join('\n');
  return { code, marker };
};

/** Waits until a condition holds; otherwise says what was missing. */
export async function eventually(what: string, isSo: () => Promise<boolean>, withinMs = 30_000): Promise<void> {
  const until = Date.now() + withinMs;
  while (!(await isSo())) {
    if (Date.now() > until) assert.fail(`not within ${withinMs} ms: ${what}`);
    await sleep(50);
  }
}

/** Compares the named fields of an outcome. */
function assertOutcome(outcome: JobOutcome, expected: Readonly<Record<string, unknown>>, where = ''): void {
  const found = Object.fromEntries(Object.entries(outcome).filter(([field]) => field in expected));
  assert.deepEqual(found, expected, `${where} ${reported(outcome)}`);
}

const reported = (outcome: JobOutcome): string => JSON.stringify(outcome).slice(0, 2_000);

export const clusterCases: readonly ClusterCase[] = [
  {
    name: 'a job gets its inputs, code and parameters, and its outputs arrive',
    run: async (harness) => {
      const { api } = harness;
      const code = `
import json, os
data = open(os.path.join(os.environ["OCDL_INPUTS"], "data.csv")).read()
parameters = json.load(open(os.environ["OCDL_PARAMETERS"]))
with open(os.path.join(os.environ["OCDL_OUTPUTS"], "model.bin"), "w") as file:
    file.write(data + "/" + parameters["depth"])
open("scratch.txt", "w").write("the working folder is writable")
`;
      const outputs = [
        { name: 'model.bin', required: true },
        { name: 'notes.txt', required: false },
      ];
      const spec = pythonJob(api, { code, outputs, parameters: { depth: 'äöü' } }, { 'data.csv': 'a,b' });
      const outcome = await runJob(harness, spec);
      assert.equal(outcome.status, 'succeeded', reported(outcome));
      assert.equal(api.outputs(spec.data.job).get('model.bin')?.toString(), 'a,b/äöü');
      assert.deepEqual([...api.outputs(spec.data.job).keys()], ['model.bin']);
    },
  },
  {
    name: 'a job that exits with a non-zero status has failed with that status',
    run: async (harness) => {
      const outcome = await runCode(harness, { code: 'import sys; print("why it failed"); sys.exit(7)' });
      assertOutcome(outcome, { status: 'failed', reason: 'exit', exitCode: 7 });
      assert.match(outcome.log, /why it failed/);
    },
  },
  {
    name: 'a job that exits with status 1 has failed, even if its outputs exist',
    run: async (harness) => {
      const code = 'import os, sys; open(os.environ["OCDL_OUTPUTS"] + "/m", "w").write("half"); sys.exit(1)';
      const spec = pythonJob(harness.api, { code, outputs: [{ name: 'm', required: true }] });
      const outcome = await runJob(harness, spec);
      assertOutcome(outcome, { status: 'failed', reason: 'exit', exitCode: 1 });
      assert.equal(harness.api.outputs(spec.data.job).size, 0);
    },
  },
  {
    name: 'a job that is ended by a signal has failed',
    run: async (harness) => {
      const outcome = await runCode(harness, { code: 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)' });
      assertOutcome(outcome, { status: 'failed', reason: 'exit', exitCode: 139 });
    },
  },
  {
    name: 'a job without a required output has failed for that reason',
    run: async (harness) => {
      const outcome = await runCode(harness, { code: 'pass', outputs: [{ name: 'model.onnx', required: true }] });
      assertOutcome(outcome, { status: 'failed', reason: 'outputs' });
      assert.match(outcome.log, /model\.onnx/);
    },
  },
  {
    name: 'an output that is a link, a folder or a pipe is not uploaded',
    run: async (harness) => {
      const { api } = harness;
      for (const act of ['os.symlink("/etc/passwd", path)', 'os.mkdir(path)', 'os.mkfifo(path)']) {
        const code = `import os\npath = os.environ["OCDL_OUTPUTS"] + "/m"\n${act}`;
        const spec = pythonJob(api, { code, outputs: [{ name: 'm', required: false }] });
        const outcome = await runJob(harness, spec);
        assertOutcome(outcome, { status: 'failed', reason: 'outputs' }, act);
        assert.equal(api.outputs(spec.data.job).size, 0, act);
      }
    },
  },
  {
    name: 'an input that differs from its declared digest fails the fetch, and the program never runs',
    run: async (harness) => {
      const { api } = harness;
      const spec = pythonJob(api, { code: 'print("it ran")' });
      const inputs = spec.inputs.map((input) => ({ ...input, sha256: '0'.repeat(64) as Digest }));
      const outcome = await runJob(harness, { ...spec, inputs });
      assertOutcome(outcome, { status: 'failed', reason: 'inputs' });
      assert.doesNotMatch(outcome.log, /it ran/);
    },
  },
  {
    name: 'a token that the API refuses fails the fetch',
    run: async (harness) => {
      const outcome = await runJob(harness, pythonJob(harness.api, { code: 'pass' }), { token: 'forged' });
      // The second run has a new token.
      assertOutcome(outcome, { status: 'failed', reason: 'fetch' });
    },
  },
  {
    name: 'inputs that the API cannot provide at the moment fail the fetch with a retryable failure',
    run: async (harness) => {
      const { api } = harness;
      const spec = pythonJob(api, { code: 'print("it ran")' });
      api.setAway(true);
      const outcome = await runJob(harness, spec).finally(() => api.setAway(false));
      assertOutcome(outcome, { status: 'failed', reason: 'fetch' });
      assertOutcome(await runJob(harness, spec), { status: 'succeeded' });
    },
  },
  {
    name: 'a job that finished while the API was unavailable does not run again: its outputs are uploaded',
    run: async (harness) => {
      const { cluster, api } = harness;
      const code = `
import os, random, time
print("a week of training")
open(os.environ["OCDL_OUTPUTS"] + "/m", "w").write(str(random.random()))
print('::progress {"done": 1, "total": 1, "message": "trained"}', flush=True)
time.sleep(2)
`;
      const spec = pythonJob(api, { code, outputs: [{ name: 'm', required: true }], deadlineSeconds: 20 });
      const onProgress = ({ message }: JobProgress): void => {
        if (message === 'trained') api.setAway(true);
      };
      const first = runJob(harness, spec, { onProgress });
      first.catch(() => undefined);
      try {
        await eventually('the job has trained', () => Promise.resolve(api.isAway()));
        // A cluster reports that the upload failed, or keeps the job and retries it.
        const ended = await Promise.race([first, sleep(10_000)]);
        if (ended) assertOutcome(ended, { status: 'failed', reason: 'upload' });
        assert.equal(api.outputs(spec.data.job).size, 0);
      } finally {
        api.setAway(false);
      }
      const again = await first.then(() => runJob(harness, spec));
      assertOutcome(again, { status: 'succeeded' });
      assert.equal(again.log.match(/a week of training/g)?.length, 1, reported(again));
      const uploaded = api.outputs(spec.data.job).get('m')?.toString();
      assert.match(uploaded ?? '', /^0\.\d+$/);
      // Its answer may have been lost: the same job again gets the same answer.
      const noToken = async (): Promise<string> => assert.fail('it was started again');
      await cluster.startJob(spec, noToken);
      assert.deepEqual(await cluster.jobState(spec.name), { phase: 'ended', outcome: again });
      assert.equal(api.outputs(spec.data.job).get('m')?.toString(), uploaded);
      // With other inputs it is a different job.
      const other = await runJob(harness, { ...spec, parameters: { seed: 2 } });
      assertOutcome(other, { status: 'succeeded' });
      assert.notEqual(api.outputs(spec.data.job).get('m')?.toString(), uploaded);
    },
  },
  {
    name: 'the deadline applies to the program only: a slow upload after it does not lose the outputs',
    run: async (harness) => {
      const { api } = harness;
      const code = 'import os; open(os.environ["OCDL_OUTPUTS"] + "/m", "w").write("made")';
      const spec = pythonJob(api, { code, outputs: [{ name: 'm', required: true }], deadlineSeconds: 3 });
      api.setSlow(4_000);
      const outcome = await runJob(harness, spec).finally(() => api.setSlow(0));
      assertOutcome(outcome, { status: 'succeeded' });
    },
  },
  {
    name: 'a job that is killed from outside is reported as killed, and can run again under its name',
    run: async (harness) => {
      const { api, kill, running } = harness;
      for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
        const { code, marker } = uniqueSleep();
        const spec = pythonJob(api, { code, argv: ['python', 'in/code/main.py', marker] });
        const ended = runJob(harness, spec);
        await eventually('the job has started its child', () => running(`${marker}-child`));
        await kill(`main.py ${marker}`, signal);
        assertOutcome(await ended, { status: 'failed', reason: 'killed' }, signal);
        assert.match((await ended).log, /killed from outside/);
        const next = pythonJob(api, { code: 'pass', name: spec.name });
        assertOutcome(await runJob(harness, next), { status: 'succeeded' });
      }
    },
  },
  {
    name: 'the program sees neither the token nor the platform’s variables',
    run: async (harness) => {
      const code = 'import os; print("names", " ".join(sorted(os.environ)))';
      const outcome = await runCode(harness, { code });
      assert.equal(outcome.status, 'succeeded', reported(outcome));
      assert.match(outcome.log, /names .*OCDL_INPUTS OCDL_OUTPUTS OCDL_PARAMETERS/);
      assert.doesNotMatch(outcome.log, /TOKEN|DATABASE|TEMPORAL|OCDL_HOME/);
    },
  },
  {
    name: 'progress lines are reported and left out of the log; malformed ones are ordinary lines',
    run: async (harness) => {
      const code = `
import time
print('::progress {"done": 1, "total": 2, "message": "half"}', flush=True)
time.sleep(1)
print('::progress {"done": "x"}')
print('::progress {"done": 2, "total": 2, "message": "all"}')
`;
      const progress: JobProgress[] = [];
      const outcome = await runJob(harness, pythonJob(harness.api, { code }), {
        onProgress: (step) => progress.push(step),
      });
      // A cluster may leave out a step that the next one follows at once.
      assert.deepEqual(progress[0], { done: 1, total: 2, message: 'half' });
      assert.ok(
        progress.slice(1).every(({ message }) => message === 'all' || message === 'half'),
        JSON.stringify(progress),
      );
      assert.match(outcome.log, /::progress \{"done": "x"\}/);
      assert.doesNotMatch(outcome.log, /half/);
    },
  },
  {
    name: 'the log has the last 64 KiB of both streams as readable text, whatever their bytes',
    run: async (harness) => {
      const code = `
import sys
sys.stdout.write("first line of many\\n")
for number in range(20000): sys.stdout.write("filling line %d\\n" % number)
sys.stdout.flush()
sys.stdout.buffer.write(b"\\xff\\xfe broken \\x00 utf-8\\n"); sys.stdout.flush()
sys.stderr.write("an error line\\n")
sys.stdout.write("the last words without an end of line")
`;
      const outcome = await runCode(harness, { code });
      assert.equal(outcome.status, 'succeeded', reported(outcome));
      assert.ok(Buffer.byteLength(outcome.log) <= 64 * 1024, `${Buffer.byteLength(outcome.log)} bytes`);
      assert.ok(Buffer.byteLength(outcome.log) > 60 * 1024, `${Buffer.byteLength(outcome.log)} bytes`);
      assert.match(outcome.log, /broken .* utf-8/);
      assert.match(outcome.log, /an error line/);
      assert.match(outcome.log, /the last words without/);
      assert.doesNotMatch(outcome.log, /first line of many/);
      assert.ok(!outcome.log.includes('\0'), 'a zero byte, which PostgreSQL refuses');
    },
  },
  {
    name: 'a job past its deadline is stopped and has timed out',
    run: async (harness) => {
      const { api, running } = harness;
      const { code, marker } = uniqueSleep();
      const spec = pythonJob(api, { code, argv: ['python', 'in/code/main.py', marker], deadlineSeconds: 3 });
      const abort = new AbortController();
      // A cluster without deadlines then fails this case instead of blocking it.
      const late = new assert.AssertionError({ message: 'it still ran long after its deadline' });
      const tooLong = setTimeout(() => abort.abort(late), patience.ms);
      try {
        const outcome = await runJob(harness, spec, { signal: abort.signal });
        assert.equal(outcome.status, 'timed-out', reported(outcome));
        await eventually('the job is gone', async () => !(await running(marker)), 30_000);
      } finally {
        clearTimeout(tooLong);
      }
    },
  },
  {
    name: 'removing a job stops it and all processes it started, and nothing of it is left',
    run: async ({ cluster, api, running }) => {
      const { code, marker } = uniqueSleep();
      const spec = pythonJob(api, { code, argv: ['python', 'in/code/main.py', marker] });
      await cluster.startJob(spec, tokenOf(api, spec));
      await eventually('the job has started its child', () => running(`${marker}-child`));
      await cluster.removeJob(spec.name);
      assert.equal(await running(marker), false, 'it outlived its removal');
      assert.deepEqual(await cluster.jobState(spec.name), { phase: 'missing' });
      assert.equal(await cluster.jobLog(spec.name), '');
      await cluster.removeJob(spec.name);
    },
  },
  {
    name: 'a job whose token cannot be issued does not start',
    run: async ({ cluster, api }) => {
      const spec = pythonJob(api, { code: 'pass' });
      const refused = (): Promise<string> => Promise.reject(new Error('PostgreSQL is unavailable'));
      await assert.rejects(cluster.startJob(spec, refused), /PostgreSQL is unavailable/);
      assert.deepEqual(await cluster.jobState(spec.name), { phase: 'missing' });
      assert.ok(!api.requests.some((request) => request.includes(spec.data.job)));
    },
  },
  {
    name: 'a job is started once, however often it is asked for: it is found again while it runs and after its end',
    run: async (harness) => {
      const { cluster, api } = harness;
      const code = 'import time\nprint("said early", flush=True)\ntime.sleep(3)\nprint("said late")';
      const spec = pythonJob(api, { code });
      const issued: string[] = [];
      const token = (): Promise<string> => {
        issued.push(spec.name);
        return tokenOf(api, spec)();
      };
      await Promise.all([cluster.startJob(spec, token), cluster.startJob(spec, token)]);
      await eventually('its first words', async () => (await cluster.jobLog(spec.name)).includes('said early'));
      assert.equal((await cluster.jobState(spec.name)).phase, 'running', 'the log comes only after its end');
      await cluster.startJob(spec, token);
      const outcome = await runJob(harness, spec);
      await cluster.startJob(spec, token);
      assert.deepEqual(await cluster.jobState(spec.name), { phase: 'ended', outcome });
      assertOutcome(outcome, { status: 'succeeded' });
      for (const said of [/said early/g, /said late/g]) assert.equal(outcome.log.match(said)?.length, 1, outcome.log);
      assert.equal(await cluster.jobLog(spec.name), outcome.log);
      assert.equal(issued.length, 1, 'a token for a job that was already there');
      const inputs = api.requests.filter((request) => request === `GET /v1/jobs/${spec.data.job}/inputs/code.tar`);
      assert.equal(inputs.length, 1);
    },
  },
  {
    name: 'a watcher learns of the jobs that are there, of their ends and of their removal',
    run: async ({ cluster, api }) => {
      const there = pythonJob(api, { code: 'import time; time.sleep(120)' });
      await cluster.startJob(there, tokenOf(api, there));
      const seen: (readonly [string, JobState])[] = [];
      const watching = new AbortController();
      const watched = cluster.watchJobs((name, state) => void seen.push([name, state]), watching.signal);
      const phases = (spec: JobSpec): readonly string[] =>
        seen.flatMap(([name, { phase }]) => (name === spec.name ? [phase] : []));
      const learns = (spec: JobSpec, phase: string): Promise<void> =>
        eventually(`${phase}, after ${phases(spec).join(', ')}`, async () => phases(spec).includes(phase));
      try {
        await learns(there, 'running');
        const short = pythonJob(api, { code: 'print("short")' });
        await cluster.startJob(short, tokenOf(api, short));
        await learns(short, 'ended');
        const last = seen.findLast(([name]) => name === short.name)?.[1];
        assert.ok(last?.phase === 'ended', JSON.stringify(last));
        assertOutcome(last.outcome, { status: 'succeeded' });
        await cluster.removeJob(there.name);
        await learns(there, 'missing');
        assert.ok(!phases(there).includes('ended'));
      } finally {
        watching.abort();
        await cluster.removeJob(there.name);
      }
      await watched;
    },
  },
  {
    name: 'a job that was never started is missing, has no log, and can be removed',
    run: async ({ cluster }) => {
      assert.deepEqual(await cluster.jobState('nobody-started-this'), { phase: 'missing' });
      assert.equal(await cluster.jobLog('nobody-started-this'), '');
      await cluster.removeJob('nobody-started-this');
    },
  },
  {
    name: 'starting another job under the same name stops the earlier one',
    run: async (harness) => {
      const { cluster, api, running } = harness;
      const { code, marker } = uniqueSleep();
      const first = pythonJob(api, { code, argv: ['python', 'in/code/main.py', marker] });
      await cluster.startJob(first, tokenOf(api, first));
      await eventually('the earlier job runs', () => running(`${marker}-child`));
      const outcome = await runJob(harness, pythonJob(api, { code: 'print("again")', name: first.name }));
      assertOutcome(outcome, { status: 'succeeded' });
      assert.match(outcome.log, /again/);
      assert.equal(await running(marker), false);
    },
  },
  {
    name: 'an invalid name is refused',
    run: async ({ cluster, api }) => {
      const spec = pythonJob(api, { code: 'pass', name: '../outside' });
      await assert.rejects(cluster.startJob(spec, tokenOf(api, spec)), { type: 'InvalidInput' });
      await assert.rejects(cluster.removeJob('../outside'), { type: 'InvalidInput' });
      await assert.rejects(cluster.stopService('../outside'), { type: 'InvalidInput' });
    },
  },
  {
    name: 'a service is ready once it has started, is found again by its name, and stops',
    run: async ({ cluster, model, get }) => {
      const spec = { name: `s${randomUUID().slice(0, 8)}`, files: model, version: '3', compute: 'cpu' } as const;
      const first = await cluster.startService(spec, new AbortController().signal);
      try {
        assert.equal(await get(first.address, '/v2/health/ready'), 200);
        const second = await cluster.startService(spec, new AbortController().signal);
        assert.equal(await get(second.address, '/v2/health/ready'), 200);
        await cluster.stopService(spec.name);
        await assert.rejects(get(second.address, '/v2/health/ready'));
      } finally {
        await cluster.stopService(spec.name);
      }
    },
  },
  {
    name: 'a service that is killed from outside is reported as killed',
    run: async ({ cluster, model, kill, get }) => {
      const spec = { name: `s${randomUUID().slice(0, 8)}`, files: model, version: '3', compute: 'cpu' } as const;
      const { address, ended } = await cluster.startService(spec, new AbortController().signal);
      try {
        assert.equal(await get(address, '/v2/health/ready'), 200);
        await kill(spec.name, 'SIGKILL');
        assert.ok(ended, 'the cluster cannot tell how a service ended');
        assert.equal((await ended).killed, true, JSON.stringify(await ended));
        assert.match((await ended).detail, new RegExp(`${spec.name} was killed from outside`));
      } finally {
        await cluster.stopService(spec.name);
      }
    },
  },
  {
    name: 'a model that cannot be served gives an error with the last lines of its log',
    run: async ({ cluster, brokenModel }) => {
      const spec = { name: `s${randomUUID().slice(0, 8)}`, files: brokenModel, version: '1', compute: 'cpu' } as const;
      await assert.rejects(cluster.startService(spec, new AbortController().signal), /last lines of its log:\n.*\S/s);
    },
  },
  {
    name: 'stopping a service that does not exist succeeds',
    run: ({ cluster }) => cluster.stopService('nobody-started-this'),
  },
];

/** Registers every case as a test of this cluster. */
export function clusterContract(name: string, open: () => Promise<ClusterHarness>): void {
  describe(`${name}: the cluster contract`, () => {
    const opened: { harness?: ClusterHarness } = {};
    beforeAll(async () => {
      opened.harness = await open();
    });
    afterAll(() => opened.harness?.close());
    for (const { name: title, run } of clusterCases)
      test(title, async () => {
        assert.ok(opened.harness, 'the cluster did not open');
        await run(opened.harness);
      });
  });
}
