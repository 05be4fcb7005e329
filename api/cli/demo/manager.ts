// The manager's part: evaluates the candidates on held-out projects, decides by the reports, releases.
import { type Evaluation, type Report, releaseRowsSchema, reportSchema } from './answers.ts';
import type { ApiClient } from './api-client.ts';
import { heldOutSet, modelType, project, thresholds } from './case-study.ts';
import { type Candidate, evaluate, readVersion, register, submissionPath } from './scientist.ts';
import { table, type Terminal } from './terminal.ts';

export type Assessed = Candidate & { readonly evaluation: Evaluation; readonly report: Report };
export type Decided = {
  readonly assessed: readonly Assessed[];
  /** The approved candidate; undefined if no report passes. */
  readonly approved: Assessed | undefined;
  readonly release: string | undefined;
};

/** Evaluation, decisions and the release of the approved candidate, if any. */
export async function playManager(
  mia: ApiClient,
  terminal: Terminal,
  candidates: readonly Candidate[],
): Promise<Decided> {
  await terminal.step('mia', 'registers the 3 held-out projects as test set, which the scientist cannot read', () =>
    register(mia, heldOutSet, 'test', 'heldout.jsonl.gz'),
  );
  const assessed = await terminal.step('mia', 'evaluates both on the held-out projects', (tell) =>
    Promise.all(candidates.map((candidate) => assess(mia, candidate, tell))),
  );
  terminal.say('');
  for (const line of reportTable(assessed)) terminal.say(`               ${line}`);
  terminal.say('');

  const best = assessed.filter(({ report }) => report.passed).sort((a, b) => rank(b) - rank(a))[0];
  for (const one of [...assessed].sort((a, b) => rank(b) - rank(a))) {
    if (one === best) await approve(mia, terminal, one);
    else await reject(mia, terminal, one, best);
  }
  return { assessed, approved: best, release: best && (await release(mia, terminal, best)) };
}

async function assess(mia: ApiClient, candidate: Candidate, tell: (progress: string) => void): Promise<Assessed> {
  const { submission } = candidate.version;
  const evaluation = await evaluate(mia, { submission, dataset: heldOutSet }, tell);
  const report = await mia.get(`/v1/projects/${project}/evaluations/${evaluation.evaluation}/report`, reportSchema);
  return { ...candidate, evaluation, report };
}

const rank = ({ report }: Assessed): number => report.metrics['average_precision'] ?? 0;

async function approve(mia: ApiClient, terminal: Terminal, { version, evaluation, report }: Assessed): Promise<void> {
  const { submission } = version;
  await terminal.step(
    'mia',
    `approves ${submission}`,
    async () => {
      const { revision, digest } = await readVersion(mia, submission);
      const evidence = { digest, report: evaluation.report?.sha256 ?? null };
      await mia.command(`${submissionPath(submission)}/commands`, { name: 'approve', revision, ...evidence });
    },
    () => `average precision ${figure(report, 'average_precision')}, above every minimum`,
  );
}

async function reject(
  mia: ApiClient,
  terminal: Terminal,
  { version, evaluation, report }: Assessed,
  best: Assessed | undefined,
): Promise<void> {
  const { submission } = version;
  const missed = report.checks
    .filter(({ passed }) => !passed)
    .map(({ metric, value, minimum }) => `${words(metric)} ${value?.toFixed(3) ?? 'none'} is below ${minimum}`);
  const reason = missed.join(', ') || `${best?.version.submission ?? 'another'} ranks higher`;
  await terminal.step(
    'mia',
    `rejects ${submission}`,
    async () => {
      const { revision, digest } = await readVersion(mia, submission);
      const evidence = { digest, report: evaluation.report?.sha256 ?? null };
      const path = `${submissionPath(submission)}/commands`;
      await mia.command(path, { name: 'reject', revision, ...evidence, args: { reason } });
    },
    () => reason,
  );
}

async function release(mia: ApiClient, terminal: Terminal, { version }: Assessed): Promise<string> {
  const { submission } = version;
  return terminal.step(
    'mia',
    `releases ${submission}`,
    async () => {
      const { revision, digest } = await readVersion(mia, submission);
      await mia.command(`${submissionPath(submission)}/commands`, { name: 'release', revision, digest });
      return await releaseOf(mia, submission);
    },
    (made) => made,
  );
}

/** The newest release of a submission. */
async function releaseOf(mia: ApiClient, submission: string): Promise<string> {
  let found: string | undefined;
  let after = 0;
  for (;;) {
    const { rows } = await mia.get(`/v1/types/${modelType}/releases?limit=500&after=${after}`, releaseRowsSchema);
    found = rows.findLast((row) => row.submission === submission)?.release ?? found;
    const last = rows.at(-1);
    if (last === undefined) break;
    after = last.sequence;
  }
  if (found === undefined) throw new Error(`${submission} is released, but no release of it was found`);
  return found;
}

/** Both reports side by side, followed by the live version's metrics on the same rows, if there is one. */
function reportTable(assessed: readonly Assessed[]): readonly string[] {
  const metrics = ['average_precision', 'roc_auc', 'f1', 'precision', 'recall'] as const;
  const heading = ['', 'version', ...metrics.map(words), 'verdict'];
  const rows = assessed.map(({ version, report }) => [
    version.submission,
    String(version.version ?? ''),
    ...metrics.map((metric) => figure(report, metric)),
    report.passed ? 'passes' : 'fails',
  ]);
  const minimum = (metric: string): string =>
    (thresholds as Readonly<Record<string, number>>)[metric]?.toFixed(3) ?? '';
  const rules = ['minimum', '', ...metrics.map(minimum), ''];
  const baseline = assessed[0]?.report.baseline;
  const live = baseline ? [['live now', '', ...metrics.map((metric) => figure(baseline, metric)), '']] : [];
  const { rows: files = 0, positives = 0 } = assessed[0]?.report.testSet ?? {};
  return [...table([heading, ...rows, rules, ...live]), `(on ${files} files of 3 projects, ${positives} of them YES)`];
}

const figure = ({ metrics }: { readonly metrics: Report['metrics'] }, metric: string): string =>
  metrics[metric]?.toFixed(3) ?? 'none';
const words = (metric: string): string => (metric === 'roc_auc' ? 'AUC' : metric.replaceAll('_', ' '));
