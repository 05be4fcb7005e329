// Jobs and services as local processes: the contract with and without sandbox, limits, floods, and a worker that is killed.
import { test } from '@jest/globals';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { failure } from '../../activities/failures.ts';
import type { JobOutcome } from '../../activities/ports.ts';
import { clusterContract, eventually, pythonJob, type JobGiven } from '../contracts/cluster.ts';
import { runJob } from '../contracts/run-job.ts';
import { platformEnvironment } from '../python.ts';
import { watchHeldMemory } from './held-memory.ts';
import { openLocalCluster, processesWith, sandboxForTests, type LocalHarness } from './local-cluster.ts';

const MIB = 1024 ** 2;
const watch = { signal: new AbortController().signal };
const hasSandbox = await sandboxForTests('the contract, the limits and the services of sandboxed local jobs');

clusterContract('local processes without a sandbox', () => openLocalCluster({ sandbox: 'none' }));

if (hasSandbox) {
  clusterContract('local processes in a sandbox', () => openLocalCluster({ sandbox: 'bubblewrap' }));

  describe('limits of sandboxed jobs', () => {
    const opened: { harness?: LocalHarness } = {};
    const harness = (): LocalHarness => opened.harness ?? assert.fail('the cluster did not open');
    const run = (given: JobGiven): Promise<JobOutcome> => runJob(harness(), pythonJob(harness().api, given));
    const resources = { cpus: 1, memoryBytes: 256 * MIB, diskBytes: 16 * MIB };

    beforeAll(async () => {
      opened.harness = await openLocalCluster({ sandbox: 'bubblewrap' });
    });
    afterAll(() => harness().close());

    test('a job that allocates more than its memory limit fails for that reason', async () => {
      const outcome = await run({ code: 'print(len(bytearray(1 << 30)))', resources });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory' });
    });

    test('a job whose processes exceed the memory limit together is stopped', async () => {
      const code = `
import os, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(os.urandom(1 << 20)) * 120
        time.sleep(60)
time.sleep(60)
`;
      const outcome = await run({ code, resources });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
      expect(outcome.log).toMatch(/resources\.memoryBytes/);
    });

    test('the temporary folders of a job are limited', async () => {
      const code = `
for folder in ("/tmp", "/dev/shm"):
    try:
        with open(folder + "/pile", "wb") as file:
            for _ in range(15): file.write(b"x" * (8 << 20))
            file.flush()
        print(folder, "took it all")
    except OSError as error:
        print(folder, "refused", error.errno)
`;
      const outcome = await run({ code, resources: { ...resources, diskBytes: 1024 * MIB } });
      expect(outcome.log).toMatch(/\/tmp refused 28/);
      expect(outcome.log).toMatch(/\/dev\/shm refused 28/);
    });

    test('files in temporary folders count towards the memory of the job', async () => {
      const code = `
import time
for folder in ("/tmp", "/dev/shm"): open(folder + "/pile", "wb").write(b"x" * (60 << 20))
held = b"x" * (150 << 20)
time.sleep(60)
`;
      const outcome = await run({ code, resources: { ...resources, diskBytes: 1024 * MIB } });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
      expect(outcome.log).toMatch(/resources\.memoryBytes/);
    });

    test('empty files in temporary folders count towards the memory of the job', async () => {
      const code = `
import os, time
for number in range(150_000): os.close(os.open("/tmp/%d" % number, os.O_CREAT | os.O_WRONLY))
print("made them all", flush=True)
time.sleep(60)
`;
      const outcome = await run({ code, resources: { ...resources, memoryBytes: 128 * MIB }, deadlineSeconds: 30 });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
      expect(outcome.log).toMatch(/resources\.memoryBytes/);
    });

    test('page tables of memory that is only read count towards the memory of the job', async () => {
      const code = `
import mmap, time
size = 1 << 37
held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
for at in range(0, size, 1 << 21): held[at]
print("read it all", flush=True)
time.sleep(60)
`;
      const outcome = await run({ code, resources: { ...resources, memoryBytes: 128 * MIB }, deadlineSeconds: 30 });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
      expect(outcome.log).toMatch(/resources\.memoryBytes/);
    });

    test('buffers of sockets count towards the memory of the job', async () => {
      const code = `
import socket, time
pairs = [socket.socketpair() for _ in range(400)]
for pair in pairs:
    for end in pair:
        end.setblocking(False)
        try:
            while True: end.send(b"x" * 4096)
        except BlockingIOError: pass
print("filled them all", flush=True)
time.sleep(60)
`;
      const outcome = await run({ code, resources: { ...resources, memoryBytes: 128 * MIB }, deadlineSeconds: 30 });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
    });

    test('buffers of a socket keep their size', async () => {
      const code = `
import socket
one = socket.socket(socket.AF_UNIX)
options = (socket.SO_SNDBUF, socket.SO_RCVBUF)
before = [one.getsockopt(socket.SOL_SOCKET, option) for option in options]
for option in options: one.setsockopt(socket.SOL_SOCKET, option, before[0] * 4)
one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
same = before == [one.getsockopt(socket.SOL_SOCKET, option) for option in options]
print("same", same, "others", one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
`;
      expect((await run({ code, resources })).log).toMatch(/same True others 1/);
    });

    test('an in-memory file that is also mapped counts once', async () => {
      const code = `
import mmap, time
maps = []
for folder in ("/tmp", "/dev/shm"):
    with open(folder + "/pile", "w+b") as file:
        file.write(b"x" * (60 << 20))
        file.flush()
        maps.append(mmap.mmap(file.fileno(), 0))
print("sum", sum(sum(one[::4096]) for one in maps))
held = b"x" * (20 << 20)
time.sleep(1.5)
`;
      const outcome = await run({ code, resources: { ...resources, diskBytes: 1024 * MIB } });
      expect(outcome.log).toMatch(/sum 3686400/);
      expect(outcome).toMatchObject({ status: 'succeeded' });
    });

    test('a job cannot keep memory that belongs to no process', async () => {
      const code = `
import os
held = []
try:
    for number in range(64):
        held.append(os.memfd_create("bomb%d" % number))
        os.write(held[-1], b"x" * (16 << 20))
    print("took a gigabyte")
except OSError as error:
    print("refused with", error.errno)
`;
      const outcome = await run({ code, resources });
      expect(outcome.log).toMatch(/refused with 38/);
    });

    test('a job can start only a limited number of processes', async () => {
      const code = `
import os, time
started = 0
for _ in range(10000):
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        started += 1
    except OSError:
        break
print("started", started)
`;
      const outcome = await run({ code, resources: { ...resources, memoryBytes: 2048 * MIB } });
      const started = Number(/started (\d+)/.exec(outcome.log)?.[1]);
      expect(outcome.status).toBe('succeeded');
      expect(started).toBeGreaterThan(10);
      expect(started).toBeLessThan(1_000);
    });

    test('a file beyond the disk limit cannot be written', async () => {
      const code = 'import os\nopen(os.environ["OCDL_OUTPUTS"] + "/m", "wb").write(b"x" * (32 << 20))';
      const outcome = await run({ code, resources });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'exit', exitCode: 1 });
      expect(outcome.log).toMatch(/File too large/);
    });

    test('a job whose files exceed the disk limit is stopped', async () => {
      const code = `
import os, time
for number in range(8):
    open("part%d" % number, "wb").write(b"x" * (4 << 20))
time.sleep(60)
`;
      const outcome = await run({ code, resources });
      expect(outcome).toMatchObject({ status: 'failed', reason: 'exit', exitCode: null });
      expect(outcome.log).toMatch(/resources\.diskBytes/);
    });

    test('a gigabyte of log is accepted in bounded space, keeping the last lines', async () => {
      const code = `
import sys
line = b"y" * 63 + b"\\n"
for _ in range(1024): sys.stdout.buffer.write(line * 16384)
sys.stdout.buffer.flush()
print("the very last line")
sys.exit(3)
`;
      const spec = pythonJob(harness().api, { code, deadlineSeconds: 300 });
      const memory = watchHeldMemory();
      const looks = setInterval(() => memory.look(), 500);
      const outcome = await runJob(harness(), spec).finally(() => clearInterval(looks));
      expect(outcome).toMatchObject({ status: 'failed', exitCode: 3 });
      expect(outcome.log.slice(-40)).toMatch(/the very last line\n?$/);
      expect(Buffer.byteLength(outcome.log)).toBeLessThanOrEqual(64 * 1024);
      expect(statSync(join(harness().home, 'jobs', spec.name, 'log')).size).toBeLessThan(9 * MIB);
      expect(memory.growth()).toBeLessThan(16);
    });

    test('an endless line does not fill memory', async () => {
      const code = 'import sys\nfor _ in range(64): sys.stdout.write("z" * (1 << 20))\nprint("!")';
      const outcome = await run({ code });
      expect(outcome.status).toBe('succeeded');
      expect(outcome.log.slice(-8).trim()).toMatch(/^z+!$/);
    });

    test('a folder to which the job has removed all permissions is still removed', async () => {
      const code = 'import os\nos.makedirs("closed/inner")\nos.chmod("closed", 0)';
      const spec = pythonJob(harness().api, { code });
      expect(await runJob(harness(), spec)).toMatchObject({ status: 'succeeded' });
      expect(existsSync(join(harness().home, 'jobs', spec.name))).toBe(false);
    });

    test('a failed job leaves its log, without data, until it is removed', async () => {
      const spec = pythonJob(harness().api, { code: 'pass', inputs: [], argv: ['false'] });
      const folder = join(harness().home, 'jobs', spec.name);
      expect(await runJob(harness(), spec)).toMatchObject({ status: 'failed' });
      expect(readdirSync(folder)).toEqual(['log']);
      await harness().cluster.removeJob(spec.name);
      expect(existsSync(folder)).toBe(false);
      expect(readdirSync(join(harness().home, 'outcomes'))).not.toContain(`${spec.name}.json`);
    });

    test('an environment that cannot be made fails the job with its message', async () => {
      const failing = await openLocalCluster({ environment: () => Promise.reject(new Error('no such package: x')) });
      try {
        const outcome = await runJob(failing, pythonJob(failing.api, { code: 'pass' }));
        expect(outcome).toMatchObject({ status: 'failed', reason: 'environment' });
        expect(outcome.log).toMatch(/no such package: x/);
      } finally {
        await failing.close();
      }
    });

    test('a lock that no environment can be made from is a non-retryable failure', async () => {
      const refused = failure('InvalidInput', 'line 3 of the lock names no version');
      const failing = await openLocalCluster({ environment: () => Promise.reject(refused) });
      try {
        const outcome = await runJob(failing, pythonJob(failing.api, { code: 'pass' }));
        expect(outcome).toMatchObject({ status: 'failed', reason: 'lock' });
        expect(outcome.log).toMatch(/line 3 of the lock/);
      } finally {
        await failing.close();
      }
    });

    test('a cancelled job waits until the making of its environment has stopped', async () => {
      const seen = { aborted: false, ended: false };
      const making = await openLocalCluster({
        environment: ({ signal }) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              seen.aborted = true;
              setTimeout(() => {
                seen.ended = true;
                reject(new Error('ended'));
              }, 200);
            });
          }),
      });
      try {
        const abort = new AbortController();
        const given = runJob(making, pythonJob(making.api, { code: 'pass' }), { signal: abort.signal });
        setTimeout(() => abort.abort(new Error('withdrawn')), 100);
        await assert.rejects(given, /withdrawn/);
        expect(seen).toEqual({ aborted: true, ended: true });
      } finally {
        await making.close();
      }
    });

    test('numpy and ONNX Runtime work within the limits', async () => {
      const environment = await platformEnvironment();
      const real = await openLocalCluster({ environment: () => Promise.resolve(environment) });
      try {
        const code =
          'import numpy, sklearn, onnxruntime, ocdl\nprint("sum", numpy.ones((500, 500)).dot(numpy.ones(500)).sum())';
        const spec = pythonJob(real.api, { code, resources: { ...resources, memoryBytes: 1024 * MIB } });
        const outcome = await runJob(real, spec);
        expect(outcome).toMatchObject({ status: 'succeeded' });
        expect(outcome.log).toMatch(/sum 250000/);
      } finally {
        await real.close();
      }
    }, 300_000);
  });

  describe('services in the sandbox', () => {
    const service = { name: 'served', version: '1', compute: 'cpu' } as const;

    test('a service that is not ready in time is stopped, with its last lines in the error', async () => {
      const inferenceEntry = fileURLToPath(new URL('./stand-ins/never-ready-service.ts', import.meta.url));
      const slow = await openLocalCluster({ sandbox: 'bubblewrap', inferenceEntry, readyWithinMs: 3_000 });
      try {
        await assert.rejects(
          slow.cluster.startService({ ...service, files: slow.model }, watch.signal),
          /not ready within 3 seconds.*still loading; interfaces other than loopback: 0/s,
        );
        expect(processesWith(slow.home)).toEqual([]);
      } finally {
        await slow.close();
      }
    });

    test('a home with a long path still gets a valid socket path', async () => {
      const parent = mkdtempSync(join(tmpdir(), 'ocdl-long-'));
      const long = await openLocalCluster({ sandbox: 'bubblewrap', home: join(parent, 'h'.repeat(120)) });
      try {
        const { address } = await long.cluster.startService({ ...service, files: long.model }, watch.signal);
        expect(Buffer.byteLength(address)).toBeLessThanOrEqual('unix:'.length + 107);
        expect(await long.get(address, '/v2/health/ready')).toBe(200);
      } finally {
        await long.close();
        rmSync(parent, { recursive: true, force: true });
      }
    });
  });

  describe('a killed worker', () => {
    test('its sandboxed job and service end with it, and the next worker starts the same names again', async () => {
      const left = await killWorker('bubblewrap');
      try {
        await eventually('the job and the service have died with it', () => Promise.resolve(!left.isRunning()), 5_000);
        await startAgain(left.parent, 'bubblewrap');
      } finally {
        left.remove();
      }
    });
  });
}

