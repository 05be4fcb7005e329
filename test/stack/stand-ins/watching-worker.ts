// A worker that a test kills: it watches the jobs of a real record on a real cluster, and Temporal answers as if all were well.
import { z } from 'zod';
import { createKubernetesCluster, type KubernetesOptions } from '../../../activities/adapters/kubernetes/cluster.ts';
import { createLocalDisk } from '../../../activities/adapters/local-disk.ts';
import { createPostgresRecords } from '../../../activities/adapters/postgres/records.ts';
import { watchJobs, type JobWatchDeps } from '../../../workers/job-watch.ts';
import { testPool } from '../../contracts/records/jobs.ts';

const given = z
  .object({ databaseUrl: z.string(), areas: z.string(), options: z.custom<KubernetesOptions>() })
  .parse(JSON.parse(process.argv[2] ?? ''));
const jobs = createKubernetesCluster(given.options);
const say = (what: string, name: string): void => void process.send?.({ what, name });
watchJobs({
  records: await createPostgresRecords({ url: given.databaseUrl }),
  areas: await createLocalDisk({ root: given.areas, name: 'areas' }),
  cluster: {
    ...jobs,
    // The machine of the test has two processors, which a job of the platform would take alone.
    startJob: async (spec: Parameters<typeof jobs.startJob>[0], token: () => Promise<string>) => {
      const resources = { cpus: 0.5, memoryBytes: 256 * 1024 ** 2, diskBytes: 64 * 1024 ** 2 };
      await jobs.startJob({ ...spec, resources }, () => {
        say('started', spec.name);
        return token();
      });
    },
  },
  client: {
    activity: {
      heartbeat: () => Promise.resolve(),
      complete: () => {
        say('completed', '');
        return Promise.resolve();
      },
    },
  },
  ...{ pool: testPool('kubernetes', { kind: 'kubernetes' }), earlier: [], apiUrl: given.options.dataUrl },
  onWarn: (message: string) => process.stderr.write(`${message}\n`),
} as unknown as JobWatchDeps);
