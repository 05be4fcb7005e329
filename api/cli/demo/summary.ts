// What the demo ends with: what was decided, what is live, what was found true, and where to look.
import { application, model } from './case-study.ts';
import { labelsFolder, type Labelled } from './engineer.ts';
import type { Assessed, Decided } from './manager.ts';
import type { DemoPlatform } from './platform.ts';

export type Played = { readonly decided: Decided; readonly labelled: Labelled | undefined };

/** The summary's lines. */
export function summary(
  { decided, labelled }: Played,
  platform: Pick<DemoPlatform, 'apiUrl' | 'uiUrl'>,
  given: { readonly home: string; readonly seconds: number; readonly staysUp: boolean },
): readonly string[] {
  const row = (name: string, text: string): string => `  ${name.padEnd(16)} ${text}`;
  const { assessed, approved, release } = decided;
  const lines = assessed.map((one, i) => row(i === 0 ? 'Decisions' : '', decision(one, approved)));
  lines.push(
    approved === undefined
      ? row('Release', 'none: no report reached the minimums, so nothing was approved and nothing new is live')
      : row('Live', `${release ?? ''} in ${application}: ${model} version ${approved.version.version ?? ''}`),
  );
  if (labelled !== undefined) {
    const { findings } = labelled.scan;
    const flagged = findings.filter(({ vulnerable }) => vulnerable).length;
    const said = `eve confirmed ${labelled.confirmed} and denied ${labelled.denied}`;
    lines.push(row('Findings', `${flagged} of ${findings.length} files flagged; ${said}`));
    labelled.commits.forEach((line, i) => lines.push(row(i === 0 ? 'Labels in Git' : '', line.trim())));
    if (labelled.commits.length > 0) lines.push(row('', `git -C ${labelsFolder(given.home)} log -p`));
  }
  lines.push(row('API', platform.apiUrl), row('Temporal Web UI', platform.uiUrl));
  lines.push(row('Took', `${given.seconds.toFixed(0)} s`));
  lines.push(
    '',
    given.staysUp
      ? `The platform stays up; tokens of all roles: ${given.home}/demo-tokens.json.`
      : 'To look around in it: npm run demo -- --keep leaves the platform up.',
  );
  return lines;
}

function decision(one: Assessed, approved: Assessed | undefined): string {
  const figure = one.report.metrics['average_precision']?.toFixed(3) ?? 'none';
  const verdict = one === approved ? 'approved' : 'rejected';
  return `${one.version.submission} (version ${one.version.version ?? ''}) ${verdict}, average precision ${figure}`;
}