test('the next worker uploads the outputs of a job whose worker ended while the API was unavailable', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'ocdl-next-'));
  const home = join(parent, 'home');
  const patience = { fetchSeconds: 60, uploadSeconds: 60 };
  const first = await openLocalCluster({ home, patience });
  const code = 'import os, random; open(os.environ["OCDL_OUTPUTS"] + "/m", "w").write(str(random.random()))';
  const spec = pythonJob(first.api, { code, outputs: [{ name: 'm', required: true }] });
  const made = join(home, 'jobs', spec.name, 'out', 'm');
  const job = { ...spec, argv: ['sh', '-c', 'python3 in/code/main.py && : > out/done && sleep 2'] };
  try {
    const token = (): Promise<string> => Promise.resolve(first.api.tokenOf(spec.data.job));
    await first.cluster.startJob(job, token);
    await eventually('the program', () => Promise.resolve(existsSync(join(made, '..', 'done'))));
    first.api.setAway(true);
    await eventually('the upload is refused', () =>
      Promise.resolve(first.api.requests.some((request) => request.startsWith('PUT'))),
    );
    await first.cluster.close();
    const [value, left] = [readFileSync(made, 'utf8'), readdirSync(join(home, 'jobs', spec.name))];
    // The inputs are not needed any more, and may be large.
    expect(left).not.toContain('in');
    first.api.setAway(false);
    const next = await openLocalCluster({ home });
    try {
      expect(await next.cluster.jobState(spec.name)).toEqual({ phase: 'missing' });
      await next.cluster.startJob(job, token);
      expect(await runJob({ cluster: next.cluster, api: first.api }, job)).toMatchObject({ status: 'succeeded' });
      expect(first.api.outputs(spec.data.job).get('m')?.toString()).toBe(value);
      expect(existsSync(join(home, 'jobs', spec.name))).toBe(false);
    } finally {
      await next.close();
    }
  } finally {
    await first.close();
    rmSync(parent, { recursive: true, force: true });
  }
});

