// Releases (paper 4.3): a number, the approved bytes into the release store, one event on the topic of the type; and taking them back.
import type { NamedArtifact, Release, Version } from '../workflows/domain/model.ts';
import { workflowId } from '../workflows/messages.ts';
import { failure } from './failures.ts';
import { beating } from './heartbeat.ts';
import { mustHave } from './model-center.ts';
import { releasePath } from './place.ts';
import type { ArtifactStore, CloudEvent, EventBus } from './ports.ts';
import type { Records } from './records.ts';

export type ReleaseActivities = ReturnType<typeof createReleaseActivities>;

/** Type of the CloudEvent that announces a release; its data is {@link ReleaseAnnounced}. */
export const releaseEventType = 'io.ocdl.model.released.v1';

type Which = Pick<Version, 'project' | 'model' | 'submission'>;

/** Data of the event, documented in the README: enough to fetch and check, nothing secret. */
export interface ReleaseAnnounced {
  readonly release: string;
  readonly sequence: number;
  readonly project: string;
  readonly model: string;
  readonly type: string;
  readonly version: number;
  readonly digest: string;
  readonly files: readonly { readonly name: string; readonly sha256: string; readonly bytes: number }[];
  readonly approvedBy: readonly string[];
  readonly releasedBy: string;
  readonly report: string | null;
}

export function createReleaseActivities(deps: {
  records: Records;
  areas: ArtifactStore;
  releases: ArtifactStore;
  bus: EventBus;
}) {
  const { records, areas, releases, bus } = deps;

  return {
    /** Gives a release its id and number. The command's id makes it the same one however often this runs. */
    async allotRelease(
      input: Which & { commandId: string; releasedBy: string; approvedBy: readonly string[] },
    ): Promise<Release> {
      const version = await mustHave(
        records.version(input.project, input.model, input.submission),
        `version ${input.model}/${input.submission}`,
      );
      const { project, model, submission, type, digest, files, decisions } = version;
      if (!digest || version.version === null)
        throw failure('Corrupt', `version ${model}/${submission} has no digest or number`);
      const released = files.map((file) => ({ ...file, uri: releases.uri(releasePath(type, digest, file.name)) }));
      const report = decisions.findLast(({ name }) => name === 'approve')?.report ?? null;
      return records.allotRelease(input.commandId, {
        type,
        project,
        model,
        submission,
        version: version.version,
        digest,
        files: released,
        report,
        approvedBy: input.approvedBy,
        releasedBy: input.releasedBy,
        releasedAt: new Date().toISOString(),
      });
    },

    /** Copies the approved bytes into the release store: create-only, and only if they still have the approved digest. */
    async publishRelease(input: Which & { release: string }): Promise<{ files: readonly NamedArtifact[] }> {
      const release = await mustHave(records.release(input.release), `release ${input.release}`);
      const version = await mustHave(
        records.version(input.project, input.model, input.submission),
        `version ${input.model}/${input.submission}`,
      );
      return beating(async (signal, report) => {
        for (const file of release.files) {
          const source = version.files.find(({ name }) => name === file.name);
          if (!source) throw failure('Corrupt', `version ${version.model}/${version.submission} has no ${file.name}`);
          report({ file: file.name, bytes: file.bytes });
          const expect = { sha256: file.sha256, bytes: file.bytes };
          await releases.write(releases.path(file.uri), await areas.read(source.uri, { signal }), { expect, signal });
        }
        return { files: release.files };
      });
    },

    /** One CloudEvent on the topic of the model's type, keyed by model. Its id is the release id: sent twice it is still one event. */
    async announceRelease(input: { release: string }): Promise<void> {
      const row = await mustHave(records.release(input.release), `release ${input.release}`);
      const { release, sequence, project, model, type, version, digest, approvedBy, releasedBy, report } = row;
      const files = row.files.map(({ name, sha256, bytes }) => ({ name, sha256, bytes }));
      const event: CloudEvent = {
        specversion: '1.0',
        id: release,
        source: `/projects/${project}/models/${model}`,
        type: releaseEventType,
        subject: `${model}/${version}`,
        time: row.releasedAt,
        datacontenttype: 'application/json',
        data: {
          release,
          sequence,
          project,
          model,
          type,
          version,
          digest,
          files,
          approvedBy,
          releasedBy,
          report,
        } satisfies ReleaseAnnounced,
      };
      await beating(() => bus.publish(type, model, event));
    },

    /** No application may take this version's releases any more. `live` names those that have it live: then nothing is done. `wake`: who must look. */
    async fenceReleases(
      input: Which & { commandId: string },
    ): Promise<{ live: readonly string[]; wake: readonly string[] }> {
      const rows = await records.releasesOf(input.project, input.model, input.submission);
      if (rows.length === 0) return { live: [], wake: [] };
      const { live } = await records.fence(
        rows.map(({ release }) => release),
        input.commandId,
      );
      const type = rows[0]?.type ?? '';
      const applications = await records.applications({ type });
      return {
        live,
        wake:
          live.length > 0 ? [] : applications.map(({ application }) => workflowId.application({ application, type })),
      };
    },
  };
}
