// An example request body for each JSON operation, for the OpenAPI document. Each example is valid as it is.

const DIGEST = 'a8f5f167f44f4964e6c998dee827110c0e1b2a7b6f3a2d4c5e6f708192a3b4c5';
const COMMIT = '7f3d199c1b2a4d5e6f708192a3b4c5d6e7f80910';

/** Examples by operation id. */
export const bodyExamples: Readonly<Record<string, unknown>> = {
  issueToken: { expiresInDays: 90 },
  issueUserToken: { expiresInDays: 90 },
  issueApplicationToken: {},
  createUser: { user: 'sam', admin: false },
  changeUser: { disabled: true },
  createProject: { project: 'vulnerability', types: ['code-vulnerability'], policy: { quorum: 2 } },
  setPolicy: { quorum: 2, undoWithinSeconds: 600, thresholds: { average_precision: 0.7 } },
  setMember: { roles: ['scientist'] },
  putComputeProfile: {
    ...{ cpus: 8, memoryBytes: 34359738368, diskBytes: 107374182400, gpus: 1, deadlineSeconds: 86400 },
    nodeSelector: { accelerator: 'h200' },
    pools: ['cloud'],
  },
  offerProfiles: { profiles: ['cpu', 'large-gpu'] },
  addTypes: { types: ['code-style'] },
  registerDataSet: {
    dataset: 'train-2026',
    kind: 'training',
    files: [{ name: 'rows.csv', area: 'private', path: 'data/rows.csv' }],
  },
  commitCode: { branch: 'main', message: 'a deeper forest', files: { 'train.py': 'print("hello")\n' } },
  startImport: {
    import: 'java-rows-1',
    dataset: 'java-rows',
    source: { kind: 'github', repository: 'octo/rows', ref: 'main' },
    unpack: true,
  },
  setNode: { kind: 'https', host: 'archive.example.org' },
  startSubmission: {
    submission: 'rf-1',
    type: 'code-vulnerability',
    from: {
      run: {
        ...{ commit: COMMIT, entrypoint: 'train.py', lock: 'requirements.lock', data: ['train-2026'] },
        ...{ parameters: { trees: 100 }, seed: 1, compute: 'cpu', deadlineSeconds: 3600 },
      },
    },
  },
  commandVersion: { name: 'approve', revision: 3, digest: DIGEST, report: DIGEST, args: { reason: 'better than 1' } },
  startEvaluation: {
    evaluation: 'ev-1',
    model: 'random-forest',
    dataset: 'test-2026',
    subject: { submission: 'rf-1' },
  },
  createApplication: { application: 'scanner', types: ['code-vulnerability'], gates: ['function'] },
  changeApplication: { revision: 0, owner: 'dan' },
  commandApplication: {
    name: 'revert',
    revision: 2,
    args: { release: 'code-vulnerability-2', reason: 'it was better' },
  },
  reportScan: {
    ...{ scan: 'scan-1', type: 'code-vulnerability', release: 'code-vulnerability-3' },
    findings: [
      {
        ...{ finding: 'f-1', name: 'DigestLoginModule.login', path: 'src/DigestLoginModule.java', vulnerable: true },
        ...{ probability: 0.93, source: DIGEST },
      },
    ],
  },
  commandScan: { name: 'confirm', revision: 0, args: { findings: ['f-1'] } },
};
