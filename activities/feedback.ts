// Feedback (paper 5): the engineer's true or false, kept in Git, becomes labelled data for the next training.
import type { SignedCommand } from '../workflows/domain/command.ts';
import { labelled } from '../workflows/domain/labels.ts';
import type { Finding, Scan } from '../workflows/domain/model.ts';
import { beating } from './heartbeat.ts';
import { mustHave } from './model-center.ts';
import type { CodeHost } from './ports.ts';
import type { Records } from './records.ts';

export type FeedbackActivities = ReturnType<typeof createFeedbackActivities>;

/** The project's repository of labels. */
export const labelsRepository = (project: string): string => `${project}/labels`;

export function createFeedbackActivities({ records, code }: { records: Records; code: CodeHost }) {
  return {
    /** Commits a scan's labels, this command's with them, as one CSV (RFC 4180); the same labels again make no commit. */
    async commitLabels(input: {
      project: string;
      scan: string;
      command: SignedCommand;
      at: string;
    }): Promise<{ commit: string }> {
      const { project, command, at } = input;
      const scan = await mustHave(records.scan(project, input.scan), `scan ${input.scan} of project ${project}`);
      const { actor } = command.body;
      const release = await mustHave(records.release(scan.release), `release ${scan.release}`);
      const repository = labelsRepository(scan.project);
      const header = [
        'finding',
        'name',
        'path',
        'source_sha256',
        'probability',
        'predicted',
        'label',
        'by',
        'at',
        'application',
        'release',
        'model_sha256',
      ];
      const rows = labelled(scan, command.body, at).flatMap((finding) =>
        finding.label ? [row(finding, finding.label, scan, release.digest)] : [],
      );
      const text = [header, ...rows].map((cells) => cells.map(quote).join(',')).join('\r\n');
      const count = rows.length;
      await code.ensure(repository);
      return beating((signal) =>
        code.commit({
          repository,
          branch: 'main',
          files: { [`labels/${scan.application}/${scan.scan}.csv`]: `${text}\r\n` },
          message: `${count} labels of ${scan.application}, scan ${scan.scan}, by ${actor}`,
          author: actor,
          signal,
        }),
      );
    },
  };
}

/** `label` is the truth for training: a confirmed finding is as the model said, a denied one the opposite. */
function row(
  finding: Finding,
  { verdict, by, at }: NonNullable<Finding['label']>,
  scan: Scan,
  digest: string,
): string[] {
  const truth = verdict === 'true' ? finding.vulnerable : !finding.vulnerable;
  const yesNo = (value: boolean): string => (value ? 'YES' : 'NO');
  const { finding: id, name, path, source, probability, vulnerable } = finding;
  return [
    id,
    name,
    path,
    source,
    String(probability),
    yesNo(vulnerable),
    yesNo(truth),
    by,
    at,
    scan.application,
    scan.release,
    digest,
  ];
}

const quote = (cell: string): string => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
