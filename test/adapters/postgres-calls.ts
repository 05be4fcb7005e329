// Every call of Records once, with its prerequisites, for tests that disturb each call.
import type { Records } from '../../activities/records.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { profileOf } from '../contracts/records/compute.ts';
import { queuedJob, testPool } from '../contracts/records/jobs.ts';
import * as set from '../contracts/records/scene.ts';
import { decisionReads, decisionWrites } from './postgres-decision-calls.ts';
import type { Prepare } from './postgres-material.ts';
import {
  token,
  dataSet,
  unallotted,
  dataImport,
  node,
  storedFile,
  withUser,
  withToken,
  withRelease,
  withDataSet,
  withDeletedDataSet,
  withOther,
  withLiveRelease,
  withRows,
} from './postgres-material.ts';

const writes = {
  queueJob: async (_, scene) => {
    return (records) => records.queueJob(queuedJob(scene));
  },
  changeJob: async (direct, scene) => {
    await direct.queueJob(queuedJob(scene));
    return (records) => records.changeJob(queuedJob(scene).name, { state: 'running', starts: 1, waitMs: 0 });
  },
  takeJob: async (direct, scene) => {
    await direct.queueJob(queuedJob(scene));
    return (records) => records.takeJob(queuedJob(scene).name, 'one', 'it is free');
  },
  watchedPool: async (direct, scene) => {
    await direct.queueJob(queuedJob(scene));
    return (records) => records.watchedPool(testPool(scene.project), 3_600_000);
  },
  putComputeProfile: async (_, scene) => {
    const audit = scene.entry();
    return (records) => records.putComputeProfile(profileOf(scene), audit);
  },
  deleteComputeProfile: async (direct, scene) => {
    await direct.putComputeProfile(profileOf(scene), scene.entry());
    const audit = scene.entry();
    return (records) => records.deleteComputeProfile(profileOf(scene).name, audit);
  },
  offerProfiles: async (direct, scene) => {
    await set.setProject(direct, scene);
    await direct.putComputeProfile(profileOf(scene), scene.entry());
    const audit = scene.entry();
    return (records) => records.offerProfiles(scene.project, [profileOf(scene).name], audit);
  },
  endJob: async (direct, scene) => {
    await direct.queueJob(queuedJob(scene));
    return (records) => records.endJob(queuedJob(scene).name);
  },
  createUser: async (_, { user, entry }) => {
    const audit = entry();
    return (records) => records.createUser(user, true, audit);
  },
  changeUser: async (direct, scene) => {
    await withUser(direct, scene);
    const audit = scene.entry();
    return (records) => records.changeUser(scene.user, { admin: true, disabled: true }, audit);
  },
  issueToken: async (direct, scene) => {
    await withUser(direct, scene);
    const audit = scene.entry();
    return (records) => records.issueToken(token(scene), audit);
  },
  revokeToken: async (direct, scene) => {
    await withToken(direct, scene);
    const audit = scene.entry();
    return (records) => records.revokeToken(token(scene).tokenId, audit);
  },
  manifested: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    return (records) => records.manifested(release);
  },
  kept:
    async (_, { user }) =>
    (records) =>
      records.kept(user, 1),
  acceptRestore: async (_, scene) => {
    const accepted = {
      tick: 1,
      accepted: 0,
      numbers: [{ type: scene.type, sequence: 7 }],
      keys: [],
      voidTokens: false,
      findings: [],
    };
    const audit = scene.entry();
    return (records) => records.acceptRestore(accepted, audit);
  },
  createProject: async (_, { project, type, entry }) => {
    const audit = entry();
    const types = [type, `${type}-b`];
    return (records) => records.createProject({ project, types, policy: defaultPolicy }, audit);
  },
  addTypes: async (direct, scene) => {
    await set.setProject(direct, scene);
    const audit = scene.entry();
    return (records) => records.addTypes(scene.project, [`${scene.type}-b`], audit);
  },
  setTypeGrant: async (direct, scene) => {
    const grant = await withOther(direct, scene);
    const audit = scene.entry();
    return (records) => records.setTypeGrant(grant, audit);
  },
  setPolicy: async (direct, scene) => {
    await set.setProject(direct, scene);
    const audit = scene.entry();
    return (records) => records.setPolicy(scene.project, { ...defaultPolicy, version: 2, quorum: 2 }, audit);
  },
  setMember: async (direct, scene) => {
    await set.setProject(direct, scene);
    await withUser(direct, scene);
    const audit = scene.entry();
    return (records) => records.setMember(scene.project, { user: scene.user, roles: ['manager'] }, audit);
  },
  registerDataSet: async (direct, scene) => {
    await set.setProject(direct, scene);
    const audit = scene.entry();
    return (records) => records.registerDataSet(dataSet(scene), audit);
  },
  draftDataSet: async (direct, scene) => {
    await set.setProject(direct, scene);
    const draft = { project: scene.project, dataset: 'd-1', attempt: 'a-1', step: 'write' } as const;
    return (records) => records.draftDataSet(draft);
  },
  dropDraft: async (direct, scene) => {
    await set.setProject(direct, scene);
    await direct.draftDataSet({ project: scene.project, dataset: 'd-1', attempt: 'a-1', step: 'write' });
    return (records) => records.dropDraft(scene.project, 'd-1', 'a-1');
  },
  nameDataSets: async (direct, scene) => {
    await withDataSet(direct, scene);
    return (records) => records.nameDataSets(scene.project, ['d-1'], { kind: 'run', name: 'forest/rf-1' });
  },
  deleteDataSet: async (direct, scene) => {
    await withDataSet(direct, scene);
    const audit = scene.entry();
    return (records) => records.deleteDataSet(scene.project, 'd-1', audit);
  },
  sweptDataSet: async (direct, scene) => {
    await withDeletedDataSet(direct, scene);
    return (records) => records.sweptDataSet(scene.project, 'd-1');
  },
  record: async (direct, scene) => {
    await withRows(direct, scene);
    const entries = [scene.entry(), scene.entry()];
    const version = set.versionRow(scene, { revision: 2, state: 'approved', updatedAt: set.at(1) });
    const scan = set.scanRow(scene, { scan: 's-2' });
    return (records) =>
      records.record(entries, [
        { kind: 'version', row: version },
        { kind: 'scan', row: scan },
      ]);
  },
  recordRefused: async (direct, scene) => {
    const entry = scene.entry({ kind: 'command.refused' });
    const by = { principal: `user/${scene.user}`, action: 'version.decide' };
    await direct.recordRefused(entry, { ...by, request: 'first' });
    return (records) => records.recordRefused(entry, { ...by, request: 'second' });
  },
  linkAudit: async (direct, scene) => {
    await set.linkAll(direct);
    await direct.record([scene.entry(), scene.entry()], []);
    // How many it linked is lost with the answer.
    return async (records) => void (await records.linkAudit());
  },
  claimDigest:
    async (_, { project }) =>
    (records) =>
      records.claimDigest(project, 'forest', 'rf-1', set.digestOf(project)),
  freeDigest: async (direct, { project }) => {
    await direct.claimDigest(project, 'forest', 'rf-1', set.digestOf(project));
    return (records) => records.freeDigest(project, 'forest', 'rf-1');
  },
  allotRelease: async (direct, scene) => {
    await withRelease(direct, scene);
    return (records) => records.allotRelease(`${scene.project}-command`, unallotted(scene));
  },
  announced: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    return (records) => records.announced(release);
  },
  fence: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    return (records) => records.fence([release], `${scene.project}-fence`);
  },
  createApplication: async (direct, scene) => {
    await set.setProject(direct, scene);
    const { application, project, type } = scene;
    const audit = scene.entry();
    const repository = `${project}/app`;
    const made = { application, project, owner: 'dan', types: [type], gates: ['function'], repository };
    return (records) => records.createApplication(made, audit);
  },
  changeApplication: async (direct, scene) => {
    await set.setApplication(direct, scene);
    const { application, project, type } = scene;
    const audit = scene.entry();
    const changed = { application, project, owner: 'dora', types: [type], gates: ['function'], revision: 1 };
    return (records) => records.changeApplication({ ...changed, repository: `${project}/app-other` }, audit);
  },
  moveLivePointer: async (direct, scene) => {
    await withLiveRelease(direct, scene);
    const { release } = await set.allot(direct, scene, 2);
    const { application, type } = scene;
    const move = { key: `${application}-move`, application, type, generation: 1, release, revert: false };
    const audit = scene.entry({ key: move.key });
    return (records) => records.moveLivePointer(move, audit);
  },
  recordImport: async (direct, scene) => {
    await direct.recordImport(dataImport(scene), null);
    const audit = scene.entry();
    return (records) => records.recordImport({ ...dataImport(scene), state: 'done', updatedAt: set.at(1) }, audit);
  },
  setNode: async (direct, scene) => {
    await set.setProject(direct, scene);
    const audit = scene.entry();
    return (records) => records.setNode(node(scene), audit);
  },
  removeNode: async (direct, scene) => {
    await set.setProject(direct, scene);
    await direct.setNode(node(scene), scene.entry());
    const audit = scene.entry();
    return (records) => records.removeNode(scene.project, node(scene).node, audit);
  },
  keepChunkDigests: async (_, scene) => (records) =>
    records.keepChunkDigests(storedFile(scene).sha256, Buffer.alloc(96, 7)),
  keepFileDigest: async (_, scene) => (records) => records.keepFileDigest(storedFile(scene)),
  recordByteFault: async (_, scene) => {
    const { uri, sha256: expected, modifiedAt: at } = storedFile(scene);
    return (records) => records.recordByteFault({ uri, expected, found: 'nothing', at });
  },
} satisfies Partial<Record<keyof Records, Prepare>>;

