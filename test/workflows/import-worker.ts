// A worker that imports data, over given servers: in this process, or as a process of its own that a test kills.
import { join } from 'node:path';
import { NativeConnection, Worker } from '@temporalio/worker';
import { createAcquisitionActivities } from '../../activities/acquisition.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { createArchives } from '../../activities/adapters/sources/archives.ts';
import { createSources } from '../../activities/adapters/sources/sources.ts';
import { createModelCenterActivities } from '../../activities/model-center.ts';
import { createSigner } from '../../activities/signing.ts';
import { admitting, dataConverter, workflowTime } from '../../workers/bundle.ts';
import { allBeating } from '../../activities/heartbeat.ts';
import { createJobWorkers } from '../../workers/queues.ts';
import { taskQueues } from '../../workflows/messages.ts';

export interface ImportSettings {
  readonly address: string;
  readonly namespace: string;
  readonly databaseUrl: string;
  readonly home: string;
  readonly bundle: string;
  /** The one web server, which every name resolves to. */
  readonly site: { readonly port: number; readonly ca: string };
  readonly sftpHosts: readonly string[];
}

/** Opens stores and workers; `close` ends them in order. */
export async function startImportWorker(settings: ImportSettings) {
  const { address, namespace, databaseUrl, home, bundle, site, sftpHosts } = settings;
  const [records, areas, connection] = await Promise.all([
    createPostgresRecords({ url: databaseUrl }),
    createLocalDisk({ root: join(home, 'areas'), name: 'areas' }),
    NativeConnection.connect({ address }),
  ]);
  const at = (host: string): string => `https://${host}:${site.port}`;
  const signer = await createSigner(join(home, 'keys'));
  const importing = createAcquisitionActivities({
    records,
    areas,
    sources: createSources({
      guard: { ca: site.ca, allowAddresses: [`127.0.0.1:${site.port}`], resolve: async () => ['127.0.0.1'] },
      github: { apiUrl: at('api.github.test'), downloadHosts: [`codeload.github.test:${site.port}`] },
      maven: { url: `${at('data.example.org')}/maven2` },
      https: { hosts: [`data.example.org:${site.port}`] },
      sftp: { hosts: sftpHosts, secrets: join(home, 'secrets'), entries: 1_000 },
    }),
    archives: createArchives({ entries: 1_000, bytes: 64 * 2 ** 20, ratio: 200 }),
    scratch: join(home, 'imports'),
    importBytes: 64 * 2 ** 20,
  });
  const activities = allBeating({
    ...createModelCenterActivities({ records, areas, releases: areas, signer }),
    ...importing,
  });
  const common = {
    ...{ connection, namespace, activities, dataConverter, shutdownForceTime: '10 seconds' },
    ...admitting(records),
  } as const;
  const workers = await Promise.all([
    Worker.create({
      ...{ ...common, ...workflowTime, taskQueue: taskQueues.core, maxCachedWorkflows: 2 },
      workflowBundle: { codePath: bundle },
    }),
    // A cancellation arrives with a heartbeat, so heartbeats are not throttled.
    createJobWorkers({ ...common, maxHeartbeatThrottleInterval: '1 second' }),
  ]).then((made) => made.flat());
  const running = Promise.all(workers.map((worker) => worker.run()));
  return {
    records,
    areas,
    async close(): Promise<void> {
      for (const worker of workers) worker.shutdown();
      await running;
      await records.close();
      await connection.close();
    },
  };
}

if (import.meta.filename === process.argv[1]) {
  await startImportWorker(JSON.parse(process.argv[2] ?? '') as ImportSettings);
  // A worker without a parent must not outlive its test.
  process.on('disconnect', () => process.exit(1));
  process.send?.('ready');
}
