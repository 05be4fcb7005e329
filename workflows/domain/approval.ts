// What an approval needs: evidence that speaks for exactly these bytes, and enough managers who still count.
import type { Policy } from './model.ts';

/** One manager's approval, as it was given. */
export interface Approval {
  readonly actor: string;
  /** Version of the policy it was given under. */
  readonly policyVersion: number;
  readonly commandId: string;
  /** ISO 8601 */
  readonly at: string;
}

/** The policy as a manager set it. `setBy` is null where the record does not know who did. */
export interface PolicyEdition {
  readonly policy: Policy;
  readonly setBy: string | null;
}

/**
 * Approvals that count now, and those that lapsed with the reason: the person is no manager any more, or the policy has
 * changed since.
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
    if (!now.managers.has(actor)) lapsed.push({ actor, why: 'is not a manager of the project any more' });
    else if (policyVersion !== now.policyVersion)
      lapsed.push({ actor, why: `approved under policy ${policyVersion}, now policy ${now.policyVersion} holds` });
    else if (!counting.includes(actor)) counting.push(actor);
  }
  return { counting, lapsed };
}

/**
 * The bar for a version of this author: the policy in force, and where the author set it, the stricter of it and the ones
 * before it, back to the last one that somebody else set. Nobody lowers the bar for their own work.
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

/** What the record knows of one evaluation. */
export interface Evidence {
  readonly evaluation: string;
  readonly digest: string;
  readonly report: string;
  readonly dataset: string;
  /** Who asked for it, and were they a manager then? */
  readonly actor: string;
  readonly askedAsManager: boolean;
  /** ISO 8601: when it was asked for. */
  readonly begunAt: string;
  readonly metrics: Readonly<Record<string, number | null>>;
  /** Who registered the data set as a test set; null where it is not one. */
  readonly testSetBy: string | null;
}

/**
 * Why this evaluation does not bear out an approval; undefined when it does. It must be of exactly these bytes, begun after
 * the version first became `new`, asked for by a manager, then and now, who is not the author, on a test set that such a
 * person registered, and it must reach every threshold.
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
    return `evaluation ${evaluation} was asked for before the version became new: ${again}`;
  if (actor === author) return `evaluation ${evaluation} was asked for by the version's author: ${again}`;
  if (!found.askedAsManager || !now.managers.has(actor))
    return `evaluation ${evaluation} was asked for by ${actor}, who is not a manager: ${again}`;
  if (testSetBy === null) return `evaluation ${evaluation} ran on ${dataset}, which is not a test set: ${again}`;
  if (testSetBy === author || !now.managers.has(testSetBy))
    return `test set ${dataset} was registered by ${testSetBy}, who is ${testSetBy === author ? "the version's author" : 'not a manager any more'}: another manager must register one`;
  for (const [metric, minimum] of Object.entries(now.thresholds)) {
    const value = found.metrics[metric] ?? null;
    if (value === null || value < minimum)
      return `${metric} is ${value ?? 'not in the report'}, the project asks for at least ${minimum}`;
  }
  return undefined;
}
