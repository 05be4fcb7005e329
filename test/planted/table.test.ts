// The table of planted faults fits the code of today: each text stands once in its file, and what takes its place compiles.
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseSync } from '@swc/core';
import type { PlantedFault } from './fault.ts';
import { isFaultName, misfit, plant } from './fault.ts';
import { faults } from './faults.ts';

const root = resolve(import.meta.dirname, '../..');
const sourceOf = (file: string): string => readFileSync(join(root, file), 'utf8');

it.each(faults.map((fault) => [fault.name, fault] as const))('%s can be planted', (_, fault) => {
  const source = sourceOf(fault.file);
  expect(misfit(fault, source)).toBeUndefined();
  // What does not parse would make every test fail and prove nothing.
  expect(() => parseSync(plant(fault, source), { syntax: 'typescript', target: 'es2022' })).not.toThrow();
});

it('has names that can be asked for, each once, and test files that are there', () => {
  const names = faults.map(({ name }) => name);
  expect(names.filter((name) => !isFaultName(name))).toEqual([]);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, noticedBy } of faults) expect([name, noticedBy.length]).not.toEqual([name, 0]);
  const files = faults.flatMap(({ noticedBy }) => noticedBy.map(({ file }) => file));
  expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

it('reaches workflows, their domain, activities, Records and the API', () => {
  for (const folder of ['workflows/', 'workflows/domain/', 'activities/', 'activities/adapters/postgres/', 'api/'])
    expect([folder, faults.some(({ file }) => file.startsWith(folder))]).toEqual([folder, true]);
});

describe('a fault that does not fit', () => {
  const fault: PlantedFault = { name: 'x', file: 'a.ts', from: 'one', to: 'two', noticedBy: [] };

  it.each([
    ['nothing of it', 0],
    ['one and one', 2],
  ])('is refused over "%s"', (source, times) => {
    expect(misfit(fault, source)).toContain(`stands ${times} times in a.ts, not once`);
    expect(() => plant(fault, source)).toThrow('not once');
  });

  it('is refused when it changes nothing, and planted as it stands otherwise', () => {
    expect(misfit({ ...fault, to: 'one' }, 'one')).toContain('by itself');
    expect(plant({ ...fault, to: '$& $1' }, 'is one here')).toBe('is $& $1 here');
  });
});
