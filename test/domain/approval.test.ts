// The requirements of an approval: conditions on its evidence, approvals that currently count, thresholds of the policies.
import type { Approval, Evidence, PolicyEdition } from '../../workflows/domain/approval.ts';
import { barFor, countApprovals, evidenceProblem } from '../../workflows/domain/approval.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';

const at = (hour: number): string => `2026-01-02T0${hour}:00:00.000Z`;

describe('approvals', () => {
  const given = (actor: string, policyVersion = 3): Approval => ({
    ...{ actor, policyVersion, commandId: `by-${actor}`, at: at(1) },
  });
  const count = (approvals: readonly Approval[], managers: readonly string[] = ['mia', 'max']) =>
    countApprovals(approvals, { managers: new Set(managers), policyVersion: 3 });

  it('count once per current manager who approved under the current policy', () => {
    expect(count([given('mia'), given('max')])).toEqual({ counting: ['mia', 'max'], lapsed: [] });
    expect(count([given('mia'), given('mia')])).toEqual({ counting: ['mia'], lapsed: [] });
    expect(count([])).toEqual({ counting: [], lapsed: [] });
  });

  it('lapse with the reason: the person is no longer a manager, or the policy has changed', () => {
    const { counting, lapsed } = count([given('mia'), given('max', 2), given('moe')]);
    expect(counting).toEqual(['mia']);
    expect(lapsed).toEqual([
      { actor: 'max', why: 'approved under policy 2, but policy 3 is in force now' },
      { actor: 'moe', why: 'is no longer a manager of the project, or is disabled' },
    ]);
  });

  it('count again if they are repeated under the current policy', () => {
    expect(count([given('mia', 2), given('mia')]).counting).toEqual(['mia']);
  });
});

describe('the thresholds', () => {
  const edition = (setBy: string | null, quorum: number, thresholds: Record<string, number> = {}): PolicyEdition => ({
    policy: { ...defaultPolicy, quorum, thresholds },
    setBy,
  });

  it('are those of the policy in force if someone else set it', () => {
    const editions = [edition('max', 1, { f1: 0.5 }), edition('mia', 3, { f1: 0.9 })];
    expect(barFor('moe', editions)).toEqual({ quorum: 1, thresholds: { f1: 0.5 } });
  });

  it('are the strictest back to the last policy that someone else set, if the author set the newer ones', () => {
    const editions = [
      edition('moe', 1, { recall: 0.2 }),
      edition('moe', 2, { f1: 0.6 }),
      edition('mia', 1, { f1: 0.8, recall: 0.1 }),
      edition('max', 5, { f1: 0.99 }),
    ];
    expect(barFor('moe', editions)).toEqual({ quorum: 2, thresholds: { recall: 0.2, f1: 0.8 } });
    // For other authors the newest policy applies.
    expect(barFor('sam', editions)).toEqual({ quorum: 1, thresholds: { recall: 0.2 } });
  });

  it('go back only to the last policy whose setter is unknown', () => {
    const editions = [edition('moe', 1), edition(null, 2), edition('mia', 4)];
    expect(barFor('moe', editions).quorum).toBe(2);
  });

  it('require at least one approval, whatever the policy says, and also without a policy', () => {
    expect(barFor('sam', [edition('mia', 0)]).quorum).toBe(1);
    expect(barFor('sam', [])).toEqual({ quorum: 1, thresholds: {} });
  });
});

describe('evidence', () => {
  const digest = 'd'.repeat(64);
  const good: Evidence = {
    ...{ evaluation: 'e-1', digest, report: 'e'.repeat(64), dataset: 'held-out', actor: 'mia', askedAsManager: true },
    ...{ begunAt: at(3), metrics: { f1: 0.8, recall: null }, testSetBy: 'max' },
  };
  const version = { author: 'sam', digest, newSince: at(2) };
  const now = { managers: new Set(['mia', 'max', 'sam']), thresholds: { f1: 0.8 } };
  const problem = (change: Partial<Evidence> = {}, more: Partial<typeof now> = {}) =>
    evidenceProblem({ ...good, ...change }, version, { ...now, ...more });

  it('is enough if every condition holds and every threshold is just reached', () => {
    expect(problem()).toBeUndefined();
    expect(problem({ testSetBy: 'mia' })).toBeUndefined();
    expect(problem({ begunAt: at(2) })).toBeUndefined();
  });

  it.each<[string, Partial<Evidence>, RegExp]>([
    ['other bytes', { digest: 'a'.repeat(64) }, /is about a{64}, not about d{64}/],
    ['requested before the version was new', { begunAt: at(1) }, /requested before the version became new/],
    ['requested by the author', { actor: 'sam' }, /requested by the version's author/],
    ['requested by someone who was not a manager', { askedAsManager: false }, /requested by mia, who is not a manager/],
    ['requested by a former manager', { actor: 'moe' }, /requested by moe, who is not a manager/],
    ['no test set', { testSetBy: null }, /held-out, which is not a test set/],
    ["the author's own test set", { testSetBy: 'sam' }, /registered by sam, who is the version's author/],
    ['a test set of a former manager', { testSetBy: 'moe' }, /registered by moe, who is not a manager/],
    ['a metric below the threshold', { metrics: { f1: 0.79 } }, /f1 is 0.79, the project asks for at least 0.8/],
    ['a missing metric', { metrics: {} }, /f1 is not in the report/],
    ['an undefined metric', { metrics: { f1: null } }, /f1 is not in the report/],
  ])('is not enough: %s', (_, change, message) => {
    expect(problem(change)).toMatch(message);
  });

  it('must reach every threshold', () => {
    expect(problem({}, { thresholds: { f1: 0.5, recall: 0 } } as never)).toMatch(/^recall is not in the report/);
  });

  it('does not support a version without bytes', () => {
    expect(evidenceProblem(good, { ...version, digest: null }, now)).toMatch(/not about nothing/);
  });
});
