// model.lock on the main branch names the live releases, whatever its content was before and despite concurrent changes.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createGitHost } from '../../activities/adapters/git.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { ModelLock } from '../../activities/delivery.ts';
import { createDeliveryActivities } from '../../activities/delivery.ts';
import type { ArtifactStore, Cluster, CodeHost } from '../../activities/ports.ts';
import type { Records } from '../../activities/records.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { inActivity } from '../activities/activity.ts';
import { freshDatabase } from '../servers.ts';
import { auditEntry } from './passage.ts';

const types = ['kind', 'other'];
const state: { folder: string; records?: Records; code?: CodeHost } = { folder: '' };
const world = () => {
  if (!state.records || !state.code) throw new Error('no world');
  return { records: state.records, code: state.code };
};
beforeAll(async () => {
  state.folder = await mkdtemp(join(tmpdir(), 'ocdl-lock-'));
  state.records = await createPostgresRecords({ url: await freshDatabase() });
  state.code = await createGitHost({ root: join(state.folder, 'git') });
  await state.records.createProject({ project: 'p', types, policy: defaultPolicy }, auditEntry('project.created'));
  await state.records.createApplication(
    { application: 'shop', project: 'p', owner: 'dev', types, gates: [], repository: 'p/app-shop' },
    auditEntry('application.created'),
  );
}, 120_000);
afterAll(async () => {
  await state.records?.close();
  await rm(state.folder, { recursive: true, force: true });
});

/** Makes a new release of the type live; returns its name. */
async function goLive(type: string): Promise<string> {
  const { records } = world();
  const entry = auditEntry('application.live');
  const { release } = await records.allotRelease(entry.key, {
    ...{ type, project: 'p', model: 'm', submission: entry.key, version: 1, digest: 'a'.repeat(64) as Digest },
    ...{ files: [], report: null, approvedBy: ['mia'], releasedBy: 'mia', releasedAt: entry.at },
  });
  const { generation } = await records.livePointer('shop', type);
  const move = { key: entry.key, application: 'shop', type, generation, release, revert: false };
  expect(await records.moveLivePointer(move, entry)).toMatchObject({ moved: true });
  return release;
}

/** Runs the activity as a worker would, with a host that may run a hook before each commit. */
function commitLive(type: string, before: () => Promise<unknown> = async () => undefined) {
  const { records, code } = world();
  const waits: CodeHost = {
    ...code,
    async commit(change) {
      await before();
      return code.commit(change);
    },
  };
  const unused = {} as ArtifactStore & Cluster;
  const activities = createDeliveryActivities({ records, releases: unused, cluster: unused, code: waits });
  const workflowId = `application/shop/${type}`;
  return inActivity(() => activities.commitLive({ application: 'shop', type }), { workflowId });
}
const lock = async () => {
  const bytes = await world().code.read('p/app-shop', 'main', 'model.lock');
  const held = JSON.parse(Buffer.from(bytes ?? '').toString('utf8')) as ModelLock;
  return Object.fromEntries(Object.entries(held).map(([type, { release }]) => [type, release]));
};

it('is rewritten if a person has broken it', async () => {
  const { code } = world();
  const kind = await goLive('kind');
  await code.ensure('p/app-shop');
  const files = { 'model.lock': '<<<<<<< HEAD' };
  await code.commit({ repository: 'p/app-shop', branch: 'main', files, message: 'merge', author: 'dev' });
  await commitLive('kind');
  expect(await lock()).toEqual({ kind });
});

it('names the live releases even if another release or type goes live before the commit', async () => {
  const moved: string[] = [];
  const once = async () => {
    if (moved.length === 0) moved.push(await goLive('kind'), await goLive('other'));
  };
  await commitLive('kind', once);
  expect(await lock()).toEqual({ kind: moved[0], other: moved[1] });
  // A late retry of either changes nothing.
  const before = await world().code.resolve('p/app-shop', 'main');
  expect(await commitLive('other')).toEqual({ commit: before });
});
