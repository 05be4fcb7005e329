// Faulty Records in what they decide: each with the case of the contract that must detect it.
import type { Evaluation, NamedArtifact, RunRecord } from '../../../workflows/domain/model.ts';
import type { RecordsFault } from './command-faults.ts';

export const decisionFaults: readonly RecordsFault[] = [
  {
    fault: 'a validated version is staged again',
    seenBy: 'a submission becomes new by its recorded facts, each step once',
    plant: () => {
      const newest = new Map<string, readonly NamedArtifact[]>();
      return {
        recordStaged: async ({ submission }, files) => void newest.set(submission, files),
        staged: async ({ submission }) => ({ files: newest.get(submission) ?? [], isJudged: false }),
      };
    },
  },
  {
    fault: 'an invalid version is not closed',
    seenBy: 'a submission that is not valid, or has the bytes of an open version, becomes invalid and is closed',
    plant: (records) => ({
      advanceVersion: async (...args) => ({ ...(await records.advanceVersion(...args)), closed: false }),
    }),
  },
  {
    fault: 'the newest record of a run always wins',
    seenBy: 'a training run follows its record, and a failed one is retried',
    plant: (records) => {
      const newest = new Map<number, RunRecord>();
      return {
        async recordRun(key, attempt, run) {
          newest.set(attempt, run);
          await records.recordRun(key, attempt, run);
        },
        run: async (_, attempt) => newest.get(attempt),
      };
    },
  },
  {
    fault: 'a decision that came too late is reported as done',
    seenBy: 'of two concurrent decisions on one revision, one is made and the other is stale',
    plant: (records) => ({
      async command(...args) {
        const row = await records.command(...args);
        const isStale = row?.outcome.status === 'refused' && row.outcome.reason === 'stale';
        return row && (isStale ? { ...row, outcome: { status: 'done', message: '' } } : row);
      },
    }),
  },
  {
    fault: 'a membership change takes effect after its answer',
    seenBy: 'a person who is no longer a manager cannot decide, even if both happen concurrently',
    plant: (records) => {
      const known = new Set<string>();
      return {
        async setMember(project, member, audit) {
          // The first roles take effect immediately.
          if (known.has(member.user)) return;
          known.add(member.user);
          await records.setMember(project, member, audit);
        },
      };
    },
  },
  {
    fault: 'an objection from outside is ignored',
    seenBy: 'an objection from outside fails the command and leaves the version unchanged',
    plant: (records) => ({ decideVersion: (id, command, { place }) => records.decideVersion(id, command, { place }) }),
  },
  {
    fault: 'a release is complete before it is announced',
    seenBy: 'a release is pending until it is announced, and no other decision is made in the meantime',
    plant: (records) => ({
      async completeDecision(id, commandId) {
        const release = (await records.decision(id, commandId))?.detail.release;
        if (release !== undefined) await records.announced(release);
        return records.completeDecision(id, commandId);
      },
    }),
  },
  {
    fault: 'a failed release is not fenced',
    seenBy: 'a failed release is fenced unless it was announced, and the version returns to its previous state',
    plant: () => ({ fenced: async () => false }),
  },
  {
    fault: 'a live release is fenced',
    seenBy: 'a live version keeps its releases, and a withdrawn release never goes live',
    plant: () => ({ fenced: async () => true }),
  },
  {
    fault: 'the workflows to wake are returned only once',
    seenBy: 'a repeated decision returns the workflows to wake again',
    plant: (records) => ({
      async decideVersion(id, command, more) {
        const row = await records.command(id, command.body.commandId);
        const decided = await records.decideVersion(id, command, more);
        return row?.isOpen ? decided : { ...decided, wake: [] };
      },
    }),
  },
  {
    fault: 'a list does not show withdrawn releases as withdrawn',
    seenBy: 'a live version keeps its releases, and a withdrawn release never goes live',
    plant: (records) => ({
      releases: async (filter) => (await records.releases(filter)).map((row) => ({ ...row, withdrawn: null })),
    }),
  },
  {
    fault: 'files count as returned before they are',
    seenBy: 'files returned to a scientist are recorded before the decision is complete',
    plant: (records) => ({
      async completeDecision(id, commandId) {
        await records.noteReturned(id, commandId, 'returned/rf-1');
        return records.completeDecision(id, commandId);
      },
    }),
  },
  {
    fault: 'the current policy changes the undo window of an earlier rejection',
    seenBy: 'the undo window of a rejection is fixed when it is made',
    plant: (records) => ({
      async versionStanding(key) {
        const standing = await records.versionStanding(key);
        const seconds = (await records.project(key.project))?.policy.undoWithinSeconds ?? 0;
        const undoUntil = standing.undoUntil && new Date(Date.now() + seconds * 1000).toISOString();
        return { ...standing, undoUntil };
      },
    }),
  },
  {
    fault: 'a report is evidence wherever it is stored',
    seenBy: 'an approval requires an evaluation of these bytes, requested by a manager after the submission',
    plant: (records) => ({ endEvaluation: (row) => records.endEvaluation(row, { inStaging: true }) }),
  },
  {
    fault: 'every evaluation counts as requested by a manager',
    seenBy: 'an approval requires an evaluation of these bytes, requested by a manager after the submission',
    plant: (records) => ({
      recordStart: (start, ...rest) =>
        records.recordStart(start.type === 'evaluation' ? { ...start, roles: ['manager'] } : start, ...rest),
    }),
  },
  {
    fault: 'a report counts for any version',
    seenBy: 'a report counts only for the version it evaluates',
    plant: (records) => ({
      endEvaluation: (row, more) => records.endEvaluation({ ...row, submission: 'rf-1' }, more),
    }),
  },
  {
    fault: 'the newest end of an evaluation always wins',
    seenBy: 'the first end of an evaluation wins; requester and time decide whether it is evidence',
    plant: (records) => {
      const newest = new Map<string, Evaluation>();
      return {
        async endEvaluation(row, more) {
          newest.set(row.evaluation, row);
          return records.endEvaluation(row, more);
        },
        evaluation: async (_, id) => newest.get(id),
      };
    },
  },
  {
    fault: 'an approval never lapses',
    seenBy: 'approvals lapse when the manager leaves or the policy changes; a complete approval stays valid',
    plant: (records) => ({
      async versionStanding(key) {
        const standing = await records.versionStanding(key);
        const counting = [...new Set(standing.approvals.map(({ actor }) => actor))];
        return { ...standing, counting, lapsed: [] };
      },
    }),
  },
  {
    fault: 'a policy takes effect after its answer',
    seenBy: 'a policy change concurrent with the last approval is applied before or after it',
    plant: () => ({ setPolicy: async () => undefined }),
  },
  {
    fault: 'the author of a policy is not stored',
    seenBy: 'a person cannot relax the policy for their own version',
    plant: (records) => ({
      setPolicy: (project, policy, audit) => records.setPolicy(project, policy, { ...audit, actor: 'somebody' }),
    }),
  },
  {
    fault: 'the newest release is delivered, whatever happened before',
    seenBy: 'the next delivery is the oldest announced release after the application’s start',
    plant: (records) => ({
      async openDelivery(id) {
        await records.openDelivery(id);
        const type = id.slice(id.lastIndexOf('/') + 1);
        return { release: (await records.releases({ type })).at(-1) ?? null };
      },
    }),
  },
  {
    fault: 'every gate result counts as passed',
    seenBy: 'a release goes live only after passing every configured gate',
    plant: (records) => ({ recordGate: (of, result) => records.recordGate(of, { ...result, passed: true }) }),
  },
  {
    fault: 'the reason for a failed delivery is not stored',
    seenBy: 'a delivery ends with its reason: a failed gate, a given reason, gates that did not run',
    plant: (records) => ({ concludeDelivery: (of) => records.concludeDelivery(of) }),
  },
  {
    fault: 'an older version goes live without a revert',
    seenBy: 'an older version of a model replaces a newer live one only by a revert',
    plant: (records) => ({
      async moveLivePointer(move, audit) {
        const first = await records.moveLivePointer(move, audit);
        if (first.moved || first.why !== 'older') return first;
        const key = `${move.key}-again`;
        return records.moveLivePointer({ ...move, key, revert: true }, { ...audit, key });
      },
    }),
  },
  {
    fault: 'a release that was skipped is delivered once nothing newer is live',
    seenBy: 'after a revert or a take-down no release below the highest live one is delivered',
    plant: (records) => ({
      async openDelivery(id) {
        const opened = await records.openDelivery(id);
        const [, application = '', type = ''] = id.split('/');
        const { release } = await records.livePointer(application, type);
        const after = release === null ? 0 : ((await records.release(release))?.sequence ?? 0);
        const known = (await records.deliveries({ application })).rows.map((row) => row.release);
        const skipped = await records.releases({ type, after, announced: true });
        return { ...opened, release: opened.release ?? skipped.find((row) => !known.includes(row.release)) ?? null };
      },
    }),
  },
  {
    fault: 'the oldest release is delivered first to an application that consumes its type again',
    seenBy: 'a type that an application consumes again continues with the newest release that stands',
    plant: (records) => ({
      async openDelivery(id) {
        const opened = await records.openDelivery(id);
        const [oldest] = await records.releases({ type: id.slice(id.lastIndexOf('/') + 1), announced: true });
        return { ...opened, release: opened.release && (oldest ?? null) };
      },
    }),
  },
  {
    fault: 'the applications affected by a move of the pointer are returned only once',
    seenBy: 'one decision moves the pointer back or empties it, with its deliveries, and leaves no other in progress',
    plant: (records) => ({
      async decidePointer(id, command, doubt) {
        const row = await records.command(id, command.body.commandId);
        const decided = await records.decidePointer(id, command, doubt);
        return row?.isOpen ? decided : { ...decided, wake: [] };
      },
    }),
  },
  {
    fault: 'an objection to a revert is ignored',
    seenBy: 'a revert goes to an earlier live release, and of many concurrent reverts one is made',
    plant: (records) => ({ decidePointer: (id, command) => records.decidePointer(id, command) }),
  },
  {
    fault: 'the newest commit of labels always wins',
    seenBy: 'labels are decided in one transaction, then committed, one command after another',
    plant: (records) => {
      const newest: { commit?: string } = {};
      return {
        async completeLabels(id, commandId, commit) {
          newest.commit = commit;
          return records.completeLabels(id, commandId, commit);
        },
        async scan(...args) {
          const scan = await records.scan(...args);
          return scan && { ...scan, commit: newest.commit ?? null };
        },
      };
    },
  },
  {
    fault: 'checking the decisions finds nothing',
    seenBy: 'every decision is signed, including approvals, releases and moves of the live pointer',
    plant: (records) => ({ verifyDecisions: async () => ({ ...(await records.verifyDecisions()), problems: [] }) }),
  },
];
