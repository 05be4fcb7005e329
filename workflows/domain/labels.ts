// What an engineer's command makes of a scan's findings.
import type { CommandBody } from './command.ts';
import type { Finding, Scan } from './model.ts';

/** Which findings a command names. */
export const namedFindings = ({ args }: CommandBody): readonly string[] => args.findings ?? [];

/**
 * The findings as `confirm` or `deny` leaves them. The same label of the same person again changes nothing: it keeps its
 * time, and Git sees no new commit.
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
