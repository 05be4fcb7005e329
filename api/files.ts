// Files of a project's three areas: the caller's private area, the common area, and staging, which is read-only.
import { z } from 'zod';
import type { Route } from './route.ts';
import { route } from './route.ts';
import type { Location, StorePath } from '../workflows/domain/names.ts';
import { dataSetsFolder, storePath } from '../workflows/domain/names.ts';
import { declaredDigest, digestHeaders, storeBytes } from './byte-stream.ts';
import type { RouteDeps } from './deps.ts';
import { problem } from './problems.ts';
import { flagSchema, pageFields, storedPathSchema } from './schemas.ts';
import { pageOf } from './views.ts';

const readActions = ['private.read', 'common.read', 'staging.read'] as const;

interface InArea {
  readonly params: { readonly project: string; readonly area: string };
  readonly principal: { readonly name: string };
}

type Area = Location['area'];
/** The path parameter's schema accepts only these words. */
const areaOf = ({ params }: { params: { readonly area: string } }): Area => params.area as Area;
const readAction = (asked: { params: { readonly area: string } }) => `${areaOf(asked)}.read` as const;
const writeAction = (asked: { params: { readonly area: string } }) => {
  const area = areaOf(asked);
  return area === 'staging' ? 'staging.read' : (`${area}.write` as const);
};

/** Private paths are always below the caller's own name; another user's path cannot be expressed. */
const own = () => ({ own: true, found: undefined });

const fileView = z.object({ path: z.string(), bytes: z.number(), modifiedAt: z.string() });

export const fileRoutes = ({ areas, send }: RouteDeps): readonly Route[] => [
  route({
    method: 'get',
    path: '/v1/projects/{project}/files/{area}',
    operationId: 'listFiles',
    summary: 'Files below a folder of an area, ordered by path',
    action: readActions,
    actionOf: readAction,
    scope: own,
    query: z.strictObject({ ...pageFields, folder: storedPathSchema.optional(), after: storedPathSchema.optional() }),
    response: pageOf(fileView),
    async handler(asked) {
      const { folder, after, limit } = asked.query;
      const root = rootOf(asked);
      const page = await areas.list((folder ? `${root}/${folder}` : root) as StorePath, {
        limit,
        ...(after && { after: `${root}/${after}` as StorePath }),
      });
      const relative = (path: string): string => path.slice(root.length + 1);
      const rows = page.files.map(({ path, bytes, modifiedAt }) => ({ path: relative(path), bytes, modifiedAt }));
      return { body: { rows, ...(page.next && { next: relative(page.next) }) } };
    },
  }),
  route({
    method: 'get',
    path: '/v1/projects/{project}/files/{area}/{path}',
    operationId: 'getFile',
    summary: 'Downloads a file or a range of it; HEAD returns only the headers',
    action: readActions,
    actionOf: readAction,
    scope: own,
    response: 'bytes',
    statuses: [200, 206, 304],
    handler: (asked) =>
      send.named(areas.uri(pathOf(asked)), { request: asked.request, what: `file "${asked.params.path}"` }),
  }),
  route({
    method: 'put',
    path: '/v1/projects/{project}/files/{area}/{path}',
    operationId: 'putFile',
    summary: 'Uploads a file; repeating the same bytes is harmless, other bytes need replace=true',
    // `staging.read` represents an area that only the platform writes to: the handler then refuses the write.
    action: ['private.write', 'common.write', 'staging.read'],
    actionOf: writeAction,
    scope: own,
    query: z.strictObject({ replace: flagSchema.default(false) }),
    body: 'bytes',
    response: z.object({ path: z.string(), sha256: z.string(), bytes: z.number() }),
    statuses: [200, 201],
    async handler(asked) {
      const { area, path } = asked.params;
      if (area === 'staging') throw problem(403, 'forbidden', 'only the platform writes to staging: submit a version');
      if (area === 'common' && path.split('/')[0] === dataSetsFolder)
        throw problem(403, 'forbidden', 'common/datasets holds registered data sets, which never change: register one');
      const sha256 = declaredDigest(asked.request);
      const target = pathOf(asked);
      const before = await areas.stat(areas.uri(target));
      const written = await storeBytes(areas, target, path, asked.upload(), {
        ifExists: asked.query.replace ? 'replace' : 'same',
        signal: asked.request.signal,
        ...(sha256 && { expect: { sha256 } }),
      });
      return {
        status: before ? 200 : 201,
        headers: digestHeaders(written.sha256),
        body: { path, sha256: written.sha256, bytes: written.bytes },
      };
    },
  }),
];

function rootOf(asked: InArea): string {
  const { project } = asked.params;
  const area = areaOf(asked);
  return area === 'private' ? `private/${project}/${asked.principal.name}` : `${area}/${project}`;
}

function pathOf(asked: InArea & { readonly params: { readonly path: string } }): StorePath {
  const { project, path } = asked.params;
  const area = areaOf(asked);
  return storePath(area === 'private' ? { area, project, user: asked.principal.name, path } : { area, project, path });
}
