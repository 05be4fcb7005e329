// Activities that workflows from before Records still call. They establish no facts: such a workflow switches to a new run, which reads the record.
import type { Evaluation, LivePointer, NamedArtifact, Release, Scan, Version } from '../workflows/domain/model.ts';
import type { Records } from './records.ts';

export type EarlierActivities = ReturnType<typeof createEarlierActivities>;

/** Further calls of those workflows, with the results of that time, whose names still have a meaning. */
export interface EarlierCalls extends EarlierActivities {
  recordRefusals(input: object): Promise<void>;
  readFence(input: { release: string }): Promise<{ fenced: boolean }>;
  stageModel(input: object): Promise<{ files: readonly NamedArtifact[] }>;
  unstageModel(input: object): Promise<void>;
  validateModel(input: object): Promise<{ valid: Partial<Version> } | { problems: readonly string[] }>;
  returnToPrivate(input: object): Promise<{ folder: string }>;
  receiveRelease(input: object): Promise<{ gates: readonly string[] }>;
  moveLivePointer(input: object): Promise<{
    pointer: LivePointer;
    why: string | null;
    touched: readonly Pick<Version, 'project' | 'model' | 'submission'>[];
  }>;
  commitLive(input: object): Promise<{ commit: string }>;
  commitLabels(input: object): Promise<{ commit: string }>;
}

export function createEarlierActivities({ records }: { records: Records }) {
  /** Returns nothing: no workflow uses the result. The name is kept for activities that are pending during an upgrade. */
  const nothing =
    <Result>() =>
    async (_: object): Promise<Result> =>
      undefined as Result;
  return {
    recordTransition: nothing<void>(),
    recordFailedCommand: nothing<void>(),
    recordFailedRevert: nothing<void>(),
    closeVersion: nothing<void>(),
    recordDelivery: nothing<void>(),
    recordLabels: nothing<void>(),
    readDeliveries: nothing<{ failed: number; summary: string }>(),
    readLivePointer: nothing<LivePointer>(),
    readFloor: nothing<{ floor: number }>(),
    readNextRelease: nothing<{ release: Release | null }>(),
    readScan: nothing<Scan>(),
    checkEvidence: nothing<void>(),
    allotRelease: nothing<Release>(),
    fenceReleases: nothing<{ live: readonly string[]; wake: readonly string[] }>(),

    /** Records a failed evaluation. One with a report was recorded by the activity that ran it. */
    async recordEvaluation({ evaluation }: { evaluation: Evaluation }): Promise<void> {
      if (evaluation.state !== 'failed') return;
      const { project, evaluation: id } = evaluation;
      const row = await records.evaluation(project, id);
      if (row?.state === 'running')
        await records.endEvaluation({ ...row, state: 'failed', detail: evaluation.detail }, { inStaging: false });
    },
  };
}
