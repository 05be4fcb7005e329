// Gates and metrics by name: the lists match the code that implements them, and the message for an unknown name lists them.
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gates } from '../../activities/gates/gate.ts';
import { gateNames, metricNames, unknownName } from '../../workflows/domain/known-names.ts';

const root = resolve(import.meta.dirname, '../..');

it('lists exactly the metrics that the evaluator measures', () => {
  const python = readFileSync(join(root, 'deploy/capsule/ocdl/figures.py'), 'utf8');
  const tuple = /^METRICS = \(([^)]*)\)$/m.exec(python)?.[1] ?? '';
  expect([...tuple.matchAll(/"([^"]*)"/g)].map(([, name]) => name)).toEqual([...metricNames]);
});

it('lists the implemented gates', () => {
  expect(Object.keys(gates).sort()).toEqual([...gateNames].sort());
});

it.each([...gateNames.map((name) => ['gate', name] as const), ...metricNames.map((name) => ['metric', name] as const)])(
  'knows the %s %s',
  (kind, name) => expect(unknownName(kind, name)).toBeUndefined(),
);

it.each([
  ['auc', 'roc_auc'],
  ['ROC-AUC', 'roc_auc'],
  ['acuracy', 'accuracy'],
  ['F1', 'f1'],
  ['avg_precision', 'average_precision'],
  ['recal', 'recall'],
  ['macro_f1', 'f1'],
])('suggests for %s the name %s', (given, meant) => {
  expect(unknownName('metric', given)).toBe(
    `there is no metric "${given}", only accuracy, precision, recall, f1, roc_auc, average_precision: did you mean "${meant}"?`,
  );
});

it.each(['loss', '', '___', '__proto__', 'constructor', 'x'.repeat(100_000)])('suggests nothing for %.20s', (given) => {
  expect(unknownName('metric', given)).toMatch(/^there is no metric ".{0,64}", only [a-z0-9_, ]+$/);
  expect(unknownName('gate', given)).toMatch(/^there is no gate ".{0,64}", only function$/);
});
