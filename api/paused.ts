// Refuses commands while decisions are paused: systems were restored to an earlier state and the operator has not accepted it yet.
import { pausedMessage } from '../activities/installation.ts';
import type { Records } from '../activities/records.ts';
import { problem } from './problems.ts';

/** One minute: the operator has to act first. */
const RETRY_AFTER_SECONDS = 60;

/** Throws 503 `restored`, with the findings, while decisions are paused. */
export async function mustNotBePaused(records: Records): Promise<void> {
  const paused = await records.paused();
  if (!paused) return;
  const findings = paused.findings.map(({ system, kind, text }) => ({ system, kind, text }));
  throw problem(503, 'restored', pausedMessage(paused), { findings }, { 'retry-after': String(RETRY_AFTER_SECONDS) });
}
