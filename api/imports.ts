// Data acquisition: imports from public repositories, web servers and private nodes. Each becomes a data set.
import { z } from 'zod';
import type { Source } from '../workflows/domain/import.ts';
import { fieldProblems, importFolder, importStates, newImport } from '../workflows/domain/import.ts';
import type { Import, ImportedFile } from '../workflows/domain/import.ts';
import { storePath } from '../workflows/domain/names.ts';
import { workflowId } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import type { RouteDeps } from './deps.ts';
import { isGatewayError } from './gateway.ts';
import { recordStart } from './once.ts';
import { notFound, problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { digestSchema, judged, nameSchema, pageQuery } from './schemas.ts';
import { fileView, pageOf, type Shown } from './views.ts';

const { repository, ref, tag, coordinate, url, path } = fieldProblems;
const source = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('github'), repository: judged(repository), ref: judged(ref) }),
  z.strictObject({ kind: z.literal('github-release'), repository: judged(repository), tag: judged(tag) }),
  z.strictObject({ kind: z.literal('maven'), coordinate: judged(coordinate) }),
  z.strictObject({ kind: z.literal('https'), url: judged(url) }),
  z.strictObject({ kind: z.literal('sftp'), node: nameSchema, path: judged(path) }),
]) satisfies z.ZodType<Source>;

const request = z.strictObject({
  import: nameSchema,
  dataset: nameSchema,
  source,
  unpack: z.boolean().default(false),
  sha256: digestSchema.optional(),
});

const expected = z.object({ algorithm: z.enum(['sha512', 'sha256', 'sha1', 'md5']), digest: z.string() });
const importedFileView = fileView.extend({
  unpack: z.boolean(),
  origin: z.object({
    address: z.string(),
    bytes: z.number(),
    sha256: digestSchema.nullable(),
    validator: z.string().nullable(),
    checked: expected.nullable(),
  }),
  entries: z.number().nullable(),
  leftOut: z.object({
    count: z.number(),
    examples: z.array(z.object({ path: z.string(), why: z.string() })).readonly(),
  }),
}) satisfies z.ZodType<Shown<ImportedFile>>;

const importView = z.object({
  project: z.string(),
  import: z.string(),
  dataset: z.string(),
  source,
  unpack: z.boolean(),
  actor: z.string(),
  state: z.enum(importStates),
  detail: z.string(),
  bytes: z.number(),
  files: z.array(importedFileView).readonly(),
  sheet: fileView.nullable(),
  updatedAt: z.string(),
}) satisfies z.ZodType<Omit<Shown<Import>, 'resolution'>>;

const one = '/v1/projects/{project}/imports/{import}';

export const importRoutes = ({ records, areas, workflows, send }: RouteDeps): readonly Route[] => {
  const found = async ({ project, import: id }: { project: string; import: string }): Promise<Import> => {
    const row = await records.import(project, id);
    if (!row) throw notFound(`import "${id}"`);
    return row;
  };

  return [
    route({
      method: 'post',
      path: '/v1/projects/{project}/imports',
      operationId: 'startImport',
      summary:
        'Imports data from outside into a new data set; repeating the request is harmless, a different one under the same id is a conflict',
      action: 'dataset.register',
      body: request,
      response: importView,
      statuses: [200, 201],
      async handler({ params: { project }, principal, roles, body }) {
        const { sha256 = null, ...given } = body;
        const input = { ...given, project, sha256, actor: principal.name };
        const before = await records.import(project, body.import);
        if (!before && (await records.dataSet(project, body.dataset)))
          throw problem(
            409,
            'conflict',
            `dataset: "${body.dataset}" exists, and data sets are immutable: choose another name`,
          );
        const id = workflowId.dataImport(input);
        await recordStart(
          records,
          { workflowId: id, type: 'dataImport', input, askedBy: principal.name, roles, project },
          auditEntry({
            key: `import.started/${id}`,
            project,
            kind: 'import.started',
            actor: principal.name,
            subject: `${project}/imports/${body.import}`,
            detail: { request: { ...body, sha256, actor: principal.name } },
          }),
          [],
        );
        if (!before) await records.recordImport(newImport(input, 'resolving', new Date().toISOString()), null);
        const row = await found(input);
        const isOpen = row.state === 'resolving' || row.state === 'fetching';
        const { started } = isOpen ? await workflows.startImport(input) : { started: false };
        return { status: started ? 201 : 200, body: row };
      },
    }),
    route({
      method: 'get',
      path: '/v1/projects/{project}/imports',
      operationId: 'listImports',
      summary: 'The imports, oldest first, each with its state and progress',
      action: 'dataset.list',
      query: pageQuery,
      response: pageOf(importView),
      async handler({ params: { project }, query: { after, limit } }) {
        return { body: await records.imports({ project, limit, ...(after !== undefined && { after }) }) };
      },
    }),
    route({
      method: 'get',
      path: one,
      operationId: 'getImport',
      summary: 'An import: its state, what it does or waits for, and its progress',
      action: 'dataset.list',
      response: importView,
      async handler({ params }) {
        return { body: await found(params) };
      },
    }),
    route({
      method: 'delete',
      path: one,
      operationId: 'cancelImport',
      summary: 'Cancels a running import and removes its stored files',
      action: 'import.cancel',
      scope: async ({ params, principal }) => {
        const row = await records.import(params.project, params.import);
        return row && { own: row.actor === principal.name, found: row };
      },
      response: importView,
      statuses: [200, 202],
      async handler({ params: { project }, principal, found: row }) {
        if (row.state !== 'resolving' && row.state !== 'fetching') return { status: 200, body: row };
        await records.record(
          [
            auditEntry({
              key: `import.cancel/${workflowId.dataImport(row)}/${principal.name}`,
              project,
              kind: 'import.cancel',
              actor: principal.name,
              subject: `${project}/imports/${row.import}`,
            }),
          ],
          [],
        );
        await workflows.cancel(workflowId.dataImport(row)).catch((error: unknown) => {
          // It has just ended on its own.
          if (!isGatewayError(error, 'closed')) throw error;
        });
        return { status: 202, body: (await records.import(project, row.import)) ?? row };
      },
    }),
    route({
      method: 'get',
      path: `${one}/datasheet`,
      operationId: 'getDataSheet',
      summary: 'The data sheet of a completed import, as JSON or Markdown',
      action: 'dataset.list',
      query: z.strictObject({ format: z.enum(['json', 'markdown']).default('json') }),
      response: 'bytes',
      statuses: [200, 206, 304],
      async handler({ params, query: { format }, request: asked }) {
        const row = await found(params);
        if (!row.sheet) throw notFound(`data sheet of import "${row.import}" (it is ${row.state})`);
        const wanted = { request: asked, what: 'data sheet' };
        if (format === 'json') return send.recorded(row.sheet, { ...wanted, contentType: 'application/json' });
        const markdown = { ...wanted, contentType: 'text/markdown; charset=utf-8' };
        if (row.sheetText) return send.recorded(row.sheetText, markdown);
        // Imports by earlier platform versions recorded no digest of it.
        const path = `${importFolder(row)}/datasheet.md`;
        return send.named(areas.uri(storePath({ area: 'common', project: row.project, path })), markdown);
      },
    }),
  ];
};
