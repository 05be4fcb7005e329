// The watcher of jobs with a real record, cluster and listener for pods: its process is killed, and nothing is trained twice.
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { pino } from 'pino';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { JobEnd } from '../../activities/jobs.ts';
import { createDataApp } from '../../api/app.ts';
import { defaultLimits, type ApiDeps } from '../../api/deps.ts';
import { nodeAddress } from '../../deploy/stack/kubernetes/host.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { openKubernetes, type KubernetesHarness } from '../adapters/kubernetes-cluster.ts';
import { tarOf } from '../contracts/cluster-job-api.ts';
import { eventually } from '../contracts/cluster.ts';
import { queuedJob } from '../contracts/records/jobs.ts';
import { createScene } from '../contracts/records.ts';
import { freshDatabase } from '../servers.ts';
import { describeKubernetes, patience, stackOn } from './own-cluster.ts';

/** The home of a stack that runs already: its cluster is used as it is. */
const given = process.env['OCDL_TEST_KUBERNETES_HOME'];
const SLOW_MS = 300_000;

describeKubernetes('a worker that is killed', ['kubernetes'], () => {
  const home = given ?? realpathSync(mkdtempSync(join(tmpdir(), 'ocdl-watcher-')));
  if (given === undefined) {
    const { stack } = stackOn(home);
    beforeAll(async () => {
      const { code, said } = await stack('up', '--only', 'kubernetes', '--detach');
      if (code !== 0) throw new Error(said);
    }, patience);
  }
  const opened: { harness?: KubernetesHarness; server?: Server } = {};
  const children: ChildProcess[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-watcher-of-'));
  beforeAll(async () => {
    opened.harness = await openKubernetes(join(home, 'kubernetes'));
  }, patience);
  afterAll(async () => {
    for (const child of children) child.kill('SIGKILL');
    await opened.harness?.close();
    opened.server?.close();
    opened.server?.closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  });

  test(
    'in mid-training: the next one takes the job over, which trains once, with one token',
    async () => {
      const databaseUrl = await freshDatabase();
      const records = await createPostgresRecords({ url: databaseUrl });
      const areas = await createLocalDisk({ root: join(folder, 'areas'), name: 'areas' });
      const log = pino({ level: 'silent' });
      const deps = {
        records,
        areas,
        releases: areas,
        log,
        limits: { ...defaultLimits, hosts: 'any' },
        counters: () => ({}),
      };
      const { app } = createDataApp(deps as unknown as ApiDeps);
      const server = createAdaptorServer({ fetch: app.fetch }) as Server;
      opened.server = server;
      await new Promise<void>((resolve) => server.listen(0, nodeAddress, resolve));
      const dataUrl = `http://${nodeAddress}:${(server.address() as AddressInfo).port}`;

      const scene = createScene();
      const plain = queuedJob(scene, 'w');
      const code = `
import os, time
print("epoch 1", flush=True)
time.sleep(25)
open(os.path.join(os.environ["OCDL_OUTPUTS"], "model.bin"), "w").write("trained")
print("epoch 2", flush=True)
`;
      const tree = async function* () {
        yield tarOf({ 'main.py': code });
      };
      const stored = await areas.write(`common/${scene.project}/code.tar` as StorePath, tree());
      const location = { area: 'common', project: scene.project, path: 'out/model.bin' } as const;
      const job = {
        ...plain,
        job: {
          ...{ ...plain.job, argv: ['python', 'in/code/main.py'], deadlineSeconds: 120 },
          inputs: [{ ...stored, name: 'code.tar', unpack: true }],
          outputs: [{ name: 'model.bin', required: true, location }],
        },
      };
      const { options, cluster } = opened.harness ?? {};
      const said: string[] = [];
      const worker = (): ChildProcess => {
        const setting = { databaseUrl, areas: join(folder, 'areas'), options: { ...options, dataUrl } };
        const child = fork(join(import.meta.dirname, 'stand-ins/watching-worker.ts'), [JSON.stringify(setting)], {
          execArgv: ['--import', 'tsx'],
        });
        child.on('message', ({ what }: { what: string }) => void said.push(what));
        children.push(child);
        return child;
      };
      try {
        await records.queueJob(job);
        const first = worker();
        const isAtWork = async (): Promise<boolean> =>
          (await records.job(job.name))?.state === 'running' && /epoch 1/.test((await cluster?.jobLog(job.name)) ?? '');
        await eventually('it trains', isAtWork, SLOW_MS);
        first.kill('SIGKILL');
        await new Promise((resolve) => first.once('close', resolve));
        worker();
        await eventually('its end', async () => said.includes('completed'), SLOW_MS);
        expect(await records.step<JobEnd>(job.workflowId, 'ended')).toEqual({
          status: 'succeeded',
          log: 'epoch 1\nepoch 2\n',
          ran: { pool: 'local', reason: 'pool local is first in order and has free places' },
        });
        expect(said.filter((what) => what === 'started')).toHaveLength(1);
        expect(await records.tokens(job.name)).toHaveLength(1);
        await eventually('its row is gone', async () => (await records.job(job.name)) === undefined, SLOW_MS);
        expect(await areas.stat(areas.uri(`common/${scene.project}/out/model.bin` as StorePath))).toMatchObject({
          bytes: 7,
        });
        expect(await cluster?.jobState(job.name)).toEqual({ phase: 'missing' });
      } finally {
        for (const child of children) child.kill('SIGKILL');
        await records.close();
      }
    },
    2 * SLOW_MS,
  );
});
