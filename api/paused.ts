// Commands wait while systems were set back to another moment and nobody on the machine has accepted it.
import { pausedMessage } from '../activities/installation.ts';
import type { Records } from '../activities/records.ts';
import { problem } from './problems.ts';

/** A minute: somebody has to look first. */
const RETRY_AFTER_SECONDS = 60;

/** Throws 503 `restored`, with what was found, while decisions are paused. */
export async function mustNotBePaused(records: Records): Promise<void> {
  const paused = await records.paused();
  if (!paused) return;
  const findings = paused.findings.map(({ system, kind, text }) => ({ system, kind, text }));
  throw problem(503, 'restored', pausedMessage(paused), { findings }, { 'retry-after': String(RETRY_AFTER_SECONDS) });
}
