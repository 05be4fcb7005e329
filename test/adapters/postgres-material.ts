// Prerequisites and arguments of the calls of Records.
import type { Records } from '../../activities/records.ts';
import type { Import, Node } from '../../workflows/domain/import.ts';
import type { DataSet } from '../../workflows/domain/model.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import type { ArtifactUri, Digest } from '../../workflows/domain/names.ts';
import * as set from '../contracts/records/scene.ts';
import type { Scene } from '../contracts/records/scene.ts';

/** Creates the prerequisites through undisturbed Records, and returns the call. */
export type Prepare = (direct: Records, scene: Scene) => Promise<(records: Records) => Promise<unknown>>;

export const token = ({ user }: Scene) => ({
  tokenId: `${user}-token`,
  sha256: set.digestOf(user),
  kind: 'user' as const,
  name: user,
  expiresAt: null,
  job: null,
});
export const dataSet = ({ project }: Scene): DataSet => ({
  project,
  dataset: 'd-1',
  kind: 'training',
  files: [],
  registeredBy: 'sam',
  registeredAt: set.START,
});
/** The digest is none, so that its row can be found by the scene. */
export const storedFile = ({ project }: Scene) => ({
  uri: `local:areas/common/${project}/rows.csv` as ArtifactUri,
  sha256: `sha256-${project}` as Digest,
  bytes: 3 * 2 ** 20,
  modifiedAt: set.START,
});
export const unallotted = ({ project, type }: Scene) => ({
  type,
  project,
  model: 'forest',
  submission: 'rf-2',
  version: 2,
  digest: set.digestOf('model'),
  files: [],
  report: null,
  approvedBy: ['mia'],
  releasedBy: 'mia',
  releasedAt: set.START,
});

export const dataImport = ({ project }: Scene): Import => ({
  project,
  import: 'i-1',
  dataset: 'd-1',
  source: { kind: 'https', url: 'https://data.example.org/rows.csv' },
  unpack: false,
  actor: 'sam',
  state: 'fetching',
  detail: '',
  bytes: 0,
  files: [],
  sheet: null,
  updatedAt: set.START,
});
export const node = ({ project }: Scene): Node => ({
  kind: 'sftp',
  project,
  node: 'n-1',
  host: 'data.example.org',
  port: 22,
  user: 'ocdl',
  hostKey: 'SHA256:x',
  secret: 'key',
});

export async function withUser(direct: Records, { user, entry }: Scene): Promise<void> {
  await direct.createUser(user, false, entry());
}

export async function withToken(direct: Records, scene: Scene): Promise<void> {
  await withUser(direct, scene);
  await direct.issueToken(token(scene), scene.entry());
}

export async function withDataSet(direct: Records, scene: Scene): Promise<void> {
  await set.setProject(direct, scene);
  await direct.registerDataSet(dataSet(scene), scene.entry());
}

export async function withDeletedDataSet(direct: Records, scene: Scene): Promise<void> {
  await withDataSet(direct, scene);
  await direct.deleteDataSet(scene.project, 'd-1', scene.entry());
}

/** Another project; returns the grant of the scene's type to it, which is not made yet. */
export async function withOther(direct: Records, scene: Scene) {
  await set.setProject(direct, scene);
  const consumer = `${scene.project}-2`;
  await direct.createProject({ project: consumer, types: [], policy: defaultPolicy }, scene.entry());
  return { owner: scene.project, type: scene.type, consumer, granted: true };
}

export async function withRelease(direct: Records, scene: Scene): Promise<string> {
  await set.setApplication(direct, scene);
  return (await set.allot(direct, scene, 1)).release;
}

export async function withLiveRelease(direct: Records, scene: Scene): Promise<string> {
  const release = await withRelease(direct, scene);
  await set.move(direct, scene, release);
  return release;
}

export async function withRows(direct: Records, scene: Scene): Promise<void> {
  await direct.record(
    [scene.entry()],
    [
      { kind: 'version', row: set.versionRow(scene) },
      { kind: 'evaluation', row: set.evaluationRow(scene) },
      { kind: 'delivery', row: set.deliveryRow(scene, 'r-1') },
      { kind: 'scan', row: set.scanRow(scene) },
    ],
  );
}
