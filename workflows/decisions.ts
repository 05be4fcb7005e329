// The effects of a decision outside the database: files, releases, events. Each step is keyed by the decision and idempotent.
import { center, launcher } from './activities.ts';
import { runChild } from './children.ts';
import type { Pending, VersionStanding } from './domain/standing.ts';
import { explain } from './explain.ts';
import { workflowId } from './messages.ts';
import { release } from './release.ts';

/** Carries out the effects of a pending decision, then completes it; returns the version's standing afterwards. */
export async function carryOutEffects(pending: Pending, { version }: VersionStanding): Promise<VersionStanding> {
  const { commandId, name } = pending;
  const { project, model, submission, type } = version;
  try {
    if (name === 'release' && pending.release !== null)
      await runChild(release, {
        workflowId: workflowId.release({ release: pending.release }),
        args: [{ project, model, submission, release: pending.release }],
        staticSummary: `release ${model} version ${version.version} as ${pending.release}`,
        attributes: { Project: project, Model: model, ModelType: type, State: 'publishing' },
      });
    if (name === 'rollback' || name === 'reassign') await launcher.returnToPrivate({ commandId });
    if (name !== 'release') await launcher.announceWithdrawal({ commandId });
    return await center.completeDecision({ commandId });
  } catch (error) {
    const { type: reason, message } = explain(error);
    return center.failDecision({ commandId, reason, message });
  }
}
