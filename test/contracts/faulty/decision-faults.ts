// Faulty Records in what they decide: each with the case of the contract that must see it.
import type { Evaluation, NamedArtifact, RunRecord } from '../../../workflows/domain/model.ts';
import type { RecordsFault } from './command-faults.ts';

export const decisionFaults: readonly RecordsFault[] = [
  {
    fault: 'what is judged is staged again',
    seenBy: 'a submission becomes new by its recorded facts, each step once',
    plant: () => {
      const newest = new Map<string, readonly NamedArtifact[]>();
      return {
        recordStaged: async ({ submission }, files) => void newest.set(submission, files),
        staged: async ({ submission }) => newest.get(submission),
      };
    },
  },
  {
    fault: 'what is invalid is not closed',
    seenBy: 'what is not valid, or stands open with the same bytes, is invalid and closed',
    plant: (records) => ({
      advanceVersion: async (...args) => ({ ...(await records.advanceVersion(...args)), closed: false }),
    }),
  },
  {
    fault: 'the newest record of a run is the one that counts',
    seenBy: 'a training is followed by its record, and a failed one is tried again',
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
    fault: 'a decision that came too late is said to be done',
    seenBy: 'of two decisions at once upon one revision one is made, the other is stale',
    plant: (records) => ({
      async command(...args) {
        const row = await records.command(...args);
        const isStale = row?.outcome.status === 'refused' && row.outcome.reason === 'stale';
        return row && (isStale ? { ...row, outcome: { status: 'done', message: '' } } : row);
      },
    }),
  },
  {
    fault: 'a membership changes later than it is told',
    seenBy: 'a person who is no manager any more decides nothing, also when both come at once',
    plant: (records) => {
      const known = new Set<string>();
      return {
        async setMember(project, member, audit) {
          // The first roles are there at once.
          if (known.has(member.user)) return;
          known.add(member.user);
          await records.setMember(project, member, audit);
        },
      };
    },
  },
  {
    fault: 'a doubt from outside is not heard',
    seenBy: 'a doubt from outside fails the command and leaves the version',
    plant: (records) => ({ decideVersion: (id, command, { place }) => records.decideVersion(id, command, { place }) }),
  },
  {
    fault: 'a release is complete before it is announced',
    seenBy: 'a release is pending until it is announced, and nothing else is decided meanwhile',
    plant: (records) => ({
      async completeDecision(id, commandId) {
        const release = (await records.decision(id, commandId))?.detail.release;
        if (release !== undefined) await records.announced(release);
        return records.completeDecision(id, commandId);
      },
    }),
  },
  {
    fault: 'a release that failed is not fenced',
    seenBy: 'a release that fails is fenced, unless it got out, and the version is as it was',
    plant: () => ({ fenced: async () => false }),
  },
  {
    fault: 'what is live is fenced all the same',
    seenBy: 'what is live somewhere is not let go, and what is let go never goes live',
    plant: () => ({ fenced: async () => true }),
  },
  {
    fault: 'whom to wake is said once',
    seenBy: 'whom to wake is said again to whoever did not hear of the decision',
    plant: (records) => ({
      async decideVersion(id, command, more) {
        const row = await records.command(id, command.body.commandId);
        const decided = await records.decideVersion(id, command, more);
        return row?.isOpen ? decided : { ...decided, wake: [] };
      },
    }),
  },
  {
    fault: 'a list does not say what was taken back',
    seenBy: 'what is live somewhere is not let go, and what is let go never goes live',
    plant: (records) => ({
      releases: async (filter) => (await records.releases(filter)).map((row) => ({ ...row, withdrawn: null })),
    }),
  },
  {
    fault: 'files are taken for returned',
    seenBy: 'files that go back to a scientist are noted before their decision is complete',
    plant: (records) => ({
      async completeDecision(id, commandId) {
        await records.noteReturned(id, commandId, 'returned/rf-1');
        return records.completeDecision(id, commandId);
      },
    }),
  },
  {
    fault: 'the policy of now says until when a rejection can be undone',
    seenBy: 'until when a rejection can be undone is fixed with it',
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
    fault: 'a report is evidence wherever it lies',
    seenBy: 'an approval rests on an evaluation of these bytes that a manager asked for after the submission',
    plant: (records) => ({ endEvaluation: (row) => records.endEvaluation(row, { inStaging: true }) }),
  },
  {
    fault: 'everybody asks for evaluations as a manager',
    seenBy: 'an approval rests on an evaluation of these bytes that a manager asked for after the submission',
    plant: (records) => ({
      recordStart: (start, ...rest) =>
        records.recordStart(start.type === 'evaluation' ? { ...start, roles: ['manager'] } : start, ...rest),
    }),
  },
  {
    fault: 'a report is of whichever version',
    seenBy: 'a report that another command names is one of this version',
    plant: (records) => ({
      endEvaluation: (row, more) => records.endEvaluation({ ...row, submission: 'rf-1' }, more),
    }),
  },
  {
    fault: 'the newest end of an evaluation is the one that counts',
    seenBy: 'the first end of an evaluation stands, and it is evidence by who asked and when',
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
    fault: 'an approval counts for ever',
    seenBy: 'approvals lapse with the manager and with the policy, and a complete one stays',
    plant: (records) => ({
      async versionStanding(key) {
        const standing = await records.versionStanding(key);
        const counting = [...new Set(standing.approvals.map(({ actor }) => actor))];
        return { ...standing, counting, lapsed: [] };
      },
    }),
  },
  {
    fault: 'a policy comes into force later than it is told',
    seenBy: 'a policy that changes at once with the last approval is before or after it',
    plant: () => ({ setPolicy: async () => undefined }),
  },
  {
    fault: 'who set a policy is not kept',
    seenBy: 'nobody lowers the bar for their own version',
    plant: (records) => ({
      setPolicy: (project, policy, audit) => records.setPolicy(project, policy, { ...audit, actor: 'somebody' }),
    }),
  },
  {
    fault: 'the newest release is delivered, whatever was',
    seenBy: 'the next delivery is the oldest announced release after where the application began',
    plant: (records) => ({
      async openDelivery(id) {
        await records.openDelivery(id);
        const type = id.slice(id.lastIndexOf('/') + 1);
        return { release: (await records.releases({ type })).at(-1) ?? null };
      },
    }),
  },
  {
    fault: 'every result of a gate is a pass',
    seenBy: 'a release goes live only when every gate that is configured has passed it',
    plant: (records) => ({ recordGate: (of, result) => records.recordGate(of, { ...result, passed: true }) }),
  },
  {
    fault: 'why a delivery came to nothing is not kept',
    seenBy: 'a delivery ends with its reason: a failed gate, what it was told, gates that were not run',
    plant: (records) => ({ concludeDelivery: (of) => records.concludeDelivery(of) }),
  },
  {
    fault: 'an older version goes live like a revert',
    seenBy: 'an older version of a model never goes live over a newer one but by a revert',
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
    fault: 'whom a move of the pointer touched is said once',
    seenBy:
      'a pointer is moved back or emptied by one decision, with its deliveries, and then nothing else is under way',
    plant: (records) => ({
      async decidePointer(id, command, doubt) {
        const row = await records.command(id, command.body.commandId);
        const decided = await records.decidePointer(id, command, doubt);
        return row?.isOpen ? decided : { ...decided, wake: [] };
      },
    }),
  },
  {
    fault: 'a doubt about a revert is not heard',
    seenBy: 'a revert goes to what was live there, and of many at once one is made',
    plant: (records) => ({ decidePointer: (id, command) => records.decidePointer(id, command) }),
  },
  {
    fault: 'the newest commit of labels is the one that counts',
    seenBy: 'labels are decided by one transaction, then committed, one command after the other',
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
    fault: 'a look at the decisions finds nothing',
    seenBy: 'every decision is signed, and approvals, releases and moves of the live pointer have theirs',
    plant: (records) => ({ verifyDecisions: async () => ({ ...(await records.verifyDecisions()), problems: [] }) }),
  },
];
