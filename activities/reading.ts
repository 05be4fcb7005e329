// What workflows read from the records before they decide: wake-ups say nothing, this does.
import type { Delivery, LivePointer, Release, Scan, Version } from '../workflows/domain/model.ts';
import { mustHave } from './model-center.ts';
import type { Records } from './records.ts';

export type ReadingActivities = ReturnType<typeof createReadingActivities>;

export function createReadingActivities({ records }: { records: Records }) {
  return {
    /** What became of a version's releases, for its manager. `failed` counts the applications whose newest delivery of it failed. */
    async readDeliveries({
      project,
      model,
      submission,
    }: Pick<Version, 'project' | 'model' | 'submission'>): Promise<{ failed: number; summary: string }> {
      const newest = new Map<string, Delivery>();
      const releases = await records.releasesOf(project, model, submission);
      for (const { release } of [...releases].sort((a, b) => a.sequence - b.sequence))
        for (const row of (await records.deliveries({ release })).rows) newest.set(row.application, row);
      const rows = [...newest.values()].sort((a, b) => a.application.localeCompare(b.application));
      const lines = rows.map(
        ({ application, release, state, detail }) =>
          `${release}: ${state} in ${application}${detail && ` (${detail})`}`,
      );
      const names = releases.map(({ release }) => release).at(-1);
      return {
        failed: rows.filter(({ state }) => state === 'failed').length,
        summary: lines.join('\n') || `released as ${names ?? 'nothing'}`,
      };
    },

    async readLivePointer({ application, type }: { application: string; type: string }): Promise<LivePointer> {
      return records.livePointer(application, type);
    },

    /** A new application begins with the newest release that stands: `floor` is the sequence before it. */
    async readFloor({ type }: { type: string }): Promise<{ floor: number }> {
      const newest = await records.newestRelease(type);
      return { floor: (newest?.sequence ?? 1) - 1 };
    },

    async readFence({ release }: { release: string }): Promise<{ fenced: boolean }> {
      return { fenced: await records.fenced(release) };
    },

    /** The oldest announced release above the floor that this application has not dealt with. Records decide, for ever. */
    async readNextRelease({
      application,
      type,
      floor,
    }: {
      application: string;
      type: string;
      floor: number;
    }): Promise<{ release: Release | null }> {
      return { release: (await records.nextRelease(application, type, floor)) ?? null };
    },

    async readScan({ project, scan }: { project: string; scan: string }): Promise<Scan> {
      return mustHave(records.scan(project, scan), `scan ${scan} of project ${project}`);
    },
  };
}
