// The table of planted faults matches the current code: each text occurs once in its file, and its replacement parses.
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
  // A fault that does not parse would fail every test and prove nothing.
  expect(() => parseSync(plant(fault, source), { syntax: 'typescript', target: 'es2022' })).not.toThrow();
});

it('has valid, unique names and existing test files', () => {
  const names = faults.map(({ name }) => name);
  expect(names.filter((name) => !isFaultName(name))).toEqual([]);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, noticedBy } of faults) expect([name, noticedBy.length]).not.toEqual([name, 0]);
  const files = faults.flatMap(({ noticedBy }) => noticedBy.map(({ file }) => file));
  expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

it('covers workflows, their domain, activities, Records and the API', () => {
  for (const folder of ['workflows/', 'workflows/domain/', 'activities/', 'activities/adapters/postgres/', 'api/'])
    expect([folder, faults.some(({ file }) => file.startsWith(folder))]).toEqual([folder, true]);
});

describe('a fault that does not fit', () => {
  const fault: PlantedFault = { name: 'x', file: 'a.ts', from: 'one', to: 'two', noticedBy: [] };

  it.each([
    ['nothing of it', 0],
    ['one and one', 2],
  ])('is refused for the source "%s"', (source, times) => {
    expect(misfit(fault, source)).toContain(`occurs ${times} times in a.ts, not once`);
    expect(() => plant(fault, source)).toThrow('not once');
  });

  it('is refused if it changes nothing, and planted verbatim otherwise', () => {
    expect(misfit({ ...fault, to: 'one' }, 'one')).toContain('with itself');
    expect(plant({ ...fault, to: '$& $1' }, 'is one here')).toBe('is $& $1 here');
  });
});
