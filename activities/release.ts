// Releases (paper 4.3): allots a number, copies the approved bytes to the release store, publishes one event on the type's topic; and withdrawals.
import type { NamedArtifact, Release } from '../workflows/domain/model.ts';
import { failure } from './failures.ts';
import { beating, currentWorkflow, ofWorkflow } from './heartbeat.ts';
import { mustHave } from './model-center.ts';
import type { ArtifactStore, CloudEvent, EventBus } from './ports.ts';
import type { Records } from './records.ts';
import { keepManifest } from './release-manifest.ts';

export type ReleaseActivities = ReturnType<typeof createReleaseActivities>;

/** CloudEvents type of a release announcement; its data is {@link ReleaseAnnounced}. */
export const releaseEventType = 'io.ocdl.model.released.v1';

/** CloudEvents type of a release withdrawal; its data is {@link ReleaseWithdrawn}. */
export const withdrawalEventType = 'io.ocdl.model.withdrawn.v1';

/** Event data: do not use this release, and delete stored copies. */
export interface ReleaseWithdrawn {
  readonly release: string;
  readonly sequence: number;
  readonly project: string;
  readonly model: string;
  readonly type: string;
  readonly version: number;
  /** The command that withdrew it. */
  readonly decision: string;
  readonly withdrawnBy: string;
  readonly reason: string;
}

/** Event data, documented in the README: enough to fetch and verify the release, nothing secret. */
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

  /** The release that this activity works for, unless it has been withdrawn. */
  async function ownRelease(): Promise<Release> {
    const { release } = ofWorkflow('release', 'release');
    const [row, fenced] = await Promise.all([
      mustHave(records.release(release), `release ${release}`),
      records.fenced(release),
    ]);
    if (fenced) throw failure('Fenced', `release ${release} was withdrawn: it is not published`);
    return row;
  }

  return {
    /**
     * Fixes the release's number in the release store, then copies the approved bytes there: create-only, and only if
     * they still have the approved digest.
     */
    async publishRelease(_: object): Promise<{ files: readonly NamedArtifact[] }> {
      const release = await ownRelease();
      await keepManifest({ records, releases }, release);
      const { version } = await records.versionStanding(release);
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

    /**
     * Publishes one CloudEvent on the topic of the model's type, keyed by model. Its id is the release id, so duplicates
     * count once.
     */
    async announceRelease(_: object): Promise<void> {
      const row = await ownRelease();
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

    /** Publishes one CloudEvent for each announced release that a decision withdrew, for everyone who keeps a copy. */
    async announceWithdrawal({ commandId }: { commandId: string }): Promise<void> {
      const { project, model, submission } = ofWorkflow('modelLifecycle', 'project', 'model', 'submission');
      const decision = await records.decision(currentWorkflow(), commandId);
      if (decision?.status !== 'pending')
        throw failure('NotAuthorized', `no pending decision withdraws releases of ${model}/${submission}`);
      const { args, name, actor } = decision.command.body;
      const rows = await records.releasesOf(project, model, submission);
      await beating(async () => {
        for (const { release, sequence, type, version, state } of rows) {
          if (state !== 'announced' || !(await records.fenced(release))) continue;
          await bus.publish(type, model, {
            specversion: '1.0',
            // A release is withdrawn once, even if another decision withdraws it again.
            id: `${release}-withdrawn`,
            source: `/projects/${project}/models/${model}`,
            type: withdrawalEventType,
            subject: `${model}/${version}`,
            time: decision.at,
            datacontenttype: 'application/json',
            data: {
              ...{ release, sequence, project, model, type, version },
              ...{ decision: name, withdrawnBy: actor, reason: args.reason ?? '' },
            } satisfies ReleaseWithdrawn,
          });
        }
      });
    },
  };
}
