// Labels: who may set one, when, and what it changes: only new labels of the named findings.
import { judgeLabels, labelled } from '../../workflows/domain/labels.ts';
import type { CommandBody } from '../../workflows/domain/command.ts';
import type { Finding, Label, Scan } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';

const finding = (name: string, label: Label | null): Finding => ({
  ...{ finding: name, name, path: `${name}.c`, vulnerable: true, probability: 0.9 },
  ...{ source: 'a'.repeat(64) as Digest, label },
});
const scan = (...findings: readonly Finding[]): Scan => ({
  ...{ scan: 's', project: 'p', application: 'shop', type: 'kind', release: 'kind-1', findings },
  ...{ state: 'open', revision: 0, commit: null, keyId: 'k1', updatedAt: '2026-01-01T00:00:00.000Z' },
});
const said = (name: string, actor: string, findings: readonly string[]): CommandBody => ({
  ...{
    v: 1,
    keyId: 'k1',
    workflowId: 'w',
    commandId: 'command-1',
    name,
    args: { findings },
    actor,
    roles: ['engineer'],
  },
  ...{ policyVersion: 1, revision: 0, digest: null, report: null, issuedAt: '2026-01-01T00:00:00.000Z' },
});
const first: Label = { verdict: 'true', by: 'eve', at: '2026-01-01T00:00:00.000Z' };
const at = '2026-01-02T00:00:00.000Z';
const labels = (findings: readonly Finding[]) => findings.map(({ label }) => label);

it('labels the named findings: confirm as true, deny as false', () => {
  const three = scan(finding('a', null), finding('b', null), finding('c', first));
  expect(labels(labelled(three, said('confirm', 'eve', ['a']), at))).toEqual([{ ...first, at }, null, first]);
  expect(labels(labelled(three, said('deny', 'ed', ['a', 'c']), at))).toEqual([
    { verdict: 'false', by: 'ed', at },
    null,
    { verdict: 'false', by: 'ed', at },
  ]);
});

it('keeps an identical label of the same person with its time', () => {
  const one = scan(finding('a', first));
  expect(labels(labelled(one, said('confirm', 'eve', ['a']), at))).toEqual([first]);
  expect(labels(labelled(one, said('confirm', 'ed', ['a']), at))).toEqual([{ verdict: 'true', by: 'ed', at }]);
  expect(labels(labelled(one, said('deny', 'eve', ['a']), at))).toEqual([{ verdict: 'false', by: 'eve', at }]);
});

describe('a label', () => {
  const two = scan(finding('a', null), finding('b', null));
  const refused = (
    body: CommandBody,
    { roles = ['engineer'], busy = null }: { roles?: Parameters<typeof judgeLabels>[2]; busy?: string | null } = {},
  ) => judgeLabels(two, body, roles, busy)?.refused;

  it('is set by a current engineer, on findings of this scan at its current revision, one command at a time', () => {
    expect(refused(said('confirm', 'eve', ['a', 'b']))).toBeUndefined();
    expect(refused(said('deny', 'eve', ['b']))).toBeUndefined();
    // The signed roles do not matter, only the current ones.
    expect(refused(said('confirm', 'eve', ['a']), { roles: [] })).toBe('not-authorized');
    expect(refused(said('confirm', 'mia', ['a']), { roles: ['manager', 'scientist', 'developer'] })).toBe(
      'not-authorized',
    );
    expect(refused({ ...said('confirm', 'eve', ['a']), revision: 1 })).toBe('stale');
    expect(refused(said('confirm', 'eve', ['a']), { busy: 'command-0' })).toBe('busy');
    expect(refused(said('confirm', 'eve', []))).toBe('invalid');
    expect(refused({ ...said('confirm', 'eve', []), args: {} })).toBe('invalid');
    expect(refused(said('confirm', 'eve', ['a', 'c']))).toBe('invalid');
  });

  it.each(['approve', 'revert', 'Confirm', '', '__proto__'])('cannot be set by the command "%s"', (name) => {
    expect(refused(said(name, 'eve', ['a']))).toBe('wrong-state');
  });
});
