// The names, rules and committed files of the case study.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const project = 'vulnerability';
export const model = 'java-vulnerability';
export const modelType = 'code-vulnerability';
export const application = 'code-scanner';

/** The cast: one role each. */
export const people = { sam: 'scientist', mia: 'manager', dev: 'developer', eve: 'engineer' } as const;
export type Person = keyof typeof people;

/** The manager's minimums for a report. Candidates are ranked by average precision. */
export const thresholds = { average_precision: 0.75, roc_auc: 0.85 } as const;
/** The scientist's own minimum: on two small projects average precision varies too much for one. */
export const privateThresholds = { roc_auc: 0.8 } as const;

/** Of the 14 training projects, these are held out for the private test. */
export const leftOut = 'commons-configuration, jedis';
export const trainingSet = 'training-tokens';
export const privateSet = 'private-test';
export const heldOutSet = 'held-out-projects';

/** The two algorithms that are compared. */
export const algorithms = ['random-forest', 'svm'] as const;
export type Algorithm = (typeof algorithms)[number];

/** Findings an engineer looks at in one sitting. */
export const mostLabels = 20;

/** Folder of the case study, including the sources that are scanned. */
export const example = fileURLToPath(new URL('../../../deploy/examples/vulnerability/', import.meta.url));
export const sample = join(example, 'sample');

const codeFiles = ['train.py', 'export.py', 'java_tokens.py', 'requirements.lock'] as const;

/** The run's code, as it is committed to the project's repository. */
export async function readCode(): Promise<Readonly<Record<string, string>>> {
  const read = async (name: string) => [name, await readFile(join(example, 'model', name), 'utf8')] as const;
  return Object.fromEntries(await Promise.all(codeFiles.map(read)));
}

/** A committed data file's bytes. */
export const readData = (name: string): Promise<Uint8Array> => readFile(join(example, 'data', name));

/** Paths of the sample's files that are labelled vulnerable: known to the engineer, not to the model. */
export async function readTruth(): Promise<ReadonlySet<string>> {
  const [header = '', ...lines] = (await readFile(join(sample, 'labels.csv'), 'utf8')).trim().split(/\r?\n/);
  if (!header.startsWith('project,path,security,vul,'))
    throw new Error(`sample/labels.csv has unexpected columns: ${header}`);
  const rows = lines.map((line) => line.split(','));
  return new Set(rows.filter(([, , , vul]) => vul === '1').map(([of = '', path = '']) => `${of}/${path}`));
}
