// Jobs as pods of the stack's Kubernetes: the contract, and what can go wrong on a cluster. Runs with KUBERNETES=true.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sendSignal } from '../../activities/adapters/process-start.ts';
import { checkKubernetes } from '../../activities/adapters/kubernetes/check.ts';
import { createKubernetesCluster, type KubernetesOptions } from '../../activities/adapters/kubernetes/cluster.ts';
import { namespaceName, ofJob } from '../../activities/adapters/kubernetes/names.ts';
import { listObjects } from '../../activities/adapters/kubernetes/watch.ts';
import type { JobOutcome, JobSpec, JobState } from '../../activities/ports.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import { containerdSocket } from '../../deploy/stack/kubernetes/node.ts';
import { openKubernetes, type KubernetesHarness } from '../adapters/kubernetes-cluster.ts';
import { clusterContract, eventually, pythonJob, type JobGiven } from '../contracts/cluster.ts';
import { runJob } from '../contracts/run-job.ts';
import { importImages } from './images.ts';
import { describeKubernetes, patience, stackOn } from './own-cluster.ts';

/** The home of a stack that runs already: its cluster is used as it is. */
const given = process.env['OCDL_TEST_KUBERNETES_HOME'];
const MIB = 1024 ** 2;

describeKubernetes('jobs', ['kubernetes'], () => {
  const home = given ?? realpathSync(mkdtempSync(join(tmpdir(), 'ocdl-jobs-')));
  const folder = join(home, 'kubernetes');
  if (given === undefined) {
    const { stack } = stackOn(home, { OCDL_STACK_KUBERNETES_GPUS: '2' });
    beforeAll(async () => {
      const { code, said } = await stack('up', '--only', 'kubernetes', '--detach');
      if (code !== 0) throw new Error(said);
    }, patience);
  }

  // Building the images takes minutes, and the contract opens the cluster within the time of a test.
  beforeAll(() => importImages(containerdSocket(folder)), patience);
  clusterContract('Kubernetes', () => openKubernetes(folder));

  describe('faults', () => {
    const opened: { harness?: KubernetesHarness } = {};
    beforeAll(async () => {
      opened.harness = await openKubernetes(folder);
    }, patience);
    afterAll(() => opened.harness?.close());
    const harness = (): KubernetesHarness => {
      if (opened.harness === undefined) throw new Error('the cluster did not open');
      return opened.harness;
    };
    const token = (spec: JobSpec) => (): Promise<string> => Promise.resolve(harness().api.tokenOf(spec.data.job));
    const noToken = (): Promise<string> => Promise.reject(new Error('it was started again'));
    const runs = (job: JobGiven): Promise<JobOutcome> => runJob(harness(), pythonJob(harness().api, job));
    const podsOf = async (spec: JobSpec): Promise<readonly unknown[]> =>
      (await listObjects(harness().cluster.client, '/api/v1/pods', { labelSelector: ofJob('ocdl-test', spec.name) }))
        .items;
    const says = (spec: JobSpec, word: string): Promise<void> =>
      eventually(`it says ${word}`, async () => (await harness().cluster.jobLog(spec.name)).includes(word), 60_000);

    /** What a job that cannot start waits for; removes it. */
    const waitsFor = async (job: Partial<JobGiven>, pattern: RegExp, options: Partial<KubernetesOptions> = {}) => {
      const spec = pythonJob(harness().api, { code: 'pass', ...job });
      const jobs = createKubernetesCluster({ ...harness().options, ...options });
      const seen: JobState[] = [];
      try {
        await jobs.startJob(spec, token(spec));
        await eventually(
          `it waits for ${pattern}`,
          async () => {
            const state = await jobs.jobState(spec.name);
            seen.push(state);
            return state.phase === 'waiting' && pattern.test(state.why);
          },
          40_000,
        ).catch((error: unknown) => {
          throw new Error(`${String(error)}; it was ${JSON.stringify(seen.at(-1))}`);
        });
      } finally {
        await jobs.removeJob(spec.name);
        await jobs.close();
      }
      expect(await podsOf(spec)).toEqual([]);
    };

    test('doctor reports what it found, and each right that is missing', async () => {
      const { options } = harness();
      expect(await checkKubernetes(options)).toMatch(/^Kubernetes v1\.\d+\.\d+ at https:.*, 1 nodes, 2 GPUs/);
      const image = 'registry.example/nobody:1';
      expect(await checkKubernetes({ ...options, image })).toMatchObject({
        warning: expect.stringContaining(image) as unknown,
      });
      const place = { kubeconfig: join(folder, 'proxy.kubeconfig') };
      await expect(checkKubernetes({ ...options, place })).rejects.toThrow(
        /lacks rights: get jobs, .* create secrets, .*deploy\/README\.md/,
      );
    });

    test('an image that does not exist', () =>
      waitsFor({}, /the image localhost\/nobody-made-this:1 cannot be loaded/, {
        image: 'localhost/nobody-made-this:1',
      }));

    test('more than the quota', () =>
      waitsFor(
        { resources: { cpus: 100, memoryBytes: 64 * MIB, diskBytes: MIB } },
        /all that its quota allows.*cpu=100/,
      ));

    test('more than any machine has', () =>
      waitsFor(
        { resources: { cpus: 7, memoryBytes: 64 * MIB, diskBytes: MIB } },
        /no machine .* not enough free processors/,
      ));

    test('out of memory', async () => {
      const outcome = await runs({
        code: 'print("takes all", flush=True)\nx = b"x" * (400 * 1024 ** 2)',
        resources: { cpus: 0.5, memoryBytes: 128 * MIB, diskBytes: MIB },
      });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory' });
      expect(outcome.log).toMatch(/takes all\n(.*\n)*stopped: the job used more memory than its limit/);
    });

    test('a full disk', async () => {
      const code =
        'import time\nf = open("big", "wb")\nfor _ in range(500): f.write(b"x" * 2 ** 20)\nf.flush()\ntime.sleep(200)';
      const outcome = await runs({
        code,
        resources: { cpus: 0.5, memoryBytes: 128 * MIB, diskBytes: MIB },
        deadlineSeconds: 250,
      });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'exit' });
      expect(outcome.log).toMatch(/stopped: the job wrote more than its disk holds/);
    });

    test('a fork bomb ends with its job', async () => {
      const code =
        'import os, time\ncount = 0\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(100)\n    count += 1\nexcept OSError as error: print("stopped after", count, error)';
      const outcome = await runs({ code });
      expect(outcome).toMatchObject({ status: 'succeeded' });
      expect(outcome.log).toMatch(/stopped after [345]\d\d /);
    });

    test('a job that ignores SIGTERM is removed at once', async () => {
      const code =
        'import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint("ready", flush=True)\ntime.sleep(300)';
      const spec = pythonJob(harness().api, { code, deadlineSeconds: 300 });
      await harness().cluster.startJob(spec, token(spec));
      await says(spec, 'ready');
      await harness().cluster.removeJob(spec.name);
      expect(await podsOf(spec)).toEqual([]);
    });

    test('a pod that is deleted by hand', async () => {
      const spec = pythonJob(harness().api, { code: 'import time\nprint("at work", flush=True)\ntime.sleep(100)' });
      const { cluster } = harness();
      const watching = new AbortController();
      const seen: JobState[] = [];
      const watched = cluster.watchJobs(
        (name, state) => void (name === spec.name && seen.push(state)),
        watching.signal,
      );
      await cluster.startJob(spec, token(spec));
      await says(spec, 'at work');
      const pods = `/api/v1/namespaces/${namespaceName('ocdl-test', undefined)}/pods`;
      await cluster.client.ask('DELETE', pods, { query: { labelSelector: ofJob('ocdl-test', spec.name) } });
      await eventually('the watcher learns it', async () => seen.at(-1)?.phase === 'ended', 60_000);
      watching.abort();
      await watched;
      const last = seen.at(-1);
      expect(last).toMatchObject({ outcome: { status: 'failed', reason: 'killed' } });
      expect(last?.phase === 'ended' && last.outcome.log).toMatch(
        /at work\n(.*\n)*stopped: .*(deleted|ended from outside)/,
      );
      // The cluster marks the Job as failed a moment after its pod is gone.
      await eventually('the Job has failed', async () => (await cluster.jobState(spec.name)).phase === 'ended');
      expect(await cluster.jobState(spec.name)).toMatchObject({ outcome: { status: 'failed', reason: 'killed' } });
    });

    test('a worker that is gone, and two that start one job: it runs once', async () => {
      const code = 'import time\nprint("at work", flush=True)\ntime.sleep(8)\nprint("done")';
      const spec = pythonJob(harness().api, { code });
      const two = [createKubernetesCluster(harness().options), createKubernetesCluster(harness().options)];
      const issued: string[] = [];
      const once = async (): Promise<string> => {
        issued.push(spec.name);
        return token(spec)();
      };
      await Promise.all(two.map((jobs) => jobs.startJob(spec, once)));
      await Promise.all(two.map((jobs) => jobs.close()));
      await says(spec, 'at work');
      await harness().cluster.startJob(spec, noToken);
      expect(await podsOf(spec)).toHaveLength(1);
      expect(issued).toHaveLength(1);
      const outcome = await runJob(harness(), spec);
      expect([outcome.status, outcome.log.match(/at work|done/g)]).toEqual(['succeeded', ['at work', 'done']]);
    });

    test('a worker that ended before the token was there: the next one starts the job', async () => {
      const spec = pythonJob(harness().api, { code: 'print("done")' });
      const first = createKubernetesCluster(harness().options);
      const never = first.startJob(spec, () => new Promise<string>(() => undefined));
      void never;
      await eventually('the job exists', async () => (await podsOf(spec)).length === 1);
      const next = createKubernetesCluster({ ...harness().options, tokenWithinMs: 1_000 });
      await next.startJob(spec, token(spec));
      expect(await runJob(harness(), spec)).toMatchObject({ status: 'succeeded' });
      await Promise.all([first.close(), next.close()]);
    });

    test('an API server that starts again in the middle of a job and of a watch', async () => {
      const spec = pythonJob(harness().api, {
        code: 'import time\nprint("at work", flush=True)\ntime.sleep(10)\nprint("done")',
      });
      const { cluster } = harness();
      const watching = new AbortController();
      const seen: JobState[] = [];
      const watched = cluster.watchJobs(
        (name, state) => void (name === spec.name && seen.push(state)),
        watching.signal,
      );
      await cluster.startJob(spec, token(spec));
      await eventually('it runs', async () => seen.some(({ phase }) => phase === 'running'), 60_000);
      const server = readRunRecords(join(home, 'run')).find(({ name }) => name === 'kube-apiserver');
      expect(sendSignal(server?.child.pid ?? 0, 'SIGKILL')).not.toBe(false);
      await eventually('the watcher learns its end', async () => seen.at(-1)?.phase === 'ended', 120_000);
      watching.abort();
      await watched;
      expect(seen.at(-1)).toMatchObject({ outcome: { status: 'succeeded', log: 'at work\ndone\n' } });
      expect(harness().warnings.join('\n')).toMatch(/watch of (jobs|pods) was interrupted/);
    });

    test('the program finds the token nowhere: environment, files, processes, network', async () => {
      const code = `
import os, re, urllib.error, urllib.request
found, read = [], 0
for top in ("/", ):
    for folder, folders, files in os.walk(top):
        if folder == "/": folders[:] = [name for name in folders if name not in ("sys", "usr", "lib", "opt")]
        for name in files:
            path = os.path.join(folder, name)
            if path.endswith(("kmsg", "kcore", "/clear_refs", "main.py")) or not os.path.isfile(path): continue
            try:
                with open(path, "rb") as file: text = file.read(1 << 20)
            except OSError: continue
            read += 1
            if re.search(rb"token-[0-9a-f]{8}-", text): found.append(path)
print("found", found, "read more than 100:", read > 100)
print("environment", [name for name, value in os.environ.items() if "token-" in value])
print("account", os.path.exists("/var/run/secrets"), os.path.exists("/ocdl/data"), os.path.exists("/ocdl/work"))
print("user", os.getuid(), "others", sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()))
print("listening", [line.split()[1] for line in open("/proc/net/tcp") if line.split()[3] == "0A"])
try: urllib.request.urlopen(os.environ.get("API", "${harness().api.url}") + "/v1/jobs/x/inputs/code.tar")
except urllib.error.HTTPError as error: print("api", error.code)
try: open("/usr/local/x", "w")
except OSError as error: print("root", error.strerror)
try: os.setuid(0)
except OSError as error: print("setuid", error.strerror)
`;
      const outcome = await runs({ code });
      const [, pids = ''] = /others (\[.*\])/.exec(outcome.log) ?? [];
      expect(JSON.parse(pids)).toHaveLength(2);
      expect(outcome.log.replace(/others .*/, 'others')).toBe(
        'found [] read more than 100: True\nenvironment []\naccount False False False\nuser 10002 others\nlistening []\n' +
          'api 401\nroot Read-only file system\nsetuid Operation not permitted\n',
      );
    });
  });
});
