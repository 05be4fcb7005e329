// Requirements of an approval: evidence for exactly these bytes, and enough approvals by current managers.
import type { Policy } from './model.ts';

/** One manager's approval. */
export interface Approval {
  readonly actor: string;
  /** Version of the policy in force at the approval. */
  readonly policyVersion: number;
  readonly commandId: string;
  /** ISO 8601 */
  readonly at: string;
}

/** One version of the policy. `setBy` is null if the record does not show who set it. */
export interface PolicyEdition {
  readonly policy: Policy;
  readonly setBy: string | null;
}

/**
 * Approvals that count now, and lapsed ones with the reason: the person is no longer a manager or is disabled, or the policy
 * has changed since.
 */
export function countApprovals(
  approvals: readonly Approval[],
  now: { readonly managers: ReadonlySet<string>; readonly policyVersion: number },
): {
  readonly counting: readonly string[];
  readonly lapsed: readonly { readonly actor: string; readonly why: string }[];
} {
  const counting: string[] = [];
  const lapsed: { actor: string; why: string }[] = [];
  for (const { actor, policyVersion } of approvals) {
    if (!now.managers.has(actor)) lapsed.push({ actor, why: 'is no longer a manager of the project, or is disabled' });
    else if (policyVersion !== now.policyVersion)
      lapsed.push({
        actor,
        why: `approved under policy ${policyVersion}, but policy ${now.policyVersion} is in force now`,
      });
    else if (!counting.includes(actor)) counting.push(actor);
  }
  return { counting, lapsed };
}

/**
 * The thresholds for a version of this author: the policy in force. If the author set it, the strictest of it and the earlier
 * ones applies, back to the last one that someone else set: authors cannot lower the thresholds for their own work.
 * @param editions newest first
 */
export function barFor(
  author: string,
  editions: readonly PolicyEdition[],
): { readonly quorum: number; readonly thresholds: Readonly<Record<string, number>> } {
  let quorum = 1;
  const thresholds: Record<string, number> = {};
  for (const { policy, setBy } of editions) {
    quorum = Math.max(quorum, policy.quorum);
    for (const [metric, minimum] of Object.entries(policy.thresholds))
      thresholds[metric] = Math.max(minimum, thresholds[metric] ?? minimum);
    if (setBy !== author) break;
  }
  return { quorum, thresholds };
}

/** One evaluation in the record. */
export interface Evidence {
  readonly evaluation: string;
  readonly digest: string;
  readonly report: string;
  readonly dataset: string;
  /** Who requested it, and whether they were a manager at that time. */
  readonly actor: string;
  readonly askedAsManager: boolean;
  /** ISO 8601 time of the request. */
  readonly begunAt: string;
  readonly metrics: Readonly<Record<string, number | null>>;
  /** Who registered the data set as a test set; null if it is not a test set. */
  readonly testSetBy: string | null;
}

/**
 * Why this evaluation does not support an approval; undefined if it does. It must evaluate exactly these bytes and must have been
 * requested after the version first became `new`, by a manager (then and now) who is not the author, on a test set that such a
 * manager registered; it must reach every threshold.
 */
export function evidenceProblem(
  found: Evidence,
  version: { readonly author: string; readonly digest: string | null; readonly newSince: string },
  now: { readonly managers: ReadonlySet<string>; readonly thresholds: Readonly<Record<string, number>> },
): string | undefined {
  const { author, digest, newSince } = version;
  const { evaluation, actor, dataset, testSetBy } = found;
  const again = 'a manager who is not the author must evaluate the version on a test set';
  if (found.digest !== digest)
    return `report ${found.report} is about ${found.digest}, not about ${digest ?? 'nothing'}`;
  if (Date.parse(found.begunAt) < Date.parse(newSince))
    return `evaluation ${evaluation} was requested before the version became new: ${again}`;
  if (actor === author) return `evaluation ${evaluation} was requested by the version's author: ${again}`;
  if (!found.askedAsManager || !now.managers.has(actor))
    return `evaluation ${evaluation} was requested by ${actor}, who is not a manager: ${again}`;
  if (testSetBy === null) return `evaluation ${evaluation} ran on ${dataset}, which is not a test set: ${again}`;
  if (testSetBy === author || !now.managers.has(testSetBy))
    return `test set ${dataset} was registered by ${testSetBy}, who is ${testSetBy === author ? "the version's author" : 'not a manager'}: another manager must register one`;
  for (const [metric, minimum] of Object.entries(now.thresholds)) {
    const value = found.metrics[metric] ?? null;
    if (value === null || value < minimum)
      return `${metric} is ${value ?? 'not in the report'}, the project asks for at least ${minimum}`;
  }
  return undefined;
}
