// Cases on Records: digests of stored bytes.
import assert from 'node:assert/strict';
import type { ArtifactUri } from '../../../workflows/domain/names.ts';
import type { RecordsCase } from './scene.ts';
import { at, digestOf } from './scene.ts';

export const byteCases: readonly RecordsCase[] = [
  {
    name: 'chunk digests are stored in parts, and the first ones are kept',
    async run(records, { project }) {
      const file = digestOf(project);
      const digests = Buffer.concat([1, 2, 3, 4].map((n) => Buffer.alloc(32, n)));
      assert.equal(await records.chunkDigests(file, 0, 1), undefined);
      await records.keepChunkDigests(file, digests);
      await records.keepChunkDigests(file, Buffer.alloc(128, 9));
      for (const [first, count] of [
        [0, 4],
        [0, 1],
        [1, 2],
        [3, 1],
      ] as const)
        assert.deepEqual(
          Buffer.from((await records.chunkDigests(file, first, count)) ?? []),
          digests.subarray(first * 32, (first + count) * 32),
        );
      assert.equal(await records.chunkDigests(file, 3, 2), undefined, 'the file has no fifth chunk');
      assert.equal(await records.chunkDigests(digestOf(`${project}-other`), 0, 1), undefined);
    },
  },
  {
    name: 'the digest of a file replaces that of its previous content',
    async run(records, { project }) {
      const uri = `local:areas/common/${project}/rows.csv` as ArtifactUri;
      assert.equal(await records.fileDigest(uri), undefined);
      const first = { uri, sha256: digestOf('one'), bytes: 5_000_000_000, modifiedAt: at(1) };
      await records.keepFileDigest(first);
      assert.deepEqual(await records.fileDigest(uri), first);
      const second = { ...first, sha256: digestOf('two'), modifiedAt: at(2) };
      await records.keepFileDigest(second);
      assert.deepEqual(await records.fileDigest(uri), second);
      assert.equal(await records.fileDigest(`${uri}x` as ArtifactUri), undefined);
    },
  },
];
