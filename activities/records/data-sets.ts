// Data sets, and the imports that become some.
import type { Import, Node } from '../../workflows/domain/import.ts';
import type { DataSet } from '../../workflows/domain/model.ts';
import type { AuditEntry, Page } from './audit.ts';

/** What still names a data set, so that it cannot be deleted. */
export interface DataSetReference {
  readonly kind: 'run' | 'evaluation' | 'import';
  /** `<model>/<submission>` of a run, else the id. */
  readonly name: string;
}

/** References that are told of a data set that cannot be deleted. */
export const REFERENCES_LIMIT = 20;

/** The data sets' part of Records. */
export interface DataSetRecords {
  /**
   * Takes a name for one attempt to register a data set: the newest attempt has it. `clear`: the attempt has failed, and its
   * files are being removed. `busy`: another attempt is clearing or, when this one wants to clear, has taken the name.
   */
  draftDataSet(draft: {
    readonly project: string;
    readonly dataset: string;
    readonly attempt: string;
    readonly step: 'write' | 'clear';
  }): Promise<'taken' | 'busy' | 'registered' | 'deleted'>;
  /** Lets go of the name after clearing. */
  dropDraft(project: string, dataset: string, attempt: string): Promise<void>;
  /** `Conflict` when the name has other files, was deleted, or (`attempt` given) a newer attempt has taken it. */
  registerDataSet(dataset: DataSet, audit: AuditEntry, attempt?: string): Promise<void>;
  /** Deleted ones are not there. */
  dataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  dataSets(project: string): Promise<readonly DataSet[]>;
  /** A data set that was deleted. */
  deletedDataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  /** Writes down that a run or an evaluation, whose row is there, names these data sets. `NotFound` for one that is not there. */
  nameDataSets(
    project: string,
    datasets: readonly string[],
    by: { readonly kind: 'run' | 'evaluation'; readonly name: string },
  ): Promise<void>;
  /**
   * Deletes a data set unless something names it; then it answers by what, at most {@link REFERENCES_LIMIT}. The name stays taken
   * for ever: runs and reports name data sets, and must not come to mean other rows.
   */
  deleteDataSet(
    project: string,
    dataset: string,
    audit: AuditEntry,
  ): Promise<{ readonly references: readonly DataSetReference[] }>;
  /** Deleted data sets whose files may still lie in the areas. */
  unsweptDataSets(limit: number): Promise<readonly DataSet[]>;
  /** The files of a deleted data set are gone. */
  sweptDataSet(project: string, dataset: string): Promise<void>;
}

/** The imports' part of Records. */
export interface ImportRecords {
  /** Writes an import as it now stands, with an audit row where one belongs to it; an older state never replaces a newer one. */
  recordImport(row: Import, audit: AuditEntry | null): Promise<void>;
  import(project: string, id: string): Promise<Import | undefined>;
  imports(filter: { project: string } & Page): Promise<{ rows: readonly Import[]; next?: string }>;
  /** Registers a host that data may come from, in the place of one of the same name. */
  setNode(node: Node, audit: AuditEntry): Promise<void>;
  /** Removes a node; a missing one is fine. */
  removeNode(project: string, node: string, audit: AuditEntry): Promise<void>;
  nodes(project: string): Promise<readonly Node[]>;
}
