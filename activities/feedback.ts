// Feedback (paper 5): the engineers' verdicts, stored in Git, become labelled data for the next training.
import type { Finding, Scan } from '../workflows/domain/model.ts';
import type { ScanStanding } from '../workflows/domain/standing.ts';
import { failure } from './failures.ts';
import { beating, currentWorkflow, ofWorkflow } from './heartbeat.ts';
import { mustHave } from './model-center.ts';
import type { CodeHost } from './ports.ts';
import type { Records } from './records.ts';

export type FeedbackActivities = ReturnType<typeof createFeedbackActivities>;

/** The project's label repository. */
export const labelsRepository = (project: string): string => `${project}/labels`;

export function createFeedbackActivities({ records, code }: { records: Records; code: CodeHost }) {
  return {
    /**
     * Commits a scan's current labels as one CSV file (RFC 4180), and completes the decision. Unchanged labels make no
     * commit.
     */
    async commitLabels({ commandId }: { commandId: string }): Promise<ScanStanding> {
      const of = ofWorkflow('feedback', 'project', 'scan');
      const id = currentWorkflow();
      const decision = await records.decision(id, commandId ?? '');
      if (!decision) throw failure('NotAuthorized', `no decision labels scan ${of.scan}`);
      const { actor } = decision.command.body;
      const scan = await mustHave(records.scan(of.project, of.scan), `scan ${of.scan} of project ${of.project}`);
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
      const rows = scan.findings.flatMap((finding) =>
        finding.label ? [row(finding, finding.label, scan, release.digest)] : [],
      );
      const text = [header, ...rows].map((cells) => cells.map(quote).join(',')).join('\r\n');
      const count = rows.length;
      await code.ensure(repository);
      const { commit } = await beating((signal) =>
        code.commit({
          repository,
          branch: 'main',
          files: { [`labels/${scan.application}/${scan.scan}.csv`]: `${text}\r\n` },
          message: `${count} labels of ${scan.application}, scan ${scan.scan}, by ${actor}`,
          author: actor,
          signal,
        }),
      );
      return records.completeLabels(id, commandId, commit);
    },
  };
}

/** `label` is the ground truth for training: the model's label for a confirmed finding, the opposite for a denied one. */
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