test('the next worker knows how a job ended, and starts an interrupted one again with what it had said', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'ocdl-next-'));
  const home = join(parent, 'home');
  const first = await openLocalCluster({ home });
  const token = (): Promise<string> => Promise.resolve(first.api.tokenOf('any'));
  const failing = pythonJob(first.api, { code: 'import sys; sys.exit(3)' });
  const code = 'import time; print("epoch 1", flush=True); time.sleep(3)';
  const long = pythonJob(first.api, { code });
  try {
    const outcome = await runJob(first, failing);
    expect(outcome).toMatchObject({ status: 'failed', exitCode: 3 });
    await first.cluster.startJob(long, () => Promise.resolve(first.api.tokenOf(long.data.job)));
    await eventually('it runs', async () => (await first.cluster.jobLog(long.name)).includes('epoch 1'));
    await first.cluster.close();
    const next = await openLocalCluster({ home });
    try {
      await next.cluster.startJob(failing, token);
      expect(await next.cluster.jobState(failing.name)).toEqual({ phase: 'ended', outcome });
      expect(await next.cluster.jobState(long.name)).toEqual({ phase: 'missing' });
      const again = await runJob({ cluster: next.cluster, api: first.api }, long);
      expect(again).toMatchObject({ status: 'succeeded' });
      expect(again.log).toMatch(/epoch 1\n\(interrupted: [^\n]*starts from the beginning\)\n[^]*epoch 1\n/);
    } finally {
      await next.close();
    }
  } finally {
    await first.close();
    rmSync(parent, { recursive: true, force: true });
  }
});

