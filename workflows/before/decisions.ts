// The effects of each lifecycle command besides the state change, before Records decided.
import { ApplicationFailure, executeChild, getExternalWorkflowHandle } from '@temporalio/workflow';
import type { EarlierCalls } from '../../activities/earlier.ts';
import type { GoingOver } from './going-over.ts';
import type { CommandBody, LifecycleCommand } from '../domain/command.ts';
import type { Policy, Version } from '../domain/model.ts';
import { wake, workflowId } from '../messages.ts';
import { release } from '../release.ts';

/** Changes of the version by a decision, besides its state. */
export interface Change {
  readonly set?: Partial<Version>;
  readonly approvals?: readonly string[];
  readonly message?: string;
}

interface Given {
  readonly version: Version;
  readonly body: CommandBody;
  readonly policy: Policy;
  readonly approvals: readonly string[];
}

const of = ({ project, model, submission }: Version) => ({ project, model, submission });

/** The effects by command. A failure thrown here fails the command; the state does not change. */
export const decisionsBefore = (
  launcher: EarlierCalls,
  over: GoingOver,
): Record<LifecycleCommand, (given: Given) => Promise<Change>> => ({
  retry: async () => ({ set: { detail: '' } }),
  submit: async () => ({}),
  withdraw: async ({ body }) => ({ set: { detail: body.args.reason ?? '' } }),

  async approve({ version, body, policy, approvals }) {
    await launcher.checkEvidence({
      ...of(version),
      digest: body.digest ?? '',
      report: body.report ?? '',
      thresholds: policy.thresholds,
    });
    const voters = [...approvals, body.actor];
    return { approvals: voters, message: `approval ${voters.length} of ${policy.quorum}`, set: { detail: '' } };
  },

  async reject({ version, body }) {
    await withdrawReleases(launcher, version, body);
    return { set: { detail: body.args.reason ?? '' } };
  },

  // Copy the bytes first: a failed copy does no harm, but a withdrawn release cannot be restored.
  async rollback({ version, body }) {
    const { folder } = await launcher.returnToPrivate({ ...of(version), to: version.author, report: body.report });
    await withdrawReleases(launcher, version, body);
    return { set: { detail: body.args.reason ?? '' }, message: `returned to ${version.author} in ${folder}` };
  },

  undo: async () => ({ approvals: [], set: { detail: '' } }),

  async release({ version, body, approvals }) {
    const allotted = await launcher.allotRelease({
      ...of(version),
      commandId: body.commandId,
      releasedBy: body.actor,
      approvedBy: approvals,
    });
    await over.awaiting(() =>
      executeChild(release, {
        workflowId: workflowId.release(allotted),
        args: [{ ...of(version), release: allotted.release }],
        staticSummary: `release ${version.model} version ${version.version} as ${allotted.release}`,
      }),
    );
    return {
      message: `released as ${allotted.release}`,
      approvals,
      set: { detail: `released as ${allotted.release}` },
    };
  },

  async reassign({ version, body }) {
    const { folder } = await launcher.returnToPrivate({ ...of(version), to: body.args.to ?? '', report: body.report });
    await withdrawReleases(launcher, version, body);
    return {
      set: { detail: `reassigned to ${body.args.to}: ${body.args.reason ?? ''}` },
      message: `in ${folder} of ${body.args.to}`,
    };
  },

  async retire({ version, body }) {
    await withdrawReleases(launcher, version, body);
    return { set: { detail: body.args.reason ?? '' } };
  },

  tag: async ({ body, approvals }) => ({ set: { tags: [...new Set(body.args.tags ?? [])].sort() }, approvals }),
});

/** Stops all deliveries of this version; fails if the version is live in an application. */
async function withdrawReleases(launcher: EarlierCalls, version: Version, body: CommandBody): Promise<void> {
  const { live, wake: sleepers } = await launcher.fenceReleases({ ...of(version), commandId: body.commandId });
  if (live.length > 0)
    throw ApplicationFailure.nonRetryable(
      `${version.model}/${version.submission} is live in ${live.join(', ')}: revert it there first, then ${body.name}`,
      'Conflict',
    );
  // An application that is receiving a release of the version stops that delivery; closed workflows are ignored.
  for (const id of sleepers)
    await getExternalWorkflowHandle(id)
      .signal(wake)
      .catch(() => undefined);
}
