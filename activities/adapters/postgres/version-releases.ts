// The releases of a version in its decisions: allotted by a release, withdrawn by the decisions that end it.
import { failure } from '../../failures.ts';
import type { CommandBody } from '../../../workflows/domain/command.ts';
import { workflowId as ids } from '../../../workflows/domain/ids.ts';
import type { NamedArtifact, Release, Version } from '../../../workflows/domain/model.ts';
import { subjectOf } from '../../../workflows/domain/names.ts';
import type { Taken } from './commands.ts';
import type { Work } from './connection.ts';
import { allot, fence, releasesOfVersion } from './releases.ts';
import type { VersionNow } from './standings.ts';
import { closeStart } from './starts.ts';

/** Where each file of a release is in the release store. */
export type Place = (type: string, file: NamedArtifact) => NamedArtifact;

/** Whether the command withdraws the version's releases, so that no application may use them afterwards. */
export const withdrawsReleases = (name: string): boolean => ['reject', 'rollback', 'reassign', 'retire'].includes(name);

/** Allots the number of the version's next release. */
export async function allotFor(trx: Work, now: VersionNow, { body }: Taken, place: Place): Promise<Release> {
  const { version } = now;
  const { project, model, submission, type, digest, files, decisions } = version;
  if (!digest || version.version === null)
    throw failure('Corrupt', `version ${model}/${submission} has no digest or number`);
  return allot(trx, body.commandId, {
    ...{ type, project, model, submission, version: version.version, digest },
    files: files.map((file) => place(type, file)),
    report: decisions.findLast(({ name }) => name === 'approve')?.report ?? null,
    // A completed approval stays valid despite later changes.
    approvedBy: approversOf(version),
    releasedBy: body.actor,
    releasedAt: now.at,
  });
}

/** The people whose approvals the state `approved` is based on: those since the last undo. */
function approversOf({ decisions }: Version): readonly string[] {
  const since = decisions.findLastIndex(({ name }) => name === 'undo');
  return [...new Set(decisions.slice(since + 1).flatMap(({ name, actor }) => (name === 'approve' ? [actor] : [])))];
}

/** A failed release command may have been allotted a number before decisions were recorded. Fences that release. */
export async function keepIn(trx: Work, now: VersionNow, { name, commandId }: CommandBody): Promise<void> {
  if (name !== 'release') return;
  const found = await trx
    .selectFrom('authoritative.releases')
    .select('release')
    .where('project', '=', now.version.project)
    .where('model', '=', now.version.model)
    .where('submission', '=', now.version.submission)
    .where('command_id', '=', commandId)
    .executeTakeFirst();
  if (!found) return;
  await fence(trx, [found.release], commandId);
  await closeStart(trx, ids.release(found), 'its command was refused');
}

/** Fences every release of the version. Refuses if one is live somewhere. */
export async function withdrawReleases(
  trx: Work,
  now: VersionNow,
  body: CommandBody,
): Promise<{ releases: readonly string[]; wake: readonly string[] }> {
  const rows = await releasesOfVersion(trx, now.version);
  if (rows.length === 0) return { releases: [], wake: [] };
  const names = rows.map(({ release }) => release);
  const { live } = await fence(trx, [...names].sort(), body.commandId);
  if (live.length > 0)
    throw failure(
      'Conflict',
      `${subjectOf(now.version)} is live in ${live.join(', ')}: revert or take it down there first, then ${body.name}`,
    );
  return { releases: names, wake: await consumersOf(trx, now) };
}

/** The workflows of all applications that consume the version's type. */
export async function consumersOf(trx: Work, { version: { type } }: VersionNow): Promise<readonly string[]> {
  const applications = await trx
    .selectFrom('authoritative.live_pointers')
    .select('application')
    .where('type', '=', type)
    .orderBy('application')
    .execute();
  return applications.map(({ application }) => ids.application({ application, type }));
}
