// The rules for an engineer's commands on a scan's findings.
import type { CommandBody } from './command.ts';
import type { Refusal } from './lifecycle.ts';
import type { Finding, Scan } from './model.ts';
import type { Role } from './roles.ts';
import { allowed } from './roles.ts';

/** The findings that a command names. */
export const namedFindings = ({ args }: CommandBody): readonly string[] => args.findings ?? [];

/**
 * The findings after `confirm` or `deny`. Repeating the same person's label changes nothing: it keeps its time, and Git gets no
 * new commit.
 */
export function labelled({ findings }: Scan, body: CommandBody, at: string): readonly Finding[] {
  const verdict = body.name === 'confirm' ? 'true' : 'false';
  const named = new Set(namedFindings(body));
  const by = body.actor;
  return findings.map((finding) =>
    named.has(finding.finding) && (finding.label?.verdict !== verdict || finding.label.by !== by)
      ? { ...finding, label: { verdict, by, at } }
      : finding,
  );
}

/** Judges one verified command on a scan by its actor's current roles; undefined if it may be carried out. */
export function judgeLabels(
  scan: Pick<Scan, 'findings' | 'revision'>,
  body: CommandBody,
  roles: readonly Role[],
  busy: string | null,
): Refusal | undefined {
  const { name, actor, revision } = body;
  if (name !== 'confirm' && name !== 'deny')
    return { refused: 'wrong-state', message: `a scan takes the commands confirm and deny, not ${name}` };
  if (!allowed('finding.label', roles, false))
    return { refused: 'not-authorized', message: `${actor} is not an engineer of this project` };
  if (namedFindings(body).length === 0)
    return { refused: 'invalid', message: 'args.findings must name at least one finding' };
  if (revision !== scan.revision)
    return {
      refused: 'stale',
      message: `the scan is at revision ${scan.revision}, the command was given at ${revision}: look again`,
    };
  if (busy) return { refused: 'busy', message: `command ${busy} is being carried out` };
  const known = new Set(scan.findings.map(({ finding }) => finding));
  const unknown = namedFindings(body).find((finding) => !known.has(finding));
  return unknown === undefined
    ? undefined
    : { refused: 'invalid', message: `there is no finding ${unknown} in this scan` };
}
