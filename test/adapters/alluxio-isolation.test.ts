// Only the platform can connect to Alluxio, which has no authentication, and to its HDFS: their ports are on loopback and closed to jobs.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import { isLoopback, listeners, socketsOf } from '../../deploy/stack/listeners.ts';
import { pythonJob } from '../contracts/cluster.ts';
import { alluxioServer, describeWith, hdfsServer } from '../servers.ts';
import { runFolder } from '../servers-stop.ts';
import { runJob } from '../contracts/run-job.ts';
import { openLocalCluster, sandboxForTests, type LocalHarness } from './local-cluster.ts';

/** Java servers start. */
const TIMEOUT_MS = 300_000;
const hasSandbox = await sandboxForTests('that jobs reach neither Alluxio nor HDFS');

describeWith(['hdfs', 'alluxio'], 'Alluxio and its HDFS', () => {
  let ports: Readonly<Record<string, number>> = {};
  beforeAll(async () => {
    ({ ports } = await alluxioServer());
  }, TIMEOUT_MS);

  it('listen only on the loopback', () => {
    const parts = ['alluxio-master', 'alluxio-worker', 'alluxio-proxy'];
    const running = readRunRecords(join(runFolder(), 'run')).filter(({ name }) => parts.includes(name));
    const sockets = new Set(running.flatMap(({ child }) => [...socketsOf(child.pid)]));
    assert.equal(Object.keys(ports).length, 5);
    const theirs = listeners().filter(({ inode }) => sockets.has(inode));
    // All expected listeners are found; otherwise the check of /proc would prove nothing.
    for (const [name, port] of Object.entries(ports))
      assert.ok(
        theirs.some((each) => each.port === port),
        `${name} (${port}) is not seen to listen`,
      );
    assert.deepEqual(
      theirs.filter((each) => !isLoopback(each)),
      [],
    );
  });

  (hasSandbox ? it : it.skip)(
    'are out of reach for a job, which reaches them without its sandbox',
    async () => {
      const parent = mkdtempSync('/var/tmp/ocdl-alluxio-isolation-');
      const opened: LocalHarness[] = [];
      try {
        const inside = await openLocalCluster({ sandbox: 'bubblewrap', home: join(parent, 'home') });
        opened.push(inside);
        const bare = await openLocalCluster({ sandbox: 'none' });
        opened.push(bare);
        const { url: webHdfs, rpc } = await hdfsServer();
        const all = [...Object.values(ports), Number(new URL(webHdfs).port), Number(rpc.split(':').at(-1))];
        const code = `
import socket
for port in ${JSON.stringify(all)}:
    try:
        with socket.create_connection(("127.0.0.1", port), 30): print("REACHED", port)
    except OSError as error: print("no way to", port, error)
`;
        const reached = async (harness: LocalHarness): Promise<number> => {
          const argv = ['python', 'in/code/main.py'];
          const spec = pythonJob(harness.api, { code, argv });
          const outcome = await runJob(harness, spec);
          // The attempt itself must have run to its end.
          assert.equal(outcome.status, 'succeeded', outcome.log);
          assert.equal(outcome.log.match(/^(REACHED|no way to) /gm)?.length, all.length, outcome.log);
          return outcome.log.match(/^REACHED /gm)?.length ?? 0;
        };
        assert.equal(await reached(bare), all.length);
        assert.equal(await reached(inside), 0);
      } finally {
        for (const harness of opened) await harness.close();
        rmSync(parent, { recursive: true, force: true });
      }
    },
    TIMEOUT_MS,
  );
});
