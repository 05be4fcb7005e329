// Data sets, and the imports that create them.
import type { Import, Node } from '../../workflows/domain/import.ts';
import type { DataSet } from '../../workflows/domain/model.ts';
import type { AuditEntry, Page } from './audit.ts';

/** A reference to a data set. Referenced data sets cannot be deleted. */
export interface DataSetReference {
  readonly kind: 'run' | 'evaluation' | 'import';
  /** `<model>/<submission>` for a run, otherwise the id. */
  readonly name: string;
}

/** Maximum number of references listed when a data set cannot be deleted. */
export const REFERENCES_LIMIT = 20;

/** The data-set part of Records. */
export interface DataSetRecords {
  /**
   * Reserves a name for one attempt to register a data set; the newest attempt holds it. `clear`: the attempt failed and
   * its files are being removed. `busy`: another attempt is clearing or, if this attempt wants to clear, holds the name. An
   * overtaken attempt clears once the name is free: it may have written after the newer one had cleared.
   */
  draftDataSet(draft: {
    readonly project: string;
    readonly dataset: string;
    readonly attempt: string;
    readonly step: 'write' | 'clear';
  }): Promise<'taken' | 'busy' | 'registered' | 'deleted'>;
  /** Releases the name after clearing. */
  dropDraft(project: string, dataset: string, attempt: string): Promise<void>;
  /** `Conflict` if the name has other files, was deleted, or (with `attempt`) is held by a newer attempt. */
  registerDataSet(dataset: DataSet, audit: AuditEntry, attempt?: string): Promise<void>;
  /** Excludes deleted data sets. */
  dataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  /** By name. */
  dataSets(filter: { project: string } & Page): Promise<{ rows: readonly DataSet[]; next?: string }>;
  /** Only deleted data sets. */
  deletedDataSet(project: string, dataset: string): Promise<DataSet | undefined>;
  /** Records that an existing run or evaluation references these data sets. `NotFound` if one of them does not exist. */
  nameDataSets(
    project: string,
    datasets: readonly string[],
    by: { readonly kind: 'run' | 'evaluation'; readonly name: string },
  ): Promise<void>;
  /**
   * Deletes a data set unless it is referenced; otherwise returns at most {@link REFERENCES_LIMIT} references. The name
   * is never reused: runs and reports reference data sets by name, and a name must not come to mean other rows.
   */
  deleteDataSet(
    project: string,
    dataset: string,
    audit: AuditEntry,
  ): Promise<{ readonly references: readonly DataSetReference[] }>;
  /** Deleted data sets whose files may still be in the areas. */
  unsweptDataSets(limit: number): Promise<readonly DataSet[]>;
  /** Records that the files of a deleted data set have been removed. */
  sweptDataSet(project: string, dataset: string): Promise<void>;
}

/** The import part of Records. */
export interface ImportRecords {
  /**
   * Stores the current state of an import, with an audit row if one is given. An older state never replaces a newer one; a
   * row without a resolution keeps the recorded one until the import has ended.
   */
  recordImport(row: Import, audit: AuditEntry | null): Promise<void>;
  import(project: string, id: string): Promise<Import | undefined>;
  imports(filter: { project: string } & Page): Promise<{ rows: readonly Import[]; next?: string }>;
  /** Registers a host that data may come from. Replaces a node with the same name. */
  setNode(node: Node, audit: AuditEntry): Promise<void>;
  /** Removes a node. Idempotent: a missing node is not an error. */
  removeNode(project: string, node: string, audit: AuditEntry): Promise<void>;
  nodes(project: string): Promise<readonly Node[]>;
}
