// Statements of the plain passages: one row each, as a program without a query builder would write them.
import { randomUUID } from 'node:crypto';
import { rowOf } from '../../../activities/adapters/postgres/entry-text.ts';
import type { AuditEntry } from '../../../activities/records.ts';
import type { Import } from '../../../workflows/domain/import.ts';
import type { Decision, Delivery, Evaluation, Release, Scan, Version } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';

export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

type Columns = Readonly<Record<string, unknown>>;

/** Inserts a row. Names of tables and columns are the benchmark's own. */
export function insert(table: string, columns: Columns): Statement {
  const names = Object.keys(columns);
  const places = names.map((_, i) => `$${i + 1}`);
  return {
    text: `insert into ${table} (${names.join(', ')}) values (${places.join(', ')})`,
    values: Object.values(columns),
  };
}

/** Inserts a row, or replaces the one with this key. */
export function upsert(table: string, columns: Columns, key: readonly string[]): Statement {
  const { text, values } = insert(table, columns);
  const changes = Object.keys(columns).map((name) => `${name} = excluded.${name}`);
  return { text: `${text} on conflict (${key.join(', ')}) do update set ${changes.join(', ')}`, values };
}

/** Changes the row with this key. */
export function set(table: string, columns: Columns, key: Columns): Statement {
  const names = Object.keys(columns);
  const changes = names.map((name, i) => `${name} = $${i + 1}`);
  const where = Object.keys(key).map((name, i) => `${name} = $${names.length + i + 1}`);
  const text = `update ${table} set ${changes.join(', ')} where ${where.join(' and ')}`;
  return { text, values: [...Object.values(columns), ...Object.values(key)] };
}

/** One entry of the audit, in the form in which the platform writes it. */
export function audit(key: string, kind: string, more: Partial<AuditEntry>): Statement {
  const entry: AuditEntry = {
    ...{ key, kind, project: null, actor: 'platform', subject: 'p', digest: null, report: null, reason: '' },
    ...{ detail: {}, at: new Date().toISOString(), ...more },
  };
  return insert('authoritative.audit', { ...rowOf(entry) });
}

export function versionRows(version: Version, decision?: Decision): readonly Statement[] {
  const { project, model, submission, state, author, revision, updatedAt, digest } = version;
  const columns = { project, model, submission, state, author, revision, updated_at: updatedAt };
  const entry = { project, subject: subjectOf(version), digest, actor: decision?.actor ?? 'platform' };
  return [
    upsert('projection.versions', { ...columns, row: JSON.stringify(version) }, ['project', 'model', 'submission']),
    audit(`plain/${subjectOf(version)}/${revision}`, `version.${decision?.name ?? 'state'}`, entry),
  ];
}

export function evaluationRow(row: Evaluation, author: string): Statement {
  const { project, evaluation, model, submission, updatedAt } = row;
  const standing = row.state === 'running' ? 0 : 1;
  const columns = { project, evaluation, model, submission, author, standing, updated_at: updatedAt };
  return upsert('projection.evaluations', { ...columns, row: JSON.stringify(row) }, ['project', 'evaluation']);
}

export function deliveryRow(row: Delivery): Statement {
  const { application, release, state, updatedAt } = row;
  const columns = { application, release, state, standing: 0, updated_at: updatedAt, row: JSON.stringify(row) };
  return upsert('projection.deliveries', columns, ['application', 'release']);
}

export function deliveryRows(row: Delivery, release: Release): readonly Statement[] {
  const { project, digest } = release;
  const key = `plain/${row.application}/${row.release}/${row.state}`;
  return [deliveryRow(row), audit(key, `delivery.${row.state}`, { project, digest, subject: subjectOf(release) })];
}

export function scanRow(scan: Scan): Statement {
  const { project, application, revision, updatedAt } = scan;
  const columns = { project, scan: scan.scan, application, revision, standing: 0, updated_at: updatedAt };
  return upsert('projection.scans', { ...columns, row: JSON.stringify(scan) }, ['project', 'scan']);
}

export function importRow(row: Import): Statement {
  const columns = { project: row.project, import: row.import, standing: row.state === 'done' ? 2 : 0 };
  return upsert('projection.imports', { ...columns, updated_at: row.updatedAt, row: JSON.stringify(row) }, [
    'project',
    'import',
  ]);
}

export function releaseColumns(release: Release, commandId: string = randomUUID()) {
  const { type, sequence, project, model, submission, version } = release;
  const columns = { release: release.release, command_id: commandId, type, sequence, project, model, submission };
  return { ...columns, version, announced: release.state === 'announced', row: JSON.stringify(release) };
}

/** Rows that a client writes before it starts the workflow. */
export const firstRows = {
  audit: (kind: string): readonly Statement[] => [audit(randomUUID(), kind, { project: 'p' })],
  version: (version: Version): readonly Statement[] => versionRows(version),
  evaluation: (row: Evaluation, author: string): readonly Statement[] => [
    evaluationRow(row, author),
    audit(`evaluation.started/${row.evaluation}`, 'evaluation.started', { project: row.project }),
  ],
  scan: (scan: Scan): readonly Statement[] => [
    scanRow(scan),
    audit(`scan.reported/${scan.scan}`, 'scan.reported', { project: scan.project }),
  ],
  delivery: (row: Delivery, release: Release): readonly Statement[] => deliveryRows(row, release),
  import: (row: Import): readonly Statement[] => [
    importRow(row),
    audit(`import.started/${row.import}`, 'import.started', { project: row.project }),
  ],
} as const;