const reads = {
  job: async (direct, scene) => {
    await direct.queueJob(queuedJob(scene));
    return (records) => records.job(queuedJob(scene).name);
  },
  jobTurns: async (direct, scene) => {
    await direct.queueJob(queuedJob(scene));
    return async (records) =>
      (await records.jobTurns('training', testPool('one'), [])).filter(({ project }) => project === scene.project);
  },
  pools: async (direct, scene) => {
    await direct.watchedPool(testPool(scene.project), 3_600_000);
    return async (records) => (await records.pools(3_600_000)).filter(({ id }) => id === scene.project);
  },
  computeProfiles: async (direct, scene) => {
    await direct.putComputeProfile(profileOf(scene), scene.entry());
    return async (records) => (await records.computeProfiles()).filter(({ name }) => name === profileOf(scene).name);
  },
  offeredProfiles: async (direct, scene) => {
    await set.setProject(direct, scene);
    return (records) => records.offeredProfiles(scene.project);
  },
  takenJobs: async (direct, scene) => {
    const { name } = queuedJob(scene);
    await direct.queueJob(queuedJob(scene));
    await direct.takeJob(name, 'one', 'it is free');
    return async (records) => (await records.takenJobs('one')).filter((row) => row.name === name);
  },
  queuedJobs: async (direct, scene) => {
    const { name } = queuedJob(scene);
    await direct.queueJob(queuedJob(scene));
    return async (records) => (await records.queuedJobs({ limit: 10_000 })).filter((row) => row.name === name);
  },
  users: async (direct, scene) => {
    await withUser(direct, scene);
    return async (records) => (await records.users()).filter(({ user }) => user === scene.user);
  },
  user: async (direct, scene) => {
    await withUser(direct, scene);
    return (records) => records.user(scene.user);
  },
  token: async (direct, scene) => {
    await withToken(direct, scene);
    return (records) => records.token(token(scene).tokenId);
  },
  jobTokens: async (direct, scene) => {
    const job = { job: 'j-1', inputs: [], outputs: [] };
    await direct.issueToken({ ...token(scene), kind: 'job', name: scene.user, job }, scene.entry());
    return async (records) => (await records.jobTokens({ after: scene.user, limit: 1 })).rows;
  },
  principal: async (direct, scene) => {
    await withToken(direct, scene);
    return (records) => records.principal(token(scene).sha256);
  },
  principalIn: async (direct, scene) => {
    await withToken(direct, scene);
    await set.setProject(direct, scene);
    await direct.setMember(scene.project, { user: scene.user, roles: ['scientist'] }, scene.entry());
    return (records) => records.principalIn(token(scene).sha256, scene.project);
  },
  tokens: async (direct, scene) => {
    await withToken(direct, scene);
    return (records) => records.tokens(scene.user);
  },
  project: async (direct, scene) => {
    await set.setProject(direct, scene);
    return (records) => records.project(scene.project);
  },
  projects: async (direct, scene) => {
    await set.setProject(direct, scene);
    return async (records) => (await records.projects(null)).filter(({ project }) => project === scene.project);
  },
  typeAccess: async (direct, scene) => {
    await withOther(direct, scene);
    return (records) => records.typeAccess(scene.project);
  },
  mayConsume: async (direct, scene) => {
    await set.setProject(direct, scene);
    return (records) => records.mayConsume(scene.project, scene.type);
  },
  members: async (direct, scene) => {
    await set.setProject(direct, scene);
    await withUser(direct, scene);
    await direct.setMember(scene.project, { user: scene.user, roles: ['scientist'] }, scene.entry());
    return (records) => records.members(scene.project);
  },
  dataSet: async (direct, scene) => {
    await withDataSet(direct, scene);
    return (records) => records.dataSet(scene.project, 'd-1');
  },
  deletedDataSet: async (direct, scene) => {
    await withDeletedDataSet(direct, scene);
    return (records) => records.deletedDataSet(scene.project, 'd-1');
  },
  unsweptDataSets: async (direct, scene) => {
    await withDeletedDataSet(direct, scene);
    return async (records) => (await records.unsweptDataSets(1000)).filter(({ project }) => project === scene.project);
  },
  dataSets: async (direct, scene) => {
    await withDataSet(direct, scene);
    return (records) => records.dataSets({ project: scene.project });
  },
  projectOfType: async (direct, scene) => {
    await set.setProject(direct, scene);
    return (records) => records.projectOfType(scene.type);
  },
  audit: async (direct, scene) => {
    await withRows(direct, scene);
    return async (records) => (await records.audit({ project: scene.project })).rows.map(({ entry }) => entry);
  },
  audited: async (direct, scene) => {
    const entry = scene.entry();
    await direct.record([entry], []);
    return (records) => records.audited(entry.key);
  },
  // How many rows there are is of all tests together.
  verifyAudit: async (direct, scene) => {
    await withRows(direct, scene);
    return async (records) => (await records.verifyAudit()).broken ?? 'whole';
  },
  version: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.version(scene.project, 'forest', 'rf-1');
  },
  versionByNumber: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.versionByNumber(scene.project, 'forest', 1);
  },
  versions: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.versions({ project: scene.project });
  },
  evaluation: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.evaluation(scene.project, 'e-1');
  },
  evaluations: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.evaluations({ project: scene.project });
  },
  release: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    return (records) => records.release(release);
  },
  releaseCommand: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    return (records) => records.releaseCommand(release);
  },
  unmanifested: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    await direct.announced(release);
    return async (records) => (await records.unmanifested(1_000)).filter((one) => one.release.release === release);
  },
  known: async (direct, scene) => {
    await withRelease(direct, scene);
    return async (records) => (await records.known()).numbers.filter(({ type }) => type === scene.type);
  },
  auditHash: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.auditHash(1);
  },
  releases: async (direct, scene) => {
    await withRelease(direct, scene);
    return (records) => records.releases({ type: scene.type });
  },
  releasesOf: async (direct, scene) => {
    await withRelease(direct, scene);
    return (records) => records.releasesOf(scene.project, 'forest', 'rf-1');
  },
  fenced: async (direct, scene) => {
    const release = await withRelease(direct, scene);
    await direct.fence([release], 'c-1');
    return (records) => records.fenced(release);
  },
  application: async (direct, scene) => {
    await set.setApplication(direct, scene);
    return (records) => records.application(scene.application);
  },
  applications: async (direct, scene) => {
    await set.setApplication(direct, scene);
    return (records) => records.applications({ type: scene.type });
  },
  livePointer: async (direct, scene) => {
    await withLiveRelease(direct, scene);
    return (records) => records.livePointer(scene.application, scene.type);
  },
  unstartedTypes: async (direct, scene) => {
    await set.setApplication(direct, scene);
    return (records) => records.unstartedTypes(1);
  },
  wasLive: async (direct, scene) => {
    const release = await withLiveRelease(direct, scene);
    return (records) => records.wasLive(scene.application, scene.type, release);
  },
  liveAt: async (direct, scene) => {
    await withLiveRelease(direct, scene);
    return (records) => records.liveAt(scene.application, scene.type, '2999-01-01T00:00:00.000Z');
  },
  liveHistory: async (direct, scene) => {
    await withLiveRelease(direct, scene);
    return (records) => records.liveHistory({ application: scene.application, type: scene.type });
  },
  delivery: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.delivery(scene.application, 'r-1');
  },
  deliveries: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.deliveries({ application: scene.application });
  },
  scan: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.scan(scene.project, 's-1');
  },
  scans: async (direct, scene) => {
    await withRows(direct, scene);
    return (records) => records.scans({ project: scene.project });
  },
  import: async (direct, scene) => {
    await direct.recordImport(dataImport(scene), null);
    return (records) => records.import(scene.project, dataImport(scene).import);
  },
  imports: async (direct, scene) => {
    await direct.recordImport(dataImport(scene), null);
    return (records) => records.imports({ project: scene.project });
  },
  nodes: async (direct, scene) => {
    await set.setProject(direct, scene);
    await direct.setNode(node(scene), scene.entry());
    return (records) => records.nodes(scene.project);
  },
  chunkDigests: async (direct, scene) => {
    const { sha256 } = storedFile(scene);
    await direct.keepChunkDigests(sha256, Buffer.alloc(96, 7));
    return (records) => records.chunkDigests(sha256, 1, 2);
  },
  fileDigest: async (direct, scene) => {
    await direct.keepFileDigest(storedFile(scene));
    return (records) => records.fileDigest(storedFile(scene).uri);
  },
} satisfies Partial<Record<keyof Records, Prepare>>;

/** Every write of Records, by its name. */
export const writingCalls: readonly (readonly [name: string, prepare: Prepare])[] = [
  ...Object.entries(writes),
  ...Object.entries(decisionWrites),
];
/** Every read of Records, by its name; each answers something. */
export const readingCalls: readonly (readonly [name: string, prepare: Prepare])[] = [
  ...Object.entries(reads),
  ...Object.entries(decisionReads),
];

/** Of the whole database, so no scene has them alone: the first claim counts, a checkpoint may leave a number out, a pause holds up the others. */
type OfAllScenes = 'claimInstallation' | 'checkpoint' | 'pause' | 'paused';
// A call that Records gets and these tables lack does not compile.
// `exclusively` is left out: a connection that is cut may hold its lock a moment longer, and then somebody else is at it.
// `clock` is left out: it answers something else each time.
({ ...writes, ...reads, ...decisionWrites, ...decisionReads }) satisfies Record<
  Exclude<keyof Records, 'close' | 'exclusively' | 'clock' | OfAllScenes>,
  Prepare
>;
