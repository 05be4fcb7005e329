// What the record is documented to say more when an operator has intervened by hand; without it, snapshots compare row by row.
import type { Snapshot } from './snapshot.ts';

/** The revision of the version's last entry in an undisturbed passage. */
const LAST = 4;
/** Notes of a lifecycle about a running delivery, which it makes when it is resumed during the delivery. */
const NOTE = /"(?:detail|reason)":"(?:released as kind-1|kind-1: (?:received|gating|deploying) in scanner)"/;

/**
 * Takes out of a snapshot, section by section:
 * - that the operator has cancelled or ended work, and that a workflow was refused whose record is closed;
 * - how often the sweep has started a workflow again, and how long the audit is;
 * - jobs, gates and deliveries that began again; of tokens each must be revoked like the first;
 * - notes that a lifecycle makes of its delivery when it is resumed in the middle of it;
 * - an evaluation that was ended by an operator, which the next one replaces.
 * Everything else is compared.
 */
export function withoutDocumented(snapshot: Snapshot): Snapshot {
  const isRepeated = snapshot['projection.evaluations']?.some(isEnded) ?? false;
  const last = lastRevision(snapshot);
  const sections = Object.entries(snapshot).map(([section, lines]) => [
    section,
    tidy(section, isRepeated ? secondForFirst(lines) : lines)
      .filter((line) => !isNoteBefore(line, last))
      // A job's name ends in a hash of its evaluation's.
      .map((line) => renumbered(line, last).replaceAll(/(evaluation-p-e-1-)[0-9a-f]{16}/g, '$1<hash>')),
  ]);
  return Object.fromEntries(sections) as Snapshot;
}

/** Lines that say that the operator has ended something. */
export const interruptions = (snapshot: Snapshot): readonly string[] => [
  ...(snapshot['authoritative.audit'] ?? []).filter((line) => /"kind":"workflow\.(cancelled|interrupted)"/.test(line)),
  ...(snapshot['projection.evaluations'] ?? []).filter(isEnded),
];

function tidy(section: string, lines: readonly string[]): readonly string[] {
  switch (section) {
    case 'authoritative.audit':
      return once(
        lines.filter((line) => !/"kind":"workflow\.(cancelled|interrupted|refused)"/.test(line)).map(ofDelivery),
        /"kind":"(token|delivery)\./,
      );
    case 'audit chain':
      return lines.map((line) => line.replace(/^\d+ rows/, '<rows>'));
    case 'authoritative.audit_head':
      return lines.map((line) => line.replace(/"seq":"\d+"/, '"seq":"<seq>"'));
    case 'authoritative.steps':
      // The sweep's note that an operator has ended an evaluation. Its report may be recorded all the same: then that counts.
      return lines.filter((line) => !line.includes('"step":"stopped"'));
    case 'authoritative.tokens':
    case 'authoritative.gate_results':
      return once(lines, /./);
    case 'authoritative.starts':
      return lines.map((line) =>
        line
          .replace(/"restart_at":("<time>"|null),"restarts":\d+/, '"restarts":"<restarts>"')
          // The digest covers the evaluation's name.
          .replace(/"input_digest":"\w+"(?=.*"type":"evaluation")/, '"input_digest":"<digest>"'),
      );
    default:
      return lines;
  }
}

/** Lines of a kind come once; all others as often as they are there. */
function once(lines: readonly string[], kind: RegExp): readonly string[] {
  return lines.filter((line, at) => !kind.test(line) || lines.indexOf(line) === at);
}

/** A restarted delivery is recorded, with its gate results so far. */
function ofDelivery(line: string): string {
  const counted = line.replaceAll(/("key":"delivery\/[^"]+\/)\d+"/g, '$1<results>"');
  return counted.includes('"kind":"delivery.received"') ? counted.replace(/"gates":\[[^\]]*\]/, '"gates":[]') : counted;
}

const isEnded = (line: string): boolean =>
  line.includes('"detail":"ended by an operator: start another one"') && line.includes('"evaluation":"e-1"');

/** The second evaluation replaces the first, of which only its end is recorded. */
function secondForFirst(lines: readonly string[]): readonly string[] {
  return lines.filter((line) => !/\be-1\b/.test(line)).map((line) => line.replaceAll(/\be-2\b/g, 'e-1'));
}

function lastRevision(snapshot: Snapshot): number {
  const [version = ''] = snapshot['projection.versions'] ?? [];
  return Number(/"revision":(\d+)/.exec(version)?.[1] ?? LAST);
}

/** Whether it belongs to a note that is not the last entry. */
function isNoteBefore(line: string, last: number): boolean {
  const found = /\/record\/0*(\d+)\.json |"key":"model\/p\/m\/s-1\/(\d+)"|"revision":(\d+),"submission":"s-1"/.exec(
    line,
  );
  const revision = Number(found?.slice(1).find(Boolean) ?? 0);
  return revision >= LAST && revision < last && NOTE.test(line.replaceAll('\\"', '"'));
}

/** The last entry, as if there had been no note before it. */
const renumbered = (line: string, last: number): string =>
  line
    .replaceAll(`"revision":${last}`, `"revision":${LAST}`)
    .replaceAll(`\\"revision\\":${last}`, `\\"revision\\":${LAST}`)
    .replaceAll(`model/p/m/s-1/${last}"`, `model/p/m/s-1/${LAST}"`)
    .replace(`/record/00000${last}.json`, `/record/00000${LAST}.json`);
