// A warm read through Alluxio against a read from HDFS straight.
import assert from 'node:assert/strict';
import type { ArtifactStore } from '../../activities/ports.ts';
import type { Bench, Contender, Given } from './rounds.ts';
import { artifactPath, openAlluxio, openHdfs } from './systems.ts';

export const alluxioRead = (given: Given): Bench => ({
  title: `warm read, ${given.bytes / 1e6} MB`,
  module: 'alluxio-read',
  contenders: ['through Alluxio', 'HDFS straight'],
  peer: 'HDFS straight',
  amount: given.bytes / 1e6,
  unit: 'MB',
});

export const contenders: Readonly<Record<string, Contender>> = {
  async 'through Alluxio'(given) {
    const hdfs = await openHdfs(given);
    const store = openAlluxio(given, hdfs);
    await store.check();
    return async () => {
      await readAll(store, given);
      // The first round, which does not count, has filled the cache.
      assert.equal(store.metrics().fallbacks, 0);
      return () => hdfs.close();
    };
  },
  async 'HDFS straight'(given) {
    const store = await openHdfs(given);
    await store.stat(store.uri(artifactPath));
    return async () => {
      await readAll(store, given);
      return () => store.close();
    };
  },
};

async function readAll(store: ArtifactStore, given: Given): Promise<void> {
  let bytes = 0;
  for await (const chunk of await store.read(store.uri(artifactPath))) bytes += chunk.byteLength;
  assert.equal(bytes, given.bytes);
}
