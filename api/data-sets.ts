// Data sets: copied once to a read-only location, digested, and from then on referenced by name.
import { randomUUID } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from 'zod';
import type { ArtifactStore } from '../activities/ports.ts';
import type { DataSetReference, Records } from '../activities/records.ts';
import { REFERENCES_LIMIT } from '../activities/records.ts';
import { LABELLED_ROWS, labelledRows } from '../workflows/domain/labelled-rows.ts';
import type { DataSet, NamedArtifact } from '../workflows/domain/model.ts';
import type { Digest } from '../workflows/domain/names.ts';
import { storePath } from '../workflows/domain/names.ts';
import { auditEntry } from './audit-entry.ts';
import { digestMismatch, storeBytes } from './byte-stream.ts';
import { asDraft, dataSetFolder, sweepDataSets } from './data-set-files.ts';
import type { ApiDeps } from './deps.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { digestSchema, distinct, nameSchema, pageQuery, pathSchema } from './schemas.ts';
import { checkTestSet, TestSetProblem } from './test-sets.ts';
import { dataSetView, pageOf } from './views.ts';

const names = distinct<{ name: string }>(({ name }) => name, 'a file name');
const registration = z.strictObject({
  dataset: nameSchema,
  kind: z.enum(['training', 'test']),
  files: z
    .array(
      z.strictObject({
        name: pathSchema,
        area: z.enum(['private', 'common']),
        path: pathSchema,
        sha256: digestSchema.optional(),
      }),
    )
    .min(1)
    .max(500)
    .refine(names.check, names.message),
});
type Registration = z.output<typeof registration>;

const one = '/v1/projects/{project}/datasets/{dataset}';

export const dataSetRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records, areas } = deps;
  /** Includes deleted data sets, so that a repeated request gets the same answer. */
  const eitherWay = async ({ project, dataset }: { project: string; dataset: string }) =>
    (await records.dataSet(project, dataset)) ?? (await records.deletedDataSet(project, dataset));
  return [
    route({
      method: 'post',
      path: '/v1/projects/{project}/datasets',
      operationId: 'registerDataSet',
      summary:
        'Copies files into a data set. A test set is one file of labelled rows, which is checked first; it goes to staging, where only managers see its rows',
      action: ['dataset.register', 'testset.register'],
      actionOf: ({ body }) => (body.kind === 'test' ? 'testset.register' : 'dataset.register'),
      body: registration,
      response: dataSetView,
      statuses: [200, 201],
      async handler({ params: { project }, principal, body, request }) {
        const before = await records.dataSet(project, body.dataset);
        const given = await Promise.all(body.files.map((file) => sourceOf(areas, project, principal.name, file)));
        if (before) return { status: 200, body: await unchanged(areas, before, body, given) };
        const sources = body.kind === 'test' ? [await checkedRows(areas, given, request.signal)] : given;
        const area = body.kind === 'test' ? 'staging' : 'common';
        const draft = { project, dataset: body.dataset, area, attempt: randomUUID() } as const;
        const made = await asDraft(deps, draft, async () => {
          const files: NamedArtifact[] = [];
          for (const source of sources) {
            const path = `${dataSetFolder(body.dataset)}/${source.name}`;
            const target = storePath({ area, project, path });
            const bytes = await areas.read(source.uri, { signal: request.signal });
            const written = await storeBytes(areas, target, path, bytes, {
              signal: request.signal,
              expect: { bytes: source.bytes, ...(source.sha256 && { sha256: source.sha256 }) },
            });
            files.push({ name: source.name, ...written });
          }
          return register(records, project, principal.name, body, files, draft.attempt);
        });
        return { status: 201, body: made };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/datasets',
      operationId: 'listDataSets',
      summary: 'The data sets by name, with names, digests and sizes of their files',
      action: 'dataset.list',
      query: pageQuery,
      response: pageOf(dataSetView),
      async handler({ params: { project }, query: { after, limit } }) {
        return { body: await records.dataSets({ project, limit, ...(after !== undefined && { after }) }) };
      },
    }),
    route({
      method: 'get',
      path: one,
      operationId: 'getDataSet',
      summary: 'A data set',
      action: 'dataset.list',
      response: dataSetView,
      async handler({ params: { project, dataset } }) {
        const found = await records.dataSet(project, dataset);
        if (!found) throw notFound(`data set "${dataset}"`);
        return { body: found };
      },
    }),
    route({
      method: 'delete',
      path: one,
      operationId: 'deleteDataSet',
      summary: 'Deletes a data set that no run, open evaluation, decision or import uses; its name stays reserved',
      action: ['dataset.delete', 'testset.delete'],
      actionOf: async ({ params }) =>
        (await eitherWay(params))?.kind === 'test' ? 'testset.delete' : 'dataset.delete',
      scope: async ({ params, principal }) => {
        const found = await eitherWay(params);
        return found && { own: found.registeredBy === principal.name, found };
      },
      response: z.object({ dataset: z.string(), deleted: z.boolean() }),
      async handler({ params: { project, dataset }, principal, found: { kind, files } }) {
        const { references } = await records.deleteDataSet(
          project,
          dataset,
          auditEntry({
            ...{
              key: `dataset.deleted/${project}/${dataset}`,
              project,
              kind: 'dataset.deleted',
              actor: principal.name,
            },
            subject: `${project}/datasets/${dataset}`,
            detail: { kind, files: files.map(({ name, sha256, bytes }) => ({ name, sha256, bytes })) },
          }),
        );
        if (references.length > 0) throw problem(409, 'in-use', inUse(dataset, references), { references });
        await sweepDataSets(deps);
        return { body: { dataset, deleted: true } };
      },
    }),
  ];
};

