// The scene of cases on Records: unique names, and valid values to vary.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { AuditEntry, Records } from '../../../activities/records.ts';
import { isFailure } from '../../../activities/failures.ts';
import type { FailureType } from '../../../workflows/domain/failures.ts';
import type { Delivery, Evaluation, Release, Scan, Version } from '../../../workflows/domain/model.ts';
import { defaultPolicy } from '../../../workflows/domain/model.ts';
import type { Digest } from '../../../workflows/domain/names.ts';

/** One case of the contract: it must fail on every Records that breaks what its name says. */
export interface RecordsCase {
  readonly name: string;
  readonly run: (records: Records, scene: Scene) => Promise<void>;
}

export interface Scene {
  /** The case's own project, type, user and application; nothing of them exists yet. */
  readonly project: string;
  readonly type: string;
  readonly user: string;
  readonly application: string;
  /** An audit entry with a unique key. */
  readonly entry: (some?: Partial<AuditEntry>) => AuditEntry;
}

export function createScene(): Scene {
  const tag = randomUUID().slice(0, 13);
  const project = `p-${tag}`;
  return {
    project,
    type: `t-${tag}`,
    user: `u-${tag}`,
    application: `a-${tag}`,
    entry: (some = {}) => ({
      key: randomUUID(),
      project,
      kind: 'version.state',
      actor: 'sam',
      subject: `${project}/forest/rf-1`,
      digest: null,
      report: null,
      reason: '',
      detail: {},
      at: '2026-01-02T03:04:05.000Z',
      ...some,
    }),
  };
}

export const START = '2026-01-02T03:04:05.000Z';
/** An instant so many seconds after the start. */
export const at = (seconds: number): string => new Date(Date.parse(START) + seconds * 1000).toISOString();
export const digestOf = (text: string): Digest => createHash('sha256').update(text).digest('hex') as Digest;

/** Links all written rows; waits if another process is linking. */
export async function linkAll(records: Records): Promise<void> {
  for (const until = Date.now() + 10_000; Date.now() < until; await pause(5))
    if ((await records.linkAudit()) === 0 && (await records.verifyAudit()).unlinked === 0) return;
  assert.fail('rows of the audit stayed unlinked');
}

/** Asserts that it fails, by this type, with a message that holds the text. */
export async function fails(work: Promise<unknown>, type: FailureType, text = ''): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    assert.ok(isFailure(error, type), `a ${type} was expected, not ${String(error)}`);
    assert.ok(error instanceof Error && error.message.includes(text), `"${text}" is missing in: ${String(error)}`);
    return true;
  });
}

/** The scene's project with its type. */
export async function setProject(records: Records, { project, type, entry }: Scene): Promise<void> {
  await records.createProject({ project, types: [type], policy: defaultPolicy }, entry());
}

/** The scene's project and an application that consumes its type. */
export async function setApplication(records: Records, scene: Scene): Promise<void> {
  await setProject(records, scene);
  await addApplication(records, scene, scene.application);
}

export async function addApplication(records: Records, scene: Scene, application: string): Promise<void> {
  const { project, type, entry } = scene;
  await records.createApplication(
    {
      application,
      project,
      owner: 'dan',
      types: [type],
      gates: [],
      repository: `${project}/app-${application}`,
    },
    entry(),
  );
}

export function versionRow({ project, type }: Scene, some: Partial<Version> = {}): Version {
  return {
    project,
    model: 'forest',
    type,
    submission: 'rf-1',
    author: 'sam',
    state: 'new',
    revision: 1,
    version: 1,
    revises: null,
    digest: digestOf('model'),
    files: [],
    run: null,
    tags: [],
    decisions: [],
    detail: '',
    keyId: 'k1',
    updatedAt: START,
    ...some,
  };
}

export function evaluationRow({ project }: Scene, some: Partial<Evaluation> = {}): Evaluation {
  return {
    evaluation: 'e-1',
    project,
    model: 'forest',
    submission: 'rf-1',
    actor: 'mia',
    dataset: 'held-out',
    state: 'running',
    digest: null,
    report: null,
    passed: null,
    metrics: {},
    detail: '',
    updatedAt: START,
    ...some,
  };
}

export function deliveryRow({ application, type }: Scene, release: string, some: Partial<Delivery> = {}): Delivery {
  return { application, release, type, state: 'received', gates: [], detail: '', updatedAt: START, ...some };
}

export function scanRow({ project, application, type }: Scene, some: Partial<Scan> = {}): Scan {
  return {
    scan: 's-1',
    project,
    application,
    type,
    release: `${type}-1`,
    findings: [
      {
        finding: 'f-1',
        name: 'copy',
        path: 'src/a.c',
        vulnerable: true,
        probability: 0.1 + 0.2,
        source: digestOf('a'),
        label: null,
      },
    ],
    state: 'open',
    revision: 0,
    commit: null,
    keyId: 'k1',
    updatedAt: START,
    ...some,
  };
}

/** Allots a release of a version of the scene's model. */
export async function allot(
  records: Records,
  { project, type }: Scene,
  version: number,
  command: string = randomUUID(),
) {
  const release: Omit<Release, 'release' | 'sequence' | 'state'> = {
    type,
    project,
    model: 'forest',
    submission: `rf-${version}`,
    version,
    digest: digestOf(`model ${version}`),
    files: [],
    report: null,
    approvedBy: ['mia'],
    releasedBy: 'mia',
    releasedAt: START,
  };
  return records.allotRelease(command, release);
}

type Move = Parameters<Records['moveLivePointer']>[0];

/** Moves the scene's live pointer, by default forward from its current release, with a unique key. */
export async function move(records: Records, scene: Scene, release: string, some: Partial<Move> = {}) {
  const { application, type, entry } = scene;
  const generation = some.generation ?? (await records.livePointer(application, type)).generation;
  const key = some.key ?? randomUUID();
  return records.moveLivePointer(
    { key, application, type, generation, release, revert: false, ...some },
    entry({ key, kind: 'application.moved', subject: application }),
  );
}
