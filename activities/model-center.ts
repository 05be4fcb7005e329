// The Model Center's record (paper 4.3): every transition, decision and refusal, in the audit and beside the artifact.
import type { CommandBody, SignedCommand } from '../workflows/domain/command.ts';
import { labelled } from '../workflows/domain/labels.ts';
import type { Delivery, Evaluation, Scan, Version } from '../workflows/domain/model.ts';
import type { VersionState } from '../workflows/domain/lifecycle.ts';
import type { Location } from '../workflows/domain/names.ts';
import { stagingFolder, subjectOf } from '../workflows/domain/names.ts';
import type { RefusedCommand } from '../workflows/messages.ts';
import { workflowId } from '../workflows/messages.ts';
import { failure } from './failures.ts';
import { currentWorkflow } from './heartbeat.ts';
import { storePath } from './place.ts';
import type { ArtifactStore } from './ports.ts';
import type { AuditEntry, Records } from './records.ts';

export type ModelCenterActivities = ReturnType<typeof createModelCenterActivities>;

export function createModelCenterActivities({ records, areas }: { records: Records; areas: ArtifactStore }) {
  /** Writes one JSON file beside an artifact; the same content again is fine. */
  async function beside(location: Location, content: unknown, ifExists: 'same' | 'replace' = 'same'): Promise<void> {
    await areas.write(storePath(location), once(Buffer.from(JSON.stringify(content, null, 1))), { ifExists });
  }
  const besideVersion = (
    { project, model, submission }: Pick<Version, 'project' | 'model' | 'submission'>,
    file: string,
    content: unknown,
    ifExists?: 'replace',
  ) =>
    beside(
      { area: 'staging', project, path: `${stagingFolder(model, submission)}/record/${file}.json` },
      content,
      ifExists,
    );

  return {
    /** Writes a transition down: a file beside the artifact, the audit row, the version as it now stands. Only then is it true. */
    async recordTransition(input: {
      version: Version;
      from: VersionState;
      command: SignedCommand | null;
      signed: boolean;
    }): Promise<void> {
      const { version, from, command, signed } = input;
      const key = `${currentWorkflow()}/${version.revision}`;
      await besideVersion(version, String(version.revision).padStart(6, '0'), { version, from, command });
      const entry = {
        key,
        project: version.project,
        kind: command ? `version.${command.body.name}` : 'version.state',
        actor: command ? (signed ? command.body.actor : 'operator') : 'platform',
        subject: subjectOf(version),
        digest: version.digest,
        report: command?.body.report ?? null,
        reason: command?.body.args.reason ?? version.detail,
        detail: { from, to: version.state, revision: version.revision, version: version.version, command },
        at: version.updatedAt,
      };
      await records.record([entry], [{ kind: 'version', row: version }]);
    },

    /** A command that was accepted and could not be carried out: the state is as it was. */
    async recordFailedCommand(input: {
      project: string;
      subject: string;
      command: SignedCommand;
      signed: boolean;
      reason: string;
      message: string;
    }): Promise<void> {
      await records.record([failed(input)], []);
    },

    async recordFailedRevert(input: {
      application: string;
      type: string;
      body: CommandBody;
      reason: string;
      message: string;
    }): Promise<void> {
      const { application, type, body, reason, message } = input;
      const project = (await records.application(application))?.project ?? null;
      const subject = `${application}/${type}`;
      await records.record([failed({ project, subject, command: { body }, signed: true, reason, message })], []);
    },

    /** Refused commands, in batches; of a flood only the first are kept one by one. */
    async recordRefusals(input: {
      project: string | null;
      subject: string;
      refused: readonly RefusedCommand[];
      dropped: number;
      batch: number;
    }): Promise<void> {
      const { project, subject, refused, dropped, batch } = input;
      const entry = (
        i: number,
        actor: string,
        reason: string,
        detail: AuditEntry['detail'],
        at: string,
      ): AuditEntry => ({
        key: `${currentWorkflow()}/refused/${batch}/${i}`,
        project,
        kind: 'command.refused',
        actor,
        subject,
        digest: null,
        report: null,
        reason,
        detail,
        at,
      });
      const entries = refused.map((one, i) =>
        entry(i, one.signed ? one.actor : 'unproven', one.message, { ...one }, one.at),
      );
      if (dropped > 0)
        entries.push(
          entry(
            refused.length,
            'unproven',
            `${dropped} more refused commands`,
            { dropped },
            refused.at(-1)?.at ?? new Date().toISOString(),
          ),
        );
      await records.record(entries, []);
    },

    /** The end of a lifecycle: its bytes may be submitted again. */
    async closeVersion({ version }: { version: Version }): Promise<void> {
      await records.freeDigest(version.project, version.model, version.submission);
    },

    /** An evaluation's end, enclosed with the version it is about. */
    async recordEvaluation({ evaluation }: { evaluation: Evaluation }): Promise<void> {
      const { project, model, submission } = evaluation;
      const id = evaluation.evaluation;
      if (submission) await besideVersion({ project, model, submission }, `evaluation-${id}`, evaluation);
      const { dataset, passed, metrics, detail } = evaluation;
      const entry = {
        key: `${currentWorkflow()}/${evaluation.state}`,
        project,
        kind: `evaluation.${evaluation.state}`,
        actor: evaluation.actor,
        subject: `${project}/${model}/${submission ?? 'private'}`,
        digest: evaluation.digest,
        report: evaluation.report?.sha256 ?? null,
        // Managers read the audit: a private test's figures, and what it was made of, are its actor's alone.
        reason: submission === null ? '' : detail,
        detail: submission === null ? { evaluation: id } : { evaluation: id, dataset, passed, metrics },
        at: evaluation.updatedAt,
      };
      await records.record([entry], [{ kind: 'evaluation', row: evaluation }]);
    },

    /** How far a delivery has come, with the evidence of its gates. */
    async recordDelivery({ delivery }: { delivery: Delivery }): Promise<void> {
      const release = await mustHave(records.release(delivery.release), `release ${delivery.release}`);
      const step = `${delivery.state}-${delivery.gates.length}`;
      await besideVersion(release, `delivery-${delivery.application}-${delivery.release}-${step}`, delivery, 'replace');
      const entry = {
        key: `delivery/${delivery.application}/${delivery.release}/${step}`,
        project: release.project,
        kind: `delivery.${delivery.state}`,
        actor: delivery.application,
        subject: subjectOf(release),
        digest: release.digest,
        report: null,
        reason: delivery.detail,
        detail: { release: release.release, gates: delivery.gates },
        at: delivery.updatedAt,
      };
      await records.record([entry], [{ kind: 'delivery', row: delivery }]);
    },

    /** From here on applications take the release. `wake`: who must look, since its event may have come before this. */
    async recordAnnounced({ release }: { release: string }): Promise<{ wake: readonly string[] }> {
      await records.announced(release);
      const { type } = await mustHave(records.release(release), `release ${release}`);
      const applications = await records.applications({ type });
      return { wake: applications.map(({ application }) => workflowId.application({ application, type })) };
    },

    /** Labels as the engineer gave them: from here on the scan is at `revision`. */
    async recordLabels(input: {
      project: string;
      scan: string;
      command: SignedCommand;
      at: string;
      commit: string;
      revision: number;
    }): Promise<void> {
      const { project, command, at, commit, revision } = input;
      const { body } = command;
      const before = await mustHave(records.scan(project, input.scan), `scan ${input.scan} of project ${project}`);
      // It was written, and only its answer was lost.
      if (before.revision >= revision) return;
      const findings = labelled(before, body, at);
      const state = findings.every(({ label }) => label) ? 'labelled' : 'open';
      const scan: Scan = { ...before, findings, commit, state, revision, updatedAt: at };
      const entry = {
        key: `${currentWorkflow()}/${body.commandId}`,
        project: scan.project,
        kind: `finding.${body.name}`,
        actor: body.actor,
        subject: `${scan.project}/scans/${scan.scan}`,
        digest: null,
        report: null,
        reason: body.args.reason ?? '',
        detail: { findings: body.args.findings, commit, command },
        at,
      };
      await beside(
        {
          area: 'staging',
          project: scan.project,
          path: `scans/${scan.scan}/${String(scan.revision).padStart(6, '0')}.json`,
        },
        { scan, command },
      );
      await records.record([entry], [{ kind: 'scan', row: scan }]);
    },
  };
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

function failed(input: {
  project: string | null;
  subject: string;
  command: { readonly body: CommandBody };
  signed: boolean;
  reason: string;
  message: string;
}): AuditEntry {
  const { project, subject, command, signed, reason, message } = input;
  const { body } = command;
  return {
    // The same id may have been chosen for commands to other workflows, too.
    key: `${currentWorkflow()}/${body.commandId}/failed`,
    project,
    kind: 'command.failed',
    // A name that nobody has proven is not written down as who it was.
    actor: signed ? body.actor : 'operator',
    subject,
    digest: body.digest,
    report: body.report,
    reason: message,
    detail: { name: body.name, reason, command },
    at: new Date().toISOString(),
  };
}
