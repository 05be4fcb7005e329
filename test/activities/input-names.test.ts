// Conflicting names among the inputs of one job, found in one pass.
import { sharedName } from '../../activities/input-names.ts';

const unpacked = (name: string) => ({ name, unpack: true });

it.each([
  [[], undefined],
  [['a', 'b', 'c/a', 'c/b', 'd/c/a'], undefined],
  [['a', 'b', 'a'], 'a'],
  [['a/b', 'a'], 'a'],
  [['a', 'a/b'], 'a'],
  [['a/b/c', 'a/b'], 'a/b'],
  [['a.tar', 'a'], undefined],
])('of %j, %p', (names, shared) => {
  expect(sharedName(names.map((name) => ({ name })))).toBe(shared);
});

it('includes the folder of an unpacked archive', () => {
  expect(sharedName([unpacked('a.tar'), { name: 'a' }])).toBe('a');
  expect(sharedName([unpacked('a.tar'), { name: 'a/b' }])).toBe('a');
  expect(sharedName([{ name: 'a/b' }, unpacked('a.tar')])).toBe('a');
  expect(sharedName([unpacked('code.tar'), unpacked('rows.tar'), { name: 'rows' }])).toBe('rows');
});

it('handles 50 data sets of 500 files each quickly', () => {
  const inputs = Array.from({ length: 25_000 }, (_, i) => ({ name: `folder-${i % 50}/f-${i}.csv` }));
  const started = performance.now();
  expect(sharedName(inputs)).toBeUndefined();
  // Comparing all pairs blocked the event loop for seconds.
  expect(performance.now() - started).toBeLessThan(500);
});
