// The grid, written again by hand, and one valid request for every route, for grid.test.ts.
import { DIGEST, MODEL_BYTES } from './passage.ts';
import { PROJECT, reprDigest, TYPE } from './world.ts';

/** The grid, written by hand: s(cientist) m(anager) d(eveloper) e(ngineer) a(dmin) p: application, j(ob); capitals: only their own. */
export const expected = {
  'private.read': 'SM',
  'private.write': 'SM',
  'common.read': 'smde',
  'common.write': 'sm',
  'staging.read': 'm',
  'dataset.register': 'sm',
  'dataset.delete': 'Sm',
  'dataset.list': 'smde',
  'import.cancel': 'Sm',
  'node.manage': 'm',
  'testset.register': 'm',
  'testset.delete': 'm',
  'type.grant': 'm',
  'code.commit': 'sm',
  'version.start': 'sm',
  'version.see': 'Sm',
  'version.report': 'Sm',
  'version.author': 'SM',
  'version.decide': 'm',
  'evaluation.private': 'SM',
  'evaluation.staging': 'm',
  'evaluation.cancel': 'Sm',
  'release.read': 'mdP',
  'application.manage': 'mD',
  'application.see': 'smdeP',
  'application.revert': 'mD',
  'finding.report': 'P',
  'finding.see': 'smdeP',
  'finding.label': 'e',
  'project.see': 'smdea',
  'project.create': 'a',
  'project.types': 'a',
  'project.compute': 'a',
  'project.members': 'ma',
  'project.policy': 'ma',
  'audit.read': 'ma',
  'compute.manage': 'a',
  'users.manage': 'a',
  'platform.see': 'a',
  'platform.operate': 'a',
  'token.own': 'smdea',
  'job.data': 'J',
} as const satisfies Record<string, string>;

export const letters = {
  ...{ scientist: 's', manager: 'm', developer: 'd', engineer: 'e', admin: 'a', application: 'p', job: 'j' },
} as const;

type ActionName = keyof typeof expected;

export interface Sample {
  readonly action: ActionName;
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  /** Whose it is, where the grid asks; `all`: it is always the caller's own, or narrowed to it. */
  readonly owners?: readonly string[] | 'all';
}

const inProject = (path: string): string => `/v1/projects/${PROJECT}${path}`;
const submission = inProject('/models/random-forest/submissions/rf-1');
export const application = '/v1/applications/scanner';
const ofType = `${application}/types/${TYPE}`;
const release = `${TYPE}-1`;
const command = { revision: 3, digest: DIGEST, args: { reason: 'because' } };

