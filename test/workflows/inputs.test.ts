// Names of a run's inputs: the first that is taken is found, in one pass over as many files as a run may have.
import { expect, test } from '@jest/globals';
import { firstTaken } from '../../activities/rover.ts';
import type { NamedArtifact } from '../../workflows/domain/model.ts';
import type { ArtifactUri, Digest } from '../../workflows/domain/names.ts';

const seen = { reads: 0 };
const file = (name: string): NamedArtifact => ({
  get name() {
    seen.reads += 1;
    return name;
  },
  uri: `local:areas/common/p/datasets/d/${name}` as ArtifactUri,
  sha256: 'a'.repeat(64) as Digest,
  bytes: 1,
});

test.each<[string, readonly string[], string | undefined]>([
  ['none', ['a', 'b', 'c'], undefined],
  ['the second of two', ['a', 'b', 'a', 'b'], 'a'],
  ['one that the job has itself', ['a', 'code.tar'], 'code.tar'],
  ['names as they are written', ['a', 'A', 'a/a'], undefined],
  ['names that objects have', ['__proto__', 'constructor'], undefined],
])('%s', (_, names, expected) => {
  expect(firstTaken(names.map(file), ['code.tar'])?.name).toBe(expected);
});

test('each name is looked at once, however many there are', () => {
  const files = Array.from({ length: 25_000 }, (_, i) => file(`f-${i}.csv`));
  seen.reads = 0;
  expect(firstTaken([...files, file('f-0.csv')], ['code.tar'])?.uri).toMatch(/f-0\.csv$/);
  expect(seen.reads).toBe(25_001);
});
