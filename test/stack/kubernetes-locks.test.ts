// Locks of projects on the stack's Kubernetes: pods get the packages as an archive. Runs with KUBERNETES=true.
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLockArchives } from '../../activities/adapters/kubernetes/lock-archives.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createArchives } from '../../activities/adapters/sources/archives.ts';
import type { ArtifactStore, JobSpec, LockArchives } from '../../activities/ports.ts';
import type { NamedArtifact } from '../../workflows/domain/model.ts';
import { openKubernetes, platformLock, type KubernetesHarness } from '../adapters/kubernetes-cluster.ts';
import { lockOf, makeWheel, startIndex, type PackageIndex } from '../capsule/wheels.ts';
import { pythonJob } from '../contracts/cluster.ts';
import { artifactOf, tarOf } from '../contracts/cluster-job-api.ts';
import { runJob } from '../contracts/run-job.ts';
import { capsulePython } from './images.ts';
import { describeKubernetes, patience, stackOn } from './own-cluster.ts';

/** The home of a stack that runs already: its cluster is used as it is. */
const given = process.env['OCDL_TEST_KUBERNETES_HOME'];

const thing = makeWheel({
  files: [['thing.py', 'value = 42\n\ndef main():\n    print("the program of the package")\n']],
  entryPoints: '[console_scripts]\nthing = thing:main\n',
});
/** A package that the image has too, in another version. */
const numpy = makeWheel({ name: 'numpy', version: '0.1', files: [['numpy/__init__.py', '__version__ = "0.1"\n']] });

describeKubernetes('locks of projects', ['kubernetes'], () => {
  const home = given ?? realpathSync(mkdtempSync(join(tmpdir(), 'ocdl-locks-')));
  if (given === undefined) {
    const { stack } = stackOn(home);
    beforeAll(async () => {
      const { code, said } = await stack('up', '--only', 'kubernetes', '--detach');
      if (code !== 0) throw new Error(said);
    }, patience);
  }
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-locks-of-'));
  const opened: { harness?: KubernetesHarness; index?: PackageIndex; store?: ArtifactStore; archives?: LockArchives } =
    {};
  beforeAll(async () => {
    opened.harness = await openKubernetes(join(home, 'kubernetes'));
    opened.index = await startIndex([thing, numpy]);
    opened.store = await createLocalDisk({ root: join(folder, 'areas'), name: 'areas' });
    opened.archives = createLockArchives({
      ...{ home: join(folder, 'home'), cache: join(folder, 'cache'), python: process.env['OCDL_PYTHON'] },
      ...{ index: opened.index.url, platformLock, imagePython: capsulePython, store: opened.store },
      archives: createArchives({ entries: 1, bytes: 1, ratio: 1 }),
      onWarn: (message) => process.stderr.write(`${message}\n`),
    });
  }, patience);
  afterAll(async () => {
    await opened.archives?.close();
    await opened.harness?.close();
    await opened.index?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const harness = (): KubernetesHarness => {
    if (opened.harness === undefined) throw new Error('the cluster did not open');
    return opened.harness;
  };

  /** A job whose API has the archive too. */
  const jobWith = (code: string, lock: string, packages: NamedArtifact, bytes: Uint8Array): JobSpec => {
    const { api } = harness();
    const spec = { ...pythonJob(api, { code, lock }), packages };
    const files = new Map<string, Uint8Array>([
      ['code.tar', tarOf({ 'main.py': code })],
      [packages.name, bytes],
    ]);
    api.open(spec.data.job, api.tokenOf(spec.data.job), files);
    return spec;
  };

  test('a job has the packages of its lock, read-only, instead of those of the image', async () => {
    const lock = lockOf(thing, numpy);
    const packages = await archiveOf(opened.archives, lock);
    const chunks: Uint8Array[] = [];
    for await (const chunk of (await opened.store?.read(packages.uri)) ?? []) chunks.push(chunk);
    const code = `
import os, subprocess, sys
import numpy, thing
print(thing.value, thing.__file__, numpy.__version__, sys.prefix)
print(subprocess.run(["/ocdl/environment/bin/thing"], capture_output=True, text=True).stdout.strip())
try: import scipy
except ImportError as error: print(error)
for path in ("/ocdl/environment/x", thing.__file__):
    try: open(path, "w")
    except OSError as error: print(error.strerror)
print(sorted(os.listdir("/job/in")), sorted(os.listdir("/ocdl")))
`;
    const outcome = await runJob(harness(), jobWith(code, lock, packages, Buffer.concat(chunks)));
    expect(outcome).toMatchObject({ status: 'succeeded' });
    expect(outcome.log).toBe(
      `42 /ocdl/environment/lib/python${capsulePython}/site-packages/thing.py 0.1 /ocdl/environment\n` +
        "the program of the package\nNo module named 'scipy'\nRead-only file system\nRead-only file system\n" +
        "['code', 'code.tar'] ['environment', 'run', 'upload']\n",
    );
  }, 600_000);

  test('packages for another Python end the job with the reason', async () => {
    const madeFor = { python: '3.99', machine: 'x86_64', glibc: '2.1' };
    const bytes = tarOf({ 'made-for.json': JSON.stringify(madeFor) });
    const packages = { ...artifactOf('lock.tar', bytes), name: 'lock.tar' };
    const outcome = await runJob(harness(), jobWith('print("never")', lockOf(thing), packages, bytes));
    expect(outcome).toMatchObject({ status: 'failed', reason: 'lock' });
    expect(outcome.log).toMatch(
      /do not fit the image: it has Python 3\.\d+, but OCDL_KUBERNETES_IMAGE_PYTHON is 3\.99/,
    );
  }, 600_000);

  test('without the archive, the job is refused', async () => {
    const spec = pythonJob(harness().api, { code: 'pass', lock: lockOf(thing) });
    await expect(harness().cluster.startJob(spec, () => Promise.resolve('t'))).rejects.toThrow(
      /its lock is not that of the capsule image .* the archive of its packages is missing/,
    );
  });
});

async function archiveOf(archives: LockArchives | undefined, lock: string): Promise<NamedArtifact> {
  for (;;) {
    const found = await archives?.find(lock);
    if (found && 'archive' in found && found.archive) return found.archive;
    await sleep(100);
  }
}
