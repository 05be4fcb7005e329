// Workflows that had to be restarted and do not stay up; for `ocdl doctor`.
import type { Restarted } from '../activities/adapters/postgres/check.ts';
import { listRestarted } from '../activities/adapters/postgres/check.ts';
import type { Config } from './config.ts';

/** At most this many are listed. */
const MOST = 20;

/** What was found, with a warning if a workflow was restarted more than once: it ended again each time. */
export async function checkRestarts({
  databaseUrl: url,
  database,
}: Config): Promise<string | { readonly found: string; readonly warning: string }> {
  const restarted = await listRestarted({ url, ca: database.ca }, MOST);
  const ending = restarted.filter(({ restarts }) => restarts > 1);
  const count = `${restarted.length}${restarted.length === MOST ? ' or more' : ''}`;
  if (restarted.length === 0) return 'no workflow had to be restarted';
  const found = `${count} had to be restarted`;
  if (ending.length === 0) return `${found}: ${restarted.map(({ workflowId }) => workflowId).join(', ')}`;
  const warning =
    `these do not stay up and wait longer before each restart: ${ending.map(describe).join('; ')}; ` +
    'the Temporal Web UI and the worker’s log show why they end';
  return { found, warning };
}

const describe = ({ workflowId, restarts, next }: Restarted): string =>
  `${workflowId} (restarted ${restarts} times, next not before ${next})`;
