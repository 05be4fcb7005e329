// Decisions about findings: first the labels are recorded, then committed, then the command is complete.
import type { Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { RESTORED } from '../../../workflows/domain/failures.ts';
import { partsOf } from '../../../workflows/domain/ids.ts';
import { labelled, namedFindings } from '../../../workflows/domain/labels.ts';
import type { Scan } from '../../../workflows/domain/model.ts';
import type { ScanStanding } from '../../../workflows/domain/standing.ts';
import { append } from './audit.ts';
import { decisionOf, failCommand, insertDecision, noteEffect, refuse, settle, takeCommand } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { transact } from './connection.ts';
import type { ScanNow } from './judging.ts';
import { judgeScan, scanNow } from './judging.ts';
import { writeProjections } from './projections.ts';

type LabelDecisionRecords = Pick<Records, 'scanStanding' | 'decideLabels' | 'completeLabels' | 'failLabels'>;

const scanOf = (workflowId: string) => partsOf(workflowId, 'feedback', 'project', 'scan');

/** The label-decision part of Records. */
export function labelDecisionRecords(db: Database): LabelDecisionRecords {
  return {
    async scanStanding(workflowId) {
      return standingOf(await scanNow(db, scanOf(workflowId), false));
    },

    async decideLabels(workflowId, command) {
      const of = scanOf(workflowId);
      return transact(db, async (trx) => {
        const now = await scanNow(trx, of, true);
        const subject = `${of.project}/scans/${of.scan}`;
        const taken = await takeCommand(trx, workflowId, command, { project: of.project, subject });
        if (!taken.isOpen) return standingOf(now);
        const { body } = taken;
        const refusal = judgeScan(now, body);
        if (refusal) {
          await refuse(trx, taken, refusal);
          return standingOf(now);
        }
        const at = new Date().toISOString();
        const { scan, policy } = now;
        const findings = labelled(scan, body, at);
        const state = findings.every(({ label }) => label) ? 'labelled' : 'open';
        const labelledScan: Scan = { ...scan, findings, state, revision: scan.revision + 1, updatedAt: at };
        await writeProjections(trx, [{ kind: 'scan', row: labelledScan }]);
        const noted = { revision: scan.revision, policyVersion: policy.version, at };
        await insertDecision(trx, taken, { ...noted, pending: true });
        await settle(trx, taken, { status: 'accepted' });
        await append(trx, [
          {
            ...{ key: `${workflowId}/${body.commandId}`, project: of.project, kind: `finding.${body.name}` },
            ...{ actor: body.actor, subject, digest: null, report: null, reason: body.args.reason ?? '' },
            detail: { findings: body.args.findings, command: taken.command },
            at,
          },
        ]);
        const pending = { commandId: body.commandId, name: body.name, release: null };
        return standingOf({ ...now, scan: labelledScan, pending });
      });
    },

    async completeLabels(workflowId, commandId, commit) {
      return transact(db, async (trx) => {
        const now = await scanNow(trx, scanOf(workflowId), true);
        if (now.pending?.commandId !== commandId) return standingOf(now);
        const found = await mustFind(trx, workflowId, commandId);
        const scan: Scan = { ...now.scan, commit, updatedAt: nowOr(now.scan.updatedAt) };
        await writeProjections(trx, [{ kind: 'scan', row: scan }]);
        await noteEffect(trx, workflowId, commandId, { commit }, 'complete');
        const count = namedFindings(found.command.body).length;
        await settle(trx, found.taken, { status: 'done', message: `${count} findings labelled, commit ${commit}` });
        return standingOf({ ...now, scan, pending: null });
      });
    },

    async failLabels(workflowId, commandId, { reason, message }) {
      return transact(db, async (trx) => {
        const now = await scanNow(trx, scanOf(workflowId), true);
        if (now.pending?.commandId !== commandId || reason === RESTORED) return standingOf(now);
        const found = await mustFind(trx, workflowId, commandId);
        await noteEffect(trx, workflowId, commandId, {}, 'failed');
        await failCommand(trx, found.taken, reason, message);
        return standingOf({ ...now, pending: null });
      });
    },
  };
}

/** The current time, or `time` if that is later: of one revision, the row with the later time is kept. */
const nowOr = (time: string): string => new Date(Math.max(Date.now(), Date.parse(time))).toISOString();

async function mustFind(trx: Work, workflowId: string, commandId: string) {
  const found = await decisionOf(trx, workflowId, commandId);
  if (!found) throw failure('NotFound', `there is no decision ${commandId} of ${workflowId}`);
  return found;
}

function standingOf({ scan: { findings, ...scan }, pending }: ScanNow): ScanStanding {
  return { scan, findings: findings.length, labelled: findings.filter(({ label }) => label).length, pending };
}
