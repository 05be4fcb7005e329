// The Model Center's record (paper 4.3): the state when a workflow begins, one transaction per decision, and its file beside the artifact.
import type { SignedCommand } from '../workflows/domain/command.ts';
import { digestMismatch } from '../workflows/domain/digest-mismatch.ts';
import { parseWorkflowId, workflowId } from '../workflows/domain/ids.ts';
import type { Delivery, Evaluation, NamedArtifact, Version } from '../workflows/domain/model.ts';
import type { Location } from '../workflows/domain/names.ts';
import { stagingFolder } from '../workflows/domain/names.ts';
import type { ApplicationStanding, NextDelivery, ScanStanding, VersionStanding } from '../workflows/domain/standing.ts';
import type { Begun } from './beginning.ts';
import { standingNow } from './beginning.ts';
import { failure } from './failures.ts';
import { currentWorkflow, ofWorkflow } from './heartbeat.ts';
import { releasePath, storePath } from './place.ts';
import type { ArtifactStore } from './ports.ts';
import type { Records } from './records.ts';
import { UNFILED_PAGE } from './records.ts';
import type { Signer } from './signing.ts';
import { cancellationOf, createWorkflowAuditActivities, noteInterrupted, unlessForged } from './workflow-audit.ts';

export type ModelCenterActivities = ReturnType<typeof createModelCenterActivities>;