test('without a sandbox, its job and service keep running, and the next worker stops them first', async () => {
  const left = await killWorker('none');
  try {
    expect(left.isRunning()).toBe(true);
    await startAgain(left.parent, 'none');
    expect(left.isRunning()).toBe(false);
  } finally {
    left.remove();
  }
});

/** Starts a worker with a job and a service named `doomed`, and kills it once both run. */
async function killWorker(
  sandbox: 'bubblewrap' | 'none',
): Promise<{ parent: string; isRunning: () => boolean; remove: () => void }> {
  const parent = mkdtempSync(join(tmpdir(), 'ocdl-killed-'));
  const marker = `marker-${randomUUID()}-job`;
  const program = fileURLToPath(new URL('./stand-ins/doomed-worker.ts', import.meta.url));
  const argv = ['--import', 'tsx', program, parent, marker.replace(/-job$/, ''), sandbox];
  const worker = spawn(process.execPath, argv, { stdio: 'inherit' });
  const left = (): readonly number[] => [...processesWith(marker), ...processesWith(join(parent, 'home'))];
  try {
    await eventually('the job runs', () => Promise.resolve(processesWith(marker).length > 0), 30_000);
    const ready = join(parent, 'service-is-ready');
    await eventually('the service is ready', () => Promise.resolve(existsSync(ready)), 30_000);
  } finally {
    worker.kill('SIGKILL');
  }
  const isRunning = (): boolean => left().length > 0;
  const remove = (): void => {
    for (const pid of left()) process.kill(pid, 'SIGKILL');
    rmSync(parent, { recursive: true, force: true });
  };
  return { parent, isRunning, remove };
}

