// A worker that the test kills: runs a long job and a service, and writes the service's address when it is ready.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pythonJob } from '../../contracts/cluster.ts';
import { runJob } from '../../contracts/run-job.ts';
import { openLocalCluster } from '../local-cluster.ts';

const [parent = '', marker = '', sandbox] = process.argv.slice(2);
const { cluster, api, model } = await openLocalCluster({
  sandbox: sandbox === 'none' ? 'none' : 'bubblewrap',
  home: join(parent, 'home'),
});
const code = 'import time; time.sleep(300)';
const spec = pythonJob(api, { name: 'doomed', code, argv: ['python', 'in/code/main.py', `${marker}-job`] });
const job = runJob({ cluster, api }, spec);
const service = await cluster.startService(
  { name: 'doomed', files: model, version: '1', compute: 'cpu' },
  new AbortController().signal,
);
writeFileSync(join(parent, 'service-is-ready'), service.address);
await job;
