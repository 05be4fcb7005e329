// Refused requests of people without the required role: recorded in the audit, and counted if they repeat.
import { randomUUID } from 'node:crypto';
import type { AuditEntry, Principal, Records } from '../activities/records.ts';
import type { Action, Role } from '../workflows/domain/roles.ts';
import { auditEntry } from './audit-entry.ts';

/** Length of `2026-01-02T03:04`. */
const MINUTE = 16;

/** Records the first refusal of an action per minute, and counts the following ones. */
export async function recordRefused(
  records: Records,
  given: {
    readonly principal: Principal;
    readonly roles: readonly Role[];
    readonly action: Action;
    readonly project: string;
    readonly subject: string;
    readonly body: Pick<AuditEntry, 'digest' | 'report'> & {
      readonly name: string;
      readonly commandId?: string | undefined;
    };
  },
): Promise<void> {
  const { principal, roles, action, project, subject, body } = given;
  const who = `${principal.kind}/${principal.name}`;
  const at = new Date().toISOString();
  const entry = auditEntry({
    key: `command.refused/${project}/${who}/${action}/${at.slice(0, MINUTE)}`,
    project,
    kind: 'command.refused',
    actor: principal.name,
    subject,
    digest: body.digest,
    report: body.report,
    reason: `${principal.name} (${roles.join(', ')}) has no permission for ${action}`,
    detail: {
      ...(body.commandId !== undefined && { commandId: body.commandId }),
      name: body.name,
      refused: 'not-authorized',
      command: { body: { ...body, actor: principal.name, roles }, signature: null },
    },
    at,
  });
  await records.recordRefused(entry, { principal: who, action, request: randomUUID() });
}