/** One valid request for every route, by operation; one per action if a route has several. */
export const samples: Record<string, readonly Sample[]> = {
  getMe: [{ action: 'token.own', path: '/v1/me' }],
  issueToken: [{ action: 'token.own', path: '/v1/tokens', body: {} }],
  listTokens: [{ action: 'token.own', path: '/v1/tokens' }],
  revokeToken: [{ action: 'token.own', path: '/v1/tokens/SPARE' }],
  createUser: [{ action: 'users.manage', path: '/v1/users', body: { user: 'zoe' } }],
  listComputeProfiles: [{ action: 'compute.manage', path: '/v1/compute-profiles' }],
  putComputeProfile: [
    {
      action: 'compute.manage',
      path: '/v1/compute-profiles/large',
      body: { cpus: 8, memoryBytes: 2 ** 34, diskBytes: 2 ** 34 },
    },
  ],
  deleteComputeProfile: [{ action: 'compute.manage', path: '/v1/compute-profiles/large' }],
  listOfferedProfiles: [{ action: 'project.see', path: inProject('/compute-profiles') }],
  offerProfiles: [
    { action: 'project.compute', path: inProject('/compute-profiles'), body: { profiles: ['cpu', 'gpu'] } },
  ],
  listUsers: [{ action: 'users.manage', path: '/v1/users' }],
  changeUser: [{ action: 'users.manage', path: '/v1/users/nobody', body: { admin: false } }],
  listUserTokens: [{ action: 'users.manage', path: '/v1/users/sam/tokens' }],
  listJobTokens: [{ action: 'users.manage', path: '/v1/jobs/tokens' }],
  issueUserToken: [{ action: 'users.manage', path: '/v1/users/sam/tokens', body: {} }],
  createProject: [
    { action: 'project.create', path: '/v1/projects', body: { project: 'third', types: ['third-type'] } },
  ],
  listProjects: [{ action: 'token.own', path: '/v1/projects' }],
  getProject: [{ action: 'project.see', path: inProject('') }],
  listTypes: [{ action: 'project.see', path: inProject('/types') }],
  addTypes: [{ action: 'project.types', path: inProject('/types'), body: { types: ['another-type'] } }],
  grantType: [{ action: 'type.grant', path: inProject(`/types/${TYPE}/consumers/other`) }],
  revokeTypeGrant: [{ action: 'type.grant', path: inProject(`/types/${TYPE}/consumers/other`) }],
  setPolicy: [{ action: 'project.policy', path: inProject('/policy'), body: { quorum: 1 } }],
  listMembers: [{ action: 'project.see', path: inProject('/members') }],
  setMember: [{ action: 'project.members', path: inProject('/members/nobody'), body: { roles: [] } }],
  listFiles: [
    { action: 'private.read', path: inProject('/files/private'), owners: 'all' },
    { action: 'common.read', path: inProject('/files/common') },
    { action: 'staging.read', path: inProject('/files/staging') },
  ],
  getFile: [
    { action: 'private.read', path: inProject('/files/private/mine.bin'), owners: 'all' },
    { action: 'common.read', path: inProject('/files/common/datasets/training-1/rows.jsonl') },
    { action: 'staging.read', path: inProject('/files/staging/datasets/test-1/rows.jsonl') },
  ],
  putFile: [
    { action: 'private.write', path: inProject('/files/private/mine.bin'), body: MODEL_BYTES, owners: 'all' },
    { action: 'common.write', path: inProject('/files/common/ours.bin'), body: MODEL_BYTES },
  ],
  registerDataSet: [
    {
      action: 'dataset.register',
      path: inProject('/datasets'),
      body: dataSet('training-2', 'training'),
    },
    { action: 'testset.register', path: inProject('/datasets'), body: dataSet('test-2', 'test') },
  ],
  listDataSets: [{ action: 'dataset.list', path: inProject('/datasets') }],
  deleteDataSet: [
    { action: 'dataset.delete', path: inProject('/datasets/spare-training'), owners: ['sam'] },
    { action: 'testset.delete', path: inProject('/datasets/spare-test') },
  ],
  getDataSet: [{ action: 'dataset.list', path: inProject('/datasets/test-1') }],
  startImport: [
    {
      action: 'dataset.register',
      path: inProject('/imports'),
      body: {
        import: 'of-CALLER',
        dataset: 'from-CALLER',
        source: { kind: 'maven', coordinate: 'org.example:rows:1.0' },
      },
    },
  ],
  listImports: [{ action: 'dataset.list', path: inProject('/imports') }],
  getImport: [{ action: 'dataset.list', path: inProject('/imports/im-1') }],
  cancelImport: [{ action: 'import.cancel', path: inProject('/imports/im-1'), owners: ['sam'] }],
  getDataSheet: [{ action: 'dataset.list', path: inProject('/imports/im-1/datasheet') }],
  listNodes: [{ action: 'dataset.list', path: inProject('/nodes') }],
  setNode: [
    { action: 'node.manage', path: inProject('/nodes/mirror'), body: { kind: 'https', host: 'data.example.org' } },
  ],
  removeNode: [{ action: 'node.manage', path: inProject('/nodes/mirror') }],
  commitCode: [
    {
      action: 'code.commit',
      path: inProject('/code/commits'),
      body: { branch: 'main', message: 'a change', files: { 'train.py': 'print()' } },
    },
  ],
  startSubmission: [
    {
      action: 'version.start',
      path: inProject('/models/random-forest/submissions'),
      body: { submission: 'by-CALLER', type: TYPE, from: { directory: 'runs' } },
    },
  ],
  listVersions: [{ action: 'version.see', path: inProject('/versions'), owners: 'all' }],
  getVersion: [{ action: 'version.see', path: submission, owners: ['sam'] }],
  getVersionFile: [{ action: 'staging.read', path: `${submission}/files/model.onnx` }],
  commandVersion: [
    {
      action: 'version.author',
      path: `${submission}/commands`,
      body: { ...command, name: 'withdraw' },
      owners: ['sam'],
    },
    { action: 'version.decide', path: `${submission}/commands`, body: { ...command, name: 'reject' } },
  ],
  getVersionCommand: [{ action: 'version.see', path: `${submission}/commands/some-command`, owners: ['sam'] }],
  startEvaluation: [
    {
      action: 'evaluation.private',
      path: inProject('/evaluations'),
      body: evaluation({ directory: 'runs' }, 'private'),
      owners: 'all',
    },
    {
      action: 'evaluation.private',
      path: inProject('/evaluations'),
      body: evaluation({ submission: 'rf-0' }, 'unsubmitted'),
      owners: ['sam'],
    },
    {
      action: 'evaluation.staging',
      path: inProject('/evaluations'),
      body: evaluation({ submission: 'rf-1' }, 'staging'),
    },
  ],
  listEvaluations: [{ action: 'version.report', path: inProject('/evaluations'), owners: 'all' }],
  getEvaluation: [{ action: 'version.report', path: inProject('/evaluations/ev-1'), owners: ['sam', 'mia'] }],
  cancelEvaluation: [{ action: 'evaluation.cancel', path: inProject('/evaluations/ev-1'), owners: ['mia'] }],
  getReport: [{ action: 'version.report', path: inProject('/evaluations/ev-1/report'), owners: ['sam', 'mia'] }],
  listReleases: [{ action: 'release.read', path: `/v1/types/${TYPE}/releases`, owners: ['scanner'] }],
  getRelease: [{ action: 'release.read', path: `/v1/releases/${release}`, owners: ['scanner'] }],
  getReleaseFile: [{ action: 'release.read', path: `/v1/releases/${release}/files/model.onnx`, owners: ['scanner'] }],
  createApplication: [
    {
      action: 'application.manage',
      path: inProject('/applications'),
      body: { application: 'of-CALLER', types: [TYPE], gates: ['function'] },
      owners: 'all',
    },
    {
      action: 'application.manage',
      path: inProject('/applications'),
      body: { application: 'of-dev', types: [TYPE], gates: ['function'], owner: 'dev' },
      owners: ['dev'],
    },
  ],
  listApplications: [{ action: 'application.see', path: inProject('/applications'), owners: 'all' }],
  changeApplication: [
    // The same change again is fine.
    { action: 'application.manage', path: application, body: { revision: 0, gates: ['function'] }, owners: ['dev'] },
  ],
  listApplicationTokens: [{ action: 'application.manage', path: `${application}/tokens`, owners: ['dev'] }],
  revokeApplicationToken: [
    { action: 'application.manage', path: `${application}/tokens/APPLICATION-TOKEN`, owners: ['dev'] },
  ],
  issueApplicationToken: [{ action: 'application.manage', path: `${application}/tokens`, body: {}, owners: ['dev'] }],
  getApplication: [{ action: 'application.see', path: application, owners: ['scanner'] }],
  listDeliveries: [{ action: 'application.see', path: `${application}/deliveries`, owners: ['scanner'] }],
  getDelivery: [{ action: 'application.see', path: `${application}/deliveries/${release}`, owners: ['scanner'] }],
  getLive: [{ action: 'application.see', path: `${ofType}/live`, owners: ['scanner'] }],
  getLiveHistory: [{ action: 'application.see', path: `${ofType}/history`, owners: ['scanner'] }],
  commandApplication: [
    {
      action: 'application.revert',
      path: `${ofType}/commands`,
      body: { name: 'take-down', revision: 1, args: { reason: 'it harms' } },
      owners: ['dev'],
    },
  ],
  getApplicationCommand: [{ action: 'application.see', path: `${ofType}/commands/some-command`, owners: ['scanner'] }],
  reportScan: [
    {
      action: 'finding.report',
      path: `${application}/scans`,
      body: { scan: 'scan-2', type: TYPE, release, findings: [] },
      owners: ['scanner'],
    },
  ],
  listScans: [{ action: 'finding.see', path: inProject('/scans'), owners: 'all' }],
  getScan: [{ action: 'finding.see', path: inProject('/scans/scan-1'), owners: ['scanner'] }],
  commandScan: [
    {
      action: 'finding.label',
      path: inProject('/scans/scan-1/commands'),
      body: { name: 'confirm', revision: 0, args: { findings: ['f-1'] } },
    },
  ],
  getScanCommand: [
    { action: 'finding.see', path: inProject('/scans/scan-1/commands/some-command'), owners: ['scanner'] },
  ],
  readProjectAudit: [{ action: 'audit.read', path: inProject('/audit') }],
  sweep: [{ action: 'platform.operate', path: '/v1/platform/sweep' }],
  getMetrics: [{ action: 'platform.see', path: '/metrics' }],
  readAudit: [{ action: 'platform.see', path: '/v1/audit' }],
  verifyAudit: [{ action: 'platform.see', path: '/v1/audit/verification' }],
  getJobInput: [{ action: 'job.data', path: '/v1/jobs/job-1/inputs/model.onnx', owners: ['jobOne'] }],
  putJobOutput: [
    {
      action: 'job.data',
      path: '/v1/jobs/job-1/outputs/model.onnx',
      body: MODEL_BYTES,
      headers: { 'repr-digest': reprDigest(MODEL_BYTES) },
      owners: ['jobOne'],
    },
  ],
};

function dataSet(dataset: string, kind: string) {
  const path = kind === 'test' ? 'rows.jsonl' : 'datasets/training-1/rows.jsonl';
  return { dataset, kind, files: [{ name: 'rows.jsonl', area: 'common', path }] };
}

function evaluation(subject: object, id: string) {
  return { evaluation: `${id}-CALLER`, model: 'random-forest', dataset: 'training-1', subject };
}
