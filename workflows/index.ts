// All workflows, for the worker's bundle.
export { application } from './application.ts';
export { dataImport } from './data-import.ts';
export { delivery } from './delivery.ts';
export { evaluation } from './evaluation.ts';
export { feedback } from './feedback.ts';
export { modelLifecycle } from './model-lifecycle.ts';
export { release } from './release.ts';
export { trainingRun } from './training-run.ts';
