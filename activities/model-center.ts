// The Model Center's record (paper 4.3): the state when a workflow begins, one transaction per decision, and its file beside the artifact.
import { Context } from '@temporalio/activity';
import type { SignedCommand } from '../workflows/domain/command.ts';
import { parseWorkflowId, workflowId } from '../workflows/domain/ids.ts';
import type { Import } from '../workflows/domain/import.ts';
import type { Delivery, Evaluation, NamedArtifact, RunRecord, Version } from '../workflows/domain/model.ts';
import type { Location } from '../workflows/domain/names.ts';
import { stagingFolder, subjectOf } from '../workflows/domain/names.ts';
import type { ApplicationStanding, NextDelivery, ScanStanding, VersionStanding } from '../workflows/domain/standing.ts';
import type { PublicKeys, RefusedCommand } from '../workflows/messages.ts';
import { failure, isFailure } from './failures.ts';
import { currentRun, currentWorkflow, ofWorkflow } from './heartbeat.ts';
import { releasePath, storePath } from './place.ts';
import type { ArtifactStore } from './ports.ts';
import type { AuditEntry, Records } from './records.ts';
import type { Signer } from './signing.ts';

export type ModelCenterActivities = ReturnType<typeof createModelCenterActivities>;

/** What a workflow begins with. Only the part for its own type is set; the others are null. */
export interface Begun {
  /** The platform's public keys. Commands without their signature are ignored. */
  readonly keys: PublicKeys;
  readonly version: VersionStanding | null;
  readonly application: ApplicationStanding | null;
  readonly scan: ScanStanding | null;
  /** The record of work that has already ended, so that it is not repeated. */
  readonly ended: { readonly run?: RunRecord; readonly evaluation?: Evaluation; readonly import?: Import } | null;
  /** Set if someone ended it by hand: the reason, so that it cleans up and ends. */
  readonly stopped?: string;
  /** Search attributes that the workflow's input does not contain. */
  readonly about?: { readonly Model?: string; readonly ModelType?: string };
}

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
    /**
     * Every workflow's first step: returns the keys and the current state. admission.ts checks before every step whether
     * it may run at all.
     */
    async begin(): Promise<Begun> {
      const id = currentWorkflow();
      const parsed = parseWorkflowId(id);
      const of = (name: string): string => parsed?.of[name] ?? '';
      const nothing = { keys: await records.keys(), version: null, application: null, scan: null, ended: null };
      const stopped = async () => {
        const found = await records.step<{ why: string }>(id, 'stopped');
        return found && { stopped: found.why };
      };
      switch (parsed?.workflow) {
        case 'modelLifecycle':
          return { ...nothing, version: await records.versionStanding(key()) };
        case 'application':
          return { ...nothing, application: await records.applicationStanding(id) };
        case 'feedback': {
          const scan = await records.scanStanding(id);
          const release = await records.release(scan.scan.release);
          return { ...nothing, scan, ...(release && { about: { Model: release.model } }) };
        }
        case 'trainingRun': {
          const version = { project: of('project'), model: of('model'), submission: of('submission') };
          const run = await records.run(version, Number(of('attempt')));
          return { ...nothing, ended: run ? { run } : null };
        }
        case 'evaluation': {
          const evaluation = await records.evaluation(of('project'), of('evaluation'));
          const ended = evaluation && evaluation.state !== 'running' ? { evaluation } : null;
          const submission = evaluation?.submission ?? null;
          const version =
            submission === null ? undefined : await records.version(of('project'), evaluation?.model ?? '', submission);
          return { ...nothing, ended, ...(await stopped()), ...(version && { about: { ModelType: version.type } }) };
        }
        case 'dataImport': {
          const row = await records.import(of('project'), of('import'));
          const isOpen = !row || row.state === 'resolving' || row.state === 'fetching';
          return { ...nothing, ended: isOpen ? null : { import: row }, ...(await stopped()) };
        }
        case 'release':
        case 'delivery':
        case undefined:
          return nothing;
      }
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
        () => records.decideVersion(currentWorkflow(), command, { place, doubt }),
        () => records.versionStanding(key()),
      );
    },

    async completeDecision({ commandId }: { commandId: string }): Promise<VersionStanding> {
      return records.completeDecision(currentWorkflow(), commandId);
    },

    /** A release that an operator ended, and whatever waited for a restore, stays pending and is carried out again. */
    async failDecision(input: { commandId: string; reason: string; message: string }): Promise<VersionStanding> {
      const standing = await records.failDecision(currentWorkflow(), input.commandId, input);
      const { pending } = standing;
      if (input.reason === 'Ended' && pending?.commandId === input.commandId && pending.release !== null)
        await noteInterrupted(`release ${pending.release} was ended in Temporal: it is carried out again`);
      return standing;
    },

    /** Makes the transition that follows from the facts that activities recorded. `ended`: why the awaited work failed. */
    async advanceVersion(step: { revision: number; ended?: string }): Promise<VersionStanding> {
      return records.advanceVersion(currentWorkflow(), step);
    },

    /** Stores newly committed transitions beside the artifact, each sealed. */
    async fileTransitions(): Promise<void> {
      for (let open = await records.unfiled(key()); open.length > 0; open = await records.unfiled(key()))
        for (const { revision, ...entry } of open) {
          await beside(entry.version, String(revision).padStart(6, '0'), entry);
          await records.filed(key(), revision);
        }
    },

    /** Records commands refused before evaluation, in batches. In a flood, only the first ones are recorded individually. */
    async recordRefusals(input: { refused: readonly RefusedCommand[]; dropped: number; batch: number }): Promise<void> {
      const { refused, dropped, batch } = input;
      const about = await aboutWorkflow(records);
      const entry = (i: number, reason: string, detail: AuditEntry['detail'], at: string): AuditEntry => ({
        // Each run numbers its batches from 0.
        key: `${currentWorkflow()}/${currentRun()}/refused/${batch}/${i}`,
        ...{ ...about, kind: 'command.refused', actor: 'unproven', digest: null, report: null, reason, detail, at },
      });
      const entries = refused.map((one, i) => entry(i, one.message, { ...one }, one.at));
      const last = refused.at(-1)?.at ?? new Date().toISOString();
      if (dropped > 0) entries.push(entry(refused.length, `${dropped} more refused commands`, { dropped }, last));
      await records.record(entries, []);
    },

    /** Records that an operator cancelled the workflow: running work was interrupted, and nothing follows. */
    async recordInterruption(): Promise<void> {
      const entry = {
        ...{ key: `${currentWorkflow()}/${currentRun()}/cancelled`, kind: 'workflow.cancelled', actor: 'operator' },
        ...{ digest: null, report: null, reason: 'cancelled in Temporal: what ran was interrupted', detail: {} },
      };
      await records.record([{ ...entry, ...(await aboutWorkflow(records)), at: new Date().toISOString() }], []);
    },

    /**
     * Records an evaluation that failed; without a reason it was cancelled. If it has a report, the activity that ran it
     * has recorded it.
     */
    async failEvaluation({ why }: { why: string | null }): Promise<Evaluation> {
      const { project, evaluation } = ofWorkflow('evaluation', 'project', 'evaluation');
      const row = await mustHave(records.evaluation(project, evaluation), `evaluation ${evaluation}`);
      // Cancelled by a person through the API, or by an operator in Temporal.
      const filter = { project, subject: `${project}/evaluations/${evaluation}`, limit: 100 };
      const cancelled = async (): Promise<string> => {
        const { rows } = await records.audit(filter);
        const by = rows.find(({ entry }) => entry.kind === 'evaluation.cancel')?.entry.actor;
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
        await records.concludeDelivery({ ...applicationOf(row.type), release }, 'taken back by a manager');
      else await noteInterrupted(`the delivery of ${release} was ended in Temporal: it begins again`);
    },

    /** Adds a note for people to a delivery that is live. */
    async noteDelivery({ release, note }: { release: string; note: string }): Promise<void> {
      const { application } = applicationOf((await releaseOf(release)).type);
      const row = await records.delivery(application, release);
      if (row)
        await records.record(
          [],
          [{ kind: 'delivery', row: { ...row, detail: note, updatedAt: new Date().toISOString() } }],
        );
    },

    async completePointer({ commandId, note }: { commandId: string; note: string }): Promise<ApplicationStanding> {
      return records.completePointer(currentWorkflow(), commandId, note);
    },

    async decideLabels({ command }: { command: SignedCommand }): Promise<ScanStanding> {
      const id = currentWorkflow();
      return unlessForged(
        () => records.decideLabels(id, command),
        () => records.scanStanding(id),
      );
    },

    async failLabels(input: { commandId: string; reason: string; message: string }): Promise<ScanStanding> {
      return records.failLabels(currentWorkflow(), input.commandId, input);
    },

    /** Closes a scan that has had no activity for a long time. */
    async closeFeedback(): Promise<void> {
      await records.closeStart(currentWorkflow(), 'quiet');
    },
  };

  /** Records that an operator ended work of this workflow in Temporal. May happen more than once per run. */
  async function noteInterrupted(reason: string): Promise<void> {
    const { activityId } = Context.current().info;
    const entry = {
      ...{ key: `${currentWorkflow()}/${currentRun()}/interrupted/${activityId}`, kind: 'workflow.interrupted' },
      ...{ actor: 'operator', digest: null, report: null, reason, detail: {}, at: new Date().toISOString() },
    };
    await records.record([{ ...entry, ...(await aboutWorkflow(records)) }], []);
  }

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
    const message = `the stored report has digest ${stored ?? 'none'} now, not ${report}: it was changed`;
    return { reason: 'DigestMismatch', message };
  }

  /** A command that the platform has not signed changes nothing: it is recorded, and the current standing is returned. */
  async function unlessForged<S>(decide: () => Promise<S>, stand: () => Promise<S>): Promise<S> {
    try {
      return await decide();
    } catch (error) {
      if (!isFailure(error, 'NotAuthorized') || !(error instanceof Error)) throw error;
      const entry = {
        ...{ key: `${currentWorkflow()}/${currentRun()}/forged`, kind: 'command.refused', actor: 'unproven' },
        ...{ digest: null, report: null, reason: error.message, detail: {}, at: new Date().toISOString() },
      };
      await records.record([{ ...entry, ...(await aboutWorkflow(records)) }], []);
      return stand();
    }
  }
}

/** The audit's project and subject for the workflow that this activity works for. */
async function aboutWorkflow(records: Records): Promise<{ project: string | null; subject: string }> {
  const id = currentWorkflow();
  const parsed = parseWorkflowId(id);
  const project = parsed?.of['project'] ?? (await records.start(id))?.project ?? null;
  const of = (name: string): string => parsed?.of[name] ?? '';
  switch (parsed?.workflow) {
    case 'modelLifecycle':
      return {
        project,
        subject: subjectOf({ project: of('project'), model: of('model'), submission: of('submission') }),
      };
    case 'application':
      return { project, subject: `${of('application')}/${of('type')}` };
    case 'feedback':
      return { project, subject: `${of('project')}/scans/${of('scan')}` };
    case 'trainingRun':
    case 'evaluation':
    case 'release':
    case 'delivery':
    case 'dataImport':
    case undefined:
      return { project, subject: id };
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
