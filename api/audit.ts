// The audit: who did what, when, why and on which evidence, and whether the hash chain is intact.
import { z } from 'zod';
import type { ApiDeps } from './deps.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { pageFields, textSchema } from './schemas.ts';
import { auditCheckView, auditRowView, pageOf } from './views.ts';

const query = z.strictObject({ ...pageFields, subject: textSchema(300).min(1).optional() });

export const auditRoutes = ({ records }: ApiDeps): readonly Route[] => [
  route({
    method: 'get',
    path: '/v1/projects/{project}/audit',
    operationId: 'readProjectAudit',
    summary:
      "The project's audit, oldest first; rows of the last second are not linked into the chain yet and come last",
    action: 'audit.read',
    query,
    response: pageOf(auditRowView),
    async handler({ params: { project }, query: { after, limit, subject } }) {
      const page = { limit, ...(after !== undefined && { after }), ...(subject !== undefined && { subject }) };
      return { body: await records.audit({ project, ...page }) };
    },
  }),
  route({
    method: 'get',
    path: '/v1/audit',
    operationId: 'readAudit',
    summary: 'The whole audit, oldest first; rows of the last second are not linked into the chain yet and come last',
    action: 'platform.see',
    query,
    response: pageOf(auditRowView),
    async handler({ query: { after, limit, subject } }) {
      const page = { limit, ...(after !== undefined && { after }), ...(subject !== undefined && { subject }) };
      return { body: await records.audit(page) };
    },
  }),
  route({
    method: 'get',
    path: '/v1/audit/verification',
    operationId: 'verifyAudit',
    summary: 'Verifies the whole chain and every decision, lists faults, and counts rows that are not linked yet',
    action: 'platform.see',
    response: auditCheckView.extend({
      decisions: z.object({ checked: z.number(), problems: z.array(z.string()).readonly() }).meta({
        description: 'Decisions with a checked signature, and approvals, releases and live versions without a decision',
      }),
    }),
    async handler() {
      const [chain, decisions] = await Promise.all([records.verifyAudit(), records.verifyDecisions()]);
      return { body: { ...chain, decisions } };
    },
  }),
];