async function startAgain(parent: string, sandbox: 'bubblewrap' | 'none'): Promise<void> {
  const next = await openLocalCluster({ sandbox, home: join(parent, 'home') });
  try {
    const spec = pythonJob(next.api, { name: 'doomed', code: 'print("again")' });
    expect(await runJob(next, spec)).toMatchObject({ status: 'succeeded' });
    const service = { name: 'doomed', files: next.model, version: '2', compute: 'cpu' } as const;
    const { address } = await next.cluster.startService(service, watch.signal);
    expect(await next.get(address, '/v2/health/ready')).toBe(200);
  } finally {
    await next.close();
  }
}

describe('if bubblewrap does not work', () => {
  const detect = () => Promise.resolve({ kind: 'none', why: 'there is none' } as const);

  test('no job or service runs, and the error says why and what to do', async () => {
    const harness = await openLocalCluster({ detect });
    try {
      expect(harness.warnings).toHaveLength(1);
      expect(harness.warnings[0]).toMatch(
        /runs no jobs or model services.*there is none.*OCDL_JOBS_WITHOUT_SANDBOX=true/s,
      );
      const spec = pythonJob(harness.api, { code: 'pass' });
      await assert.rejects(runJob(harness, spec), {
        type: 'JobFailed',
        nonRetryable: true,
        message: /runs no jobs or model services.*apt-get install bubblewrap/s,
      });
      const service = { name: 'served', files: harness.model, version: '1', compute: 'cpu' } as const;
      await assert.rejects(harness.cluster.startService(service, watch.signal), /OCDL_JOBS_WITHOUT_SANDBOX/);
      expect(readdirSync(join(harness.home, 'jobs'))).toEqual([]);
    } finally {
      await harness.close();
    }
  });

  test('jobs run if the operator has allowed it, with a warning', async () => {
    const harness = await openLocalCluster({ detect, sandbox: 'if-possible' });
    try {
      expect(harness.warnings[0]).toMatch(/WITHOUT a sandbox \(there is none\)/);
      expect(await runJob(harness, pythonJob(harness.api, { code: 'pass' }))).toMatchObject({
        status: 'succeeded',
      });
    } finally {
      await harness.close();
    }
  });

  test('a cluster that requires it does not open', async () => {
    await assert.rejects(
      openLocalCluster({ detect, sandbox: 'bubblewrap' }),
      /bubblewrap is required but does not work/,
    );
  });
});

describe('without a sandbox', () => {
  test('the warning explains the consequences once', async () => {
    const harness = await openLocalCluster({ sandbox: 'none' });
    try {
      expect(harness.cluster.sandbox).toBe('none');
      expect(harness.warnings).toHaveLength(1);
      expect(harness.warnings[0]).toMatch(/WITHOUT a sandbox/);
    } finally {
      await harness.close();
    }
  });

  const hasNoGpu = !existsSync('/dev/nvidiactl') || process.env.CI === 'true';
  if (!hasNoGpu) process.stderr.write('SKIPPED: a GPU job on a machine without a GPU; this machine has one.\n');
  (hasNoGpu ? test : test.skip)('a GPU job on a machine without one is refused', async () => {
    const harness = await openLocalCluster({ sandbox: 'none' });
    try {
      const spec = pythonJob(harness.api, {
        code: 'pass',
        resources: { cpus: 1, memoryBytes: 2 ** 29, diskBytes: 2 ** 26, gpus: 65 },
      });
      await assert.rejects(runJob(harness, spec), /no GPU/);
    } finally {
      await harness.close();
    }
  });
});