/** Message that lists the references of a data set, at most {@link REFERENCES_LIMIT}. */
function inUse(dataset: string, references: readonly DataSetReference[]): string {
  const named = references.map(({ kind, name }) => `${kind} ${name}`).join(', ');
  const more = references.length === REFERENCES_LIMIT ? ' and possibly more' : '';
  return `data set "${dataset}" is in use by ${named}${more}: it cannot be deleted`;
}

interface Source {
  readonly name: string;
  readonly uri: NamedArtifact['uri'];
  readonly bytes: number;
  readonly sha256: Digest | undefined;
}

/** Private sources are in the caller's own area; no other area can be named. */
async function sourceOf(
  areas: ArtifactStore,
  project: string,
  user: string,
  { name, area, path, sha256 }: Registration['files'][number],
): Promise<Source> {
  const uri = areas.uri(storePath(area === 'private' ? { area, project, user, path } : { area, project, path }));
  const stored = await areas.stat(uri);
  if (!stored) throw problem(422, 'no-such-file', `files: there is no "${path}" in ${area}: upload it first`);
  return { name, uri, bytes: stored.bytes, sha256 };
}

/** The rows of a test set, which are checked before anything is stored. The digest pins what was checked. */
async function checkedRows(areas: ArtifactStore, files: readonly Source[], signal: AbortSignal): Promise<Source> {
  const file = labelledRows(files);
  if (!file) throw refusedRows('body.files', `a test set is ${LABELLED_ROWS}, with a labelled row in each line`);
  try {
    const sha256 = await checkTestSet(file, await areas.read(file.uri, { signal }), { signal });
    if (file.sha256 !== undefined && file.sha256 !== sha256) throw digestMismatch(file.name);
    return { ...file, sha256 };
  } catch (error) {
    if (!(error instanceof TestSetProblem)) throw error;
    const todo = 'correct the file, upload it and register it again';
    throw refusedRows('body.files.0', `"${file.name}": ${error.message}: ${todo}`);
  }
}

const refusedRows = (where: string, message: string) =>
  problem(400, 'invalid', `${where}: ${message}`, { errors: [{ where, message }] });

/** A data set is immutable: registering it again requires the same content. */
async function unchanged(
  areas: ArtifactStore,
  before: DataSet,
  { kind, dataset }: Registration,
  sources: readonly Source[],
): Promise<DataSet> {
  if (before.kind !== kind || before.files.length !== sources.length) throw taken(dataset);
  for (const source of sources) {
    const known = before.files.find(({ name }) => name === source.name);
    if (!known || known.bytes !== source.bytes || (await areas.digest(source.uri)) !== known.sha256)
      throw taken(dataset);
  }
  return before;
}

async function register(
  records: Records,
  project: string,
  actor: string,
  { dataset, kind }: Registration,
  files: readonly NamedArtifact[],
  attempt: string,
): Promise<DataSet> {
  const made: DataSet = { project, dataset, kind, files, registeredBy: actor, registeredAt: new Date().toISOString() };
  await records.registerDataSet(
    made,
    auditEntry({
      key: `dataset.registered/${project}/${dataset}`,
      project,
      kind: 'dataset.registered',
      actor,
      subject: `${project}/datasets/${dataset}`,
      detail: { kind, files: files.map(({ name, sha256, bytes }) => ({ name, sha256, bytes })) },
    }),
    attempt,
  );
  const stored = await records.dataSet(project, dataset);
  // If two requests raced, one was first.
  if (!stored || canonicalize(contentOf(stored)) !== canonicalize(contentOf(made))) throw taken(dataset);
  return stored;
}

const contentOf = ({ kind, files }: DataSet) => ({
  kind,
  files: files.map(({ name, sha256 }) => ({ name, sha256 })).sort((a, b) => (a.name < b.name ? -1 : 1)),
});
const taken = (dataset: string) =>
  problem(409, 'conflict', `data set "${dataset}" exists with other content: choose another name`);
