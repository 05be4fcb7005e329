// Reads through Alluxio: the contract of stores, changes in HDFS are visible immediately, and the second read is served from the cache.
import assert from 'node:assert/strict';
import { createAlluxioReads, type AlluxioReads } from '../../activities/adapters/alluxio.ts';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import { storePath, type StorePath } from '../../workflows/domain/names.ts';
import { artifactStoreContract } from '../contracts/artifact-store.ts';
import { get, pattern, put, text } from '../contracts/artifact-store/material.ts';
import { CASE_TIMEOUT_MS, collect, freshName, patience, rejectsAs } from '../contracts/cases.ts';
import { alluxioServer, describeWith, hdfsServer } from '../servers.ts';
import { eventually } from '../contracts/cluster.ts';

/** A cache over a fresh store of the test run's HDFS. */
async function open(): Promise<{
  alluxio: AlluxioReads;
  hdfs: HdfsStore;
  root: string;
  warnings: string[];
  webHdfs: string;
  url: string;
}> {
  const [{ url: webHdfs }, { url }] = await Promise.all([hdfsServer(), alluxioServer()]);
  const root = `/${freshName('alluxio')}`;
  const hdfs = await createHdfsStore({ url: webHdfs, user: 'ocdl', root, name: 'areas' });
  const warnings: string[] = [];
  const alluxio = createAlluxioReads({ store: hdfs, url, root, onWarn: (message) => warnings.push(message) });
  return { alluxio, hdfs, root, warnings, webHdfs, url };
}

describeWith(['hdfs', 'alluxio'], 'reads through Alluxio', () => {
  artifactStoreContract('alluxio over hdfs', async () => {
    const { alluxio, hdfs, warnings } = await open();
    return {
      store: alluxio,
      close: async () => {
        const { reads, fallbacks } = alluxio.metrics();
        await hdfs.close();
        // Some were replaced while they were read; the rest must have come through Alluxio, or the contract was held by HDFS.
        assert.ok(reads > 20 && fallbacks < reads / 2, `${fallbacks} of ${reads} reads were not through Alluxio`);
        assert.deepEqual(warnings, []);
      },
    };
  });

  describe('over a changing HDFS', () => {
    let opened: Awaited<ReturnType<typeof open>> | undefined;
    const subject = (): Awaited<ReturnType<typeof open>> => opened ?? assert.fail('nothing was opened');
    beforeAll(async () => {
      opened = await open();
    }, CASE_TIMEOUT_MS);
    afterAll(async () => opened?.hdfs.close(), CASE_TIMEOUT_MS);
    const at = (path: string): StorePath => storePath({ area: 'common', project: 'p', path });

    /** One operation directly on HDFS, without an adapter. */
    async function operate(method: string, path: StorePath, operation: string): Promise<void> {
      const { webHdfs, root } = subject();
      const response = await fetch(`${webHdfs}/webhdfs/v1${root}/${path}?op=${operation}&user.name=hdfs`, { method });
      const said = await response.text();
      assert.ok(response.ok && !said.includes('false'), `${operation} of ${path}: ${response.status} ${said}`);
    }
    /** How much of the file Alluxio holds. */
    async function cachedPercentage(path: StorePath): Promise<number> {
      const { url, root } = subject();
      const address = `${url}/api/v1/paths/${root}/${path}/get-status`;
      const response = await fetch(address, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{}',
      });
      return Number(/"inAlluxioPercentage":(\d+)/.exec(await response.text())?.[1]);
    }

    it(
      'serves the second read from its cache, including ranges, without a fallback',
      async () => {
        const { alluxio, warnings } = subject();
        const bytes = pattern(9_000_000);
        const path = at('cached');
        await put(alluxio, path, bytes);
        assert.equal(await cachedPercentage(path), 0);
        assert.ok((await get(alluxio, path)).equals(bytes));
        await eventually('the file is in the cache', async () => (await cachedPercentage(path)) === 100, patience.ms);
        const before = alluxio.metrics();
        assert.ok((await get(alluxio, path)).equals(bytes));
        const range = { start: 4_999_999, end: 8_000_001 };
        const part = await collect(await alluxio.read(alluxio.uri(path), { range }));
        assert.ok(part.equals(bytes.subarray(range.start, range.end)));
        assert.deepEqual(alluxio.metrics(), { reads: before.reads + 2, fallbacks: before.fallbacks });
        assert.deepEqual(warnings, []);
      },
      CASE_TIMEOUT_MS,
    );

    it(
      'immediately shows files that were replaced, renamed or removed in HDFS, without a warning',
      async () => {
        const { alluxio, root, warnings } = subject();
        const [path, other] = [at('changing'), at('other')];
        const versions = [1, 2, 3].map((seed) => pattern(2_000_000, seed));
        await put(alluxio, path, versions[0] ?? text(''));
        const before = alluxio.metrics();
        for (const next of versions.slice(1)) {
          // Cached as it was.
          await get(alluxio, path);
          await eventually(
            'the former bytes are cached',
            async () => (await cachedPercentage(path)) === 100,
            patience.ms,
          );
          await put(alluxio, other, next);
          await operate('PUT', other, `RENAME&renameoptions=OVERWRITE&destination=${root}/${path}`);
          assert.ok((await get(alluxio, path)).equals(next), 'the former bytes came again');
        }
        await operate('PUT', path, `RENAME&destination=${root}/${other}`);
        await rejectsAs('NotFound', 'reading what was renamed', get(alluxio, path));
        assert.ok((await get(alluxio, other)).equals(versions[2] ?? text('')));
        await operate('DELETE', other, 'DELETE');
        await rejectsAs('NotFound', 'reading what was removed', get(alluxio, other));
        assert.equal(await alluxio.stat(alluxio.uri(other)), undefined);
        assert.deepEqual(warnings, []);
        assert.equal(alluxio.metrics().fallbacks, before.fallbacks);
      },
      CASE_TIMEOUT_MS,
    );

    it(
      'checks its answer, its root and its location',
      async () => {
        const { alluxio, hdfs, url, root } = subject();
        const onWarn = (): void => undefined;
        await alluxio.check();
        const elsewhere = createAlluxioReads({ store: hdfs, url, root: '/never-was', onWarn });
        await assert.rejects(elsewhere.check(), /does not serve \/never-was .*NOT_FOUND/);
        // Port 9 (discard) is unused.
        const unreachable = createAlluxioReads({ store: hdfs, url: 'http://127.0.0.1:9', root, onWarn });
        await assert.rejects(unreachable.check(), /cannot be reached \(.*ECONNREFUSED/);
        const open = createAlluxioReads({ store: hdfs, url: 'http://203.0.113.7:39999', root, onWarn });
        await rejectsAs('InvalidInput', 'a public address', open.check());
      },
      CASE_TIMEOUT_MS,
    );
  });
});
