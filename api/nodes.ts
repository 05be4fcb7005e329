// Nodes: external hosts from which a project's managers allow imports.
import { createHash, randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Node } from '../workflows/domain/import.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { rowsOf } from './views.ts';

const host = z
  .string()
  .max(253)
  .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/, 'a host is a name or an address in lower case, without a port');
const word = (what: string) =>
  z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/, `${what} has 1 to 64 plain characters`);
/** A pinned host key: an OpenSSH fingerprint, or a public key line, from which the fingerprint is computed. */
const hostKey = z
  .string()
  .max(2_000)
  .transform((text, context) => {
    if (/^SHA256:[A-Za-z0-9+/]{43}$/.test(text)) return text;
    const blob = /^(?:ssh|ecdsa)-[a-z0-9@.-]+ ([A-Za-z0-9+/]+=*)(?: .*)?$/.exec(text.trim())?.[1];
    if (blob !== undefined)
      return `SHA256:${createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace(/=+$/, '')}`;
    context.addIssue({
      code: 'custom',
      message: 'the host key is "SHA256:…" (ssh-keygen -l) or the line of its public key file',
    });
    return z.NEVER;
  });

const registration = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('sftp'),
    host,
    port: z.int().min(1).max(65_535).default(22),
    user: word('a user'),
    hostKey,
    /** Only the secret's name. The key itself never passes through the API. */
    secret: word('a secret’s name'),
  }),
  z.strictObject({ kind: z.literal('https'), host }),
]);

const names = { project: z.string(), node: z.string(), host: z.string() };
const nodeView = z.discriminatedUnion('kind', [
  z.object({
    ...{ ...names, kind: z.literal('sftp'), port: z.number(), user: z.string() },
    ...{ hostKey: z.string(), secret: z.string() },
  }),
  z.object({ ...names, kind: z.literal('https') }),
]) satisfies z.ZodType<Node>;

const one = '/v1/projects/{project}/nodes/{node}';

export const nodeRoutes = ({ records }: ApiDeps): readonly Route[] => [
  route({
    method: 'get',
    path: '/v1/projects/{project}/nodes',
    operationId: 'listNodes',
    summary: 'The hosts from which the project may import data, in addition to those of the platform',
    action: 'dataset.list',
    response: rowsOf(nodeView),
    async handler({ params: { project } }) {
      return { body: { rows: await records.nodes(project) } };
    },
  }),
  route({
    method: 'put',
    path: one,
    operationId: 'setNode',
    summary:
      'Registers a private node (SFTP, behind its pinned host key) or a web host (HTTPS), replacing one with the same name',
    action: 'node.manage',
    body: registration,
    response: nodeView,
    async handler({ params: { project, node }, principal, body }) {
      const row: Node = { ...body, project, node };
      await records.setNode(row, entry(project, node, 'node.set', principal.name, { ...body }));
      return { body: row };
    },
  }),
  route({
    method: 'delete',
    path: one,
    operationId: 'removeNode',
    summary: 'Removes a node; running imports that use it fail at their next request',
    action: 'node.manage',
    response: z.object({ node: z.string(), removed: z.boolean() }),
    async handler({ params: { project, node }, principal }) {
      await records.removeNode(project, node, entry(project, node, 'node.removed', principal.name, {}));
      return { body: { node, removed: true } };
    },
  }),
];

const entry = (project: string, node: string, kind: string, actor: string, detail: Readonly<Record<string, unknown>>) =>
  auditEntry({
    ...{ key: `${kind}/${project}/${node}/${randomUUID()}`, project, kind, actor, detail },
    subject: `${project}/nodes/${node}`,
  });
