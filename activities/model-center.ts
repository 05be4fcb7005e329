// The Model Center's record (paper 4.3): how things stand when a workflow begins, each decision as one transaction, and its file beside the artifact.
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

/** What a workflow begins with: the part of its own type is there, the others are null. */
export interface Begun {
  /** Keys of the platform: what they have not signed is not looked at. */
  readonly keys: PublicKeys;
  readonly version: VersionStanding | null;
  readonly application: ApplicationStanding | null;
  readonly scan: ScanStanding | null;
  /** What is recorded of work that has ended already: it is not done again. */
  readonly ended: { readonly run?: RunRecord; readonly evaluation?: Evaluation; readonly import?: Import } | null;
  /** Why it is to clean up and end, where somebody has ended it by hand. */
  readonly stopped?: string;
  /** What people find the workflow by, where its input does not say it. */
  readonly about?: { readonly Model?: string; readonly ModelType?: string };
}

export function createModelCenterActivities(deps: {
  records: Records;
  areas: ArtifactStore;
  releases: ArtifactStore;
  signer: Pick<Signer, 'seal'>;
}) {
  const { records, areas, releases, signer } = deps;

  /** Writes one sealed JSON file beside a version; the same content again is fine. */
  async function beside(version: Pick<Version, 'project' | 'model' | 'submission'>, file: string, content: object) {
    const { project, model, submission } = version;
    const path = `${stagingFolder(model, submission)}/record/${file}.json`;
    const location: Location = { area: 'staging', project, path };
    const bytes = Buffer.from(JSON.stringify(signer.seal(content), null, 1));
    // Another key seals the same content in other words: whoever comes later has the newer key.
    await areas.write(storePath(location), once(bytes), { ifExists: 'replace' });
  }
  const key = () => ofWorkflow('modelLifecycle', 'project', 'model', 'submission');
  const releaseOf = async (release: string) => mustHave(records.release(release), `release ${release}`);

  return {
    /** Every workflow's first step: its keys and how things stand. Whether it may run at all is asked before every step (admission.ts). */
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

    /** Decides about a command, in one transaction, by what holds now. The standing says what follows. */
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

    /** A release that an operator has ended stays pending, and is carried out again. */
    async failDecision(input: { commandId: string; reason: string; message: string }): Promise<VersionStanding> {
      const standing = await records.failDecision(currentWorkflow(), input.commandId, input);
      const { pending } = standing;
      if (pending?.commandId === input.commandId && pending.release !== null)
        await noteInterrupted(`release ${pending.release} was ended in Temporal: it is carried out again`);
      return standing;
    },

    /** Makes the transition that follows from what activities have established. `ended`: why what was awaited came to nothing. */
    async advanceVersion(step: { revision: number; ended?: string }): Promise<VersionStanding> {
      return records.advanceVersion(currentWorkflow(), step);
    },

    /** Lays the transitions that were committed since beside the artifact, each sealed. */
    async fileTransitions(): Promise<void> {
      for (let open = await records.unfiled(key()); open.length > 0; open = await records.unfiled(key()))
        for (const { revision, ...entry } of open) {
          await beside(entry.version, String(revision).padStart(6, '0'), entry);
          await records.filed(key(), revision);
        }
    },

    /** Commands that were refused before they were looked at, in batches; of a flood only the first are kept one by one. */
    async recordRefusals(input: { refused: readonly RefusedCommand[]; dropped: number; batch: number }): Promise<void> {
      const { refused, dropped, batch } = input;
      const about = await aboutWorkflow(records);
      const entry = (i: number, reason: string, detail: AuditEntry['detail'], at: string): AuditEntry => ({
        // A run numbers its batches from 0.
        key: `${currentWorkflow()}/${currentRun()}/refused/${batch}/${i}`,
        ...{ ...about, kind: 'command.refused', actor: 'unproven', digest: null, report: null, reason, detail, at },
      });
      const entries = refused.map((one, i) => entry(i, one.message, { ...one }, one.at));
      const last = refused.at(-1)?.at ?? new Date().toISOString();
      if (dropped > 0) entries.push(entry(refused.length, `${dropped} more refused commands`, { dropped }, last));
      await records.record(entries, []);
    },

    /** An operator has cancelled the workflow: what ran was interrupted, and nothing else follows. */
    async recordInterruption(): Promise<void> {
      const entry = {
        ...{ key: `${currentWorkflow()}/${currentRun()}/cancelled`, kind: 'workflow.cancelled', actor: 'operator' },
        ...{ digest: null, report: null, reason: 'cancelled in Temporal: what ran was interrupted', detail: {} },
      };
      await records.record([{ ...entry, ...(await aboutWorkflow(records)), at: new Date().toISOString() }], []);
    },

    /** An evaluation that came to nothing; without a reason it was cancelled. One that has a report was recorded by the activity that ran it. */
    async failEvaluation({ why }: { why: string | null }): Promise<Evaluation> {
      const { project, evaluation } = ofWorkflow('evaluation', 'project', 'evaluation');
      const row = await mustHave(records.evaluation(project, evaluation), `evaluation ${evaluation}`);
      // Cancelled: by whom, through the API, or by an operator in Temporal itself.
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

    /** From here on applications take the release. `wake`: who must look, since its event may have come before this. */
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

    /** What a delivery has come to, by the results of its gates. `ended`: why it came to nothing. */
    async concludeDelivery({ release, ended }: { release: string; ended?: string }): Promise<Delivery> {
      const row = await releaseOf(release);
      const concluded = await records.concludeDelivery({ ...applicationOf(row.type), release }, ended);
      const { application, state, gates } = concluded;
      await beside(row, `delivery-${application}-${release}-${state}-${gates.length}`, concluded);
      return concluded;
    },

    /** A delivery was interrupted: one whose release was taken back has failed, another one begins again. */
    async interruptDelivery({ release }: { release: string }): Promise<void> {
      const row = await releaseOf(release);
      if (await records.fenced(release))
        await records.concludeDelivery({ ...applicationOf(row.type), release }, 'taken back by a manager');
      else await noteInterrupted(`the delivery of ${release} was ended in Temporal: it begins again`);
    },

    /** Something that people must know of a delivery that is live. */
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

    /** Closes a scan that nobody has touched for long. */
    async closeFeedback(): Promise<void> {
      await records.closeStart(currentWorkflow(), 'quiet');
    },
  };

  /** An operator has ended work of this workflow in Temporal. A run may see that more than once. */
  async function noteInterrupted(reason: string): Promise<void> {
    const { activityId } = Context.current().info;
    const entry = {
      ...{ key: `${currentWorkflow()}/${currentRun()}/interrupted/${activityId}`, kind: 'workflow.interrupted' },
      ...{ actor: 'operator', digest: null, report: null, reason, detail: {}, at: new Date().toISOString() },
    };
    await records.record([{ ...entry, ...(await aboutWorkflow(records)) }], []);
  }

  /** The application that this activity works for, be it as its delivery. */
  function applicationOf(type: string): { application: string; type: string } {
    const parsed = parseWorkflowId(currentWorkflow());
    if (parsed?.workflow === 'application') return ofWorkflow('application', 'application', 'type');
    return { ...ofWorkflow('delivery', 'application'), type };
  }

  /** What stands against a report that a decision names: the bytes must still be those that were recorded. */
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

  /** A command that the platform has not signed changes nothing: it is written down, and the standing stays. */
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

/** What the audit calls the workflow that this activity works for. */
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

/** The thing, or a failure that names it. */
export async function mustHave<T>(found: Promise<T | undefined>, what: string): Promise<T> {
  const thing = await found;
  if (thing === undefined) throw failure('NotFound', `there is no ${what}`);
  return thing;
}
