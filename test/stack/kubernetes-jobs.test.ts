// Jobs as pods of the stack's Kubernetes: the contract, and what can go wrong on a cluster. Runs with KUBERNETES=true.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openKubernetes } from '../adapters/kubernetes-cluster.ts';
import { clusterContract } from '../contracts/cluster.ts';
import { describeKubernetes, patience, stackOn } from './own-cluster.ts';

/** The home of a stack that runs already: its cluster is used as it is. */
const given = process.env['OCDL_TEST_KUBERNETES_HOME'];

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

  clusterContract('Kubernetes', () => openKubernetes(folder));
});
