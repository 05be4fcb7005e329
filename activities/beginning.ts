// What a workflow begins with: the current state of the thing that it is about.
import { parseWorkflowId } from '../workflows/domain/ids.ts';
import type { Import } from '../workflows/domain/import.ts';
import type { Evaluation, RunRecord } from '../workflows/domain/model.ts';
import type { ApplicationStanding, ScanStanding, VersionStanding } from '../workflows/domain/standing.ts';
import type { PublicKeys } from '../workflows/messages.ts';
import { currentWorkflow, ofWorkflow } from './heartbeat.ts';
import type { Records } from './records.ts';

/** What a workflow begins with. Only the part for its own type is set; the others are null. */
export interface Begun {
  /** The platform's public keys. Commands without their signature are ignored. */
  readonly keys: PublicKeys;
  readonly version: VersionStanding | null;
  /** Whether every transition of the version is stored beside the artifact. Missing in results recorded before this field. */
  readonly isFiled?: boolean;
  readonly application: ApplicationStanding | null;
  readonly scan: ScanStanding | null;
  /** The record of work that has already ended, so that it is not repeated. */
  readonly ended: { readonly run?: RunRecord; readonly evaluation?: Evaluation; readonly import?: Import } | null;
  /** Set if someone ended it by hand: the reason, so that it cleans up and ends. */
  readonly stopped?: string;
  /** Search attributes that the workflow's input does not contain. */
  readonly about?: { readonly Model?: string; readonly ModelType?: string };
}

/** The current state for the workflow that begins: the part of {@link Begun} for its type. */
export async function standingNow(records: Records): Promise<Partial<Begun>> {
  const id = currentWorkflow();
  const parsed = parseWorkflowId(id);
  const of = (name: string): string => parsed?.of[name] ?? '';
  const stopped = async () => {
    const found = await records.step<{ why: string }>(id, 'stopped');
    return found && { stopped: found.why };
  };
  switch (parsed?.workflow) {
    case 'modelLifecycle': {
      const key = ofWorkflow('modelLifecycle', 'project', 'model', 'submission');
      // Not at the same time: a transition made in between would count as stored.
      const version = await records.versionStanding(key);
      const open = await records.unfiled(key);
      // An earlier program's lifecycle that had only to end: its start is open until here.
      if (version.closed) await records.closeStart(id, version.version.state);
      return { version, isFiled: open.length === 0 };
    }
    case 'application':
      return { application: await records.applicationStanding(id) };
    case 'feedback': {
      const scan = await records.scanStanding(id);
      const release = await records.release(scan.scan.release);
      return { scan, ...(release && { about: { Model: release.model } }) };
    }
    case 'trainingRun': {
      const version = { project: of('project'), model: of('model'), submission: of('submission') };
      const run = await records.run(version, Number(of('attempt')));
      return { ended: run ? { run } : null };
    }
    case 'evaluation': {
      const evaluation = await records.evaluation(of('project'), of('evaluation'));
      const ended = evaluation && evaluation.state !== 'running' ? { evaluation } : null;
      const submission = evaluation?.submission ?? null;
      const version =
        submission === null ? undefined : await records.version(of('project'), evaluation?.model ?? '', submission);
      return { ended, ...(await stopped()), ...(version && { about: { ModelType: version.type } }) };
    }
    case 'dataImport': {
      const row = await records.import(of('project'), of('import'));
      const isOpen = !row || row.state === 'resolving' || row.state === 'fetching';
      return { ended: isOpen ? null : { import: row }, ...(await stopped()) };
    }
    case 'release':
    case 'delivery':
    case undefined:
      return {};
  }
}
