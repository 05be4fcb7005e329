// The summary of the demo: decisions, the live version, labelled findings, and where to look next.
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
      ? row('Release', 'none: no report reached the minimums, so no version was approved or released')
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
      ? `The platform keeps running; the tokens of all roles are in ${given.home}/demo-tokens.json.`
      : 'To explore the platform afterwards, run: npm run demo -- --keep',
  );
  return lines;
}

function decision(one: Assessed, approved: Assessed | undefined): string {
  const figure = one.report.metrics['average_precision']?.toFixed(3) ?? 'none';
  const verdict = one === approved ? 'approved' : 'rejected';
  return `${one.version.submission} (version ${one.version.version ?? ''}) ${verdict}, average precision ${figure}`;
}