export function createModelCenterActivities(deps: {
  records: Records;
  areas: ArtifactStore;
  releases: ArtifactStore;
  signer: Pick<Signer, 'seal'>;
}) {
  const { records, areas, releases, signer } = deps;

  /** Writes one sealed JSON file beside a version. Idempotent. */
  async function beside(version: Pick<Version, 'project' | 'model' | 'submission'>, file: string, content: object) {
    const { project, model, submission } = version;
    const path = `${stagingFolder(model, submission)}/record/${file}.json`;
    const location: Location = { area: 'staging', project, path };
    const bytes = Buffer.from(JSON.stringify(signer.seal(content), null, 1));
    // Another key seals the same content differently. The last writer has the newer key, so it replaces the file.
    await areas.write(storePath(location), once(bytes), { ifExists: 'replace' });
  }
  const key = () => ofWorkflow('modelLifecycle', 'project', 'model', 'submission');
  const releaseOf = async (release: string) => mustHave(records.release(release), `release ${release}`);

  return {
    ...createWorkflowAuditActivities({ records }),

    /**
     * Every workflow's first step: returns the keys and the current state. admission.ts checks before every step whether
     * it may run at all.
     */
    async begin(): Promise<Begun> {
      const [keys, standing] = await Promise.all([records.keys(), standingNow(records)]);
      return { keys, version: null, application: null, scan: null, ended: null, ...standing };
    },

    /** Decides a command by the current state, in one transaction. The standing says what follows. */
    async decideVersion({ command }: { command: SignedCommand }): Promise<VersionStanding> {
      const { report } = command.body;
      const doubt = report === null ? undefined : await changedReport(report);
      const place = (type: string, file: NamedArtifact) => ({
        ...file,
        uri: releases.uri(releasePath(type, file.sha256, file.name)),
      });
      return unlessForged(
        records,
        () => records.decideVersion(currentWorkflow(), command, { place, doubt }),
        () => records.versionStanding(key()),
      );
    },

    async completeDecision({ commandId }: { commandId: string }): Promise<VersionStanding> {
      return records.completeDecision(currentWorkflow(), commandId);
    },

    /** A release that an operator ended, and whatever waited for a restore, stays pending and is repeated. */
    async failDecision(input: { commandId: string; reason: string; message: string }): Promise<VersionStanding> {
      const standing = await records.failDecision(currentWorkflow(), input.commandId, input);
      const { pending } = standing;
      if (input.reason === 'Ended' && pending?.commandId === input.commandId && pending.release !== null)
        await noteInterrupted(records, `release ${pending.release} was ended in Temporal: it is repeated`);
      return standing;
    },

    /** Makes the transition that follows from the facts that activities recorded. `ended`: why the awaited work failed. */
    async advanceVersion(step: { revision: number; ended?: string }): Promise<VersionStanding> {
      return records.advanceVersion(currentWorkflow(), step);
    },

    /** Stores newly committed transitions beside the artifact, each sealed. */
    async fileTransitions(): Promise<void> {
      for (;;) {
        const open = await records.unfiled(key());
        for (const { revision, ...entry } of open) {
          await beside(entry.version, String(revision).padStart(6, '0'), entry);
          await records.filed(key(), revision);
        }
        // For a transition committed meanwhile, its workflow makes another call.
        if (open.length < UNFILED_PAGE) return;
      }
    },

    /**
     * Records an evaluation that failed; without a reason it was cancelled. If it has a report, the activity that ran it
     * has recorded it.
     */
    async failEvaluation({ why }: { why: string | null }): Promise<Evaluation> {
      const { project, evaluation } = ofWorkflow('evaluation', 'project', 'evaluation');
      const row = await mustHave(records.evaluation(project, evaluation), `evaluation ${evaluation}`);
      // Cancelled by a person through the API, or by an operator in Temporal.
      const cancelled = async (): Promise<string> => {
        const by = await cancellationOf(records, 'evaluation', project, evaluation);
        return by === undefined ? 'ended by an operator: start another one' : `cancelled by ${by}`;
      };
      const detail = why ?? (await cancelled());
      const failed = { ...row, state: 'failed', detail, updatedAt: new Date().toISOString() } as const;
      return row.state === 'running' ? records.endEvaluation(failed, { inStaging: false }) : row;
    },

    /**
     * From here on, applications accept the release. `wake`: workflows to notify, because the event may have arrived
     * before this.
     */
    async recordAnnounced({ release }: { release: string }): Promise<{ wake: readonly string[] }> {
      const { type } = await releaseOf(release);
      if (ofWorkflow('release', 'release').release !== release)
        throw failure('NotAuthorized', `workflow ${currentWorkflow()} does not announce ${release}`);
      await records.announced(release);
      const applications = await records.applications({ type });
      return { wake: applications.map(({ application }) => workflowId.application({ application, type })) };
    },

    async readFence({ release }: { release: string }): Promise<{ fenced: boolean }> {
      return { fenced: await records.fenced(release) };
    },

    async readApplication(): Promise<ApplicationStanding> {
      return records.applicationStanding(currentWorkflow());
    },

    async openDelivery(): Promise<NextDelivery> {
      return records.openDelivery(currentWorkflow());
    },

    /** Concludes a delivery from its gate results. `ended`: why it failed. */
    async concludeDelivery({ release, ended }: { release: string; ended?: string }): Promise<Delivery> {
      const row = await releaseOf(release);
      const concluded = await records.concludeDelivery({ ...applicationOf(row.type), release }, ended);
      const { application, state, gates } = concluded;
      await beside(row, `delivery-${application}-${release}-${state}-${gates.length}`, concluded);
      return concluded;
    },

    /** A delivery was interrupted. If its release was withdrawn, it has failed; otherwise it starts again. */
    async interruptDelivery({ release }: { release: string }): Promise<void> {
      const row = await releaseOf(release);
      if (await records.fenced(release))
        await records.concludeDelivery({ ...applicationOf(row.type), release }, 'withdrawn by a manager');
      else await noteInterrupted(records, `the delivery of ${release} was ended in Temporal: it starts again`);
    },

    /** Adds a note for people to a delivery that is live. */
    async noteDelivery({ release, note }: { release: string; note: string }): Promise<void> {
      const { application } = applicationOf((await releaseOf(release)).type);
      const row = await records.delivery(application, release);
      if (!row) return;
      // Never back: of one state, the row with the later time is kept, and another process may have written it.
      const updatedAt = new Date(Math.max(Date.now(), Date.parse(row.updatedAt))).toISOString();
      await records.record([], [{ kind: 'delivery', row: { ...row, detail: note, updatedAt } }]);
    },

    async completePointer({ commandId, note }: { commandId: string; note: string }): Promise<ApplicationStanding> {
      return records.completePointer(currentWorkflow(), commandId, note);
    },

    async decideLabels({ command }: { command: SignedCommand }): Promise<ScanStanding> {
      const id = currentWorkflow();
      return unlessForged(
        records,
        () => records.decideLabels(id, command),
        () => records.scanStanding(id),
      );
    },

    async failLabels(input: { commandId: string; reason: string; message: string }): Promise<ScanStanding> {
      return records.failLabels(currentWorkflow(), input.commandId, input);
    },

    /**
     * Closes a scan that has had no activity for `forMs` since `since`. `until`: it is not closed before then, because
     * decisions were paused meanwhile. An earlier program gives no times.
     */
    async closeFeedback(quiet: { since?: string; forMs?: number }): Promise<{ until: string | null }> {
      const { since = new Date().toISOString(), forMs = 0 } = quiet;
      return records.closeQuiet(currentWorkflow(), { since, forMs });
    },
  };

  /** The application that this activity works for, also when it runs in the application's delivery. */
  function applicationOf(type: string): { application: string; type: string } {
    const parsed = parseWorkflowId(currentWorkflow());
    if (parsed?.workflow === 'application') return ofWorkflow('application', 'application', 'type');
    return { ...ofWorkflow('delivery', 'application'), type };
  }

  /** Checks the report that a decision names: its stored bytes must still match the record. */
  async function changedReport(report: string): Promise<{ reason: string; message: string } | undefined> {
    const { project, model, submission } = key();
    const { rows } = await records.evaluations({ project, model, submission, limit: 1000 });
    const found = rows.find((row) => row.report?.sha256 === report)?.report;
    if (!found) return undefined;
    const stored = (await areas.stat(found.uri)) && (await areas.digest(found.uri));
    if (stored === report) return undefined;
    const message = stored
      ? digestMismatch('the stored report', stored, report)
      : `the stored report sha256:${report} is missing: restore it from a backup or evaluate the version again`;
    return { reason: 'DigestMismatch', message };
  }
}

/** A single chunk as a stream. */
export async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/** The found value. Throws `NotFound` naming it if it is missing. */
export async function mustHave<T>(found: Promise<T | undefined>, what: string): Promise<T> {
  const thing = await found;
  if (thing === undefined) throw failure('NotFound', `there is no ${what}`);
  return thing;
}
