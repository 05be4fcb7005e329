// Faults to plant in a Records where it corrects what people gave: each must make the case named with it fail.
import { isFailure } from '../../../activities/failures.ts';
import type { Records } from '../../../activities/records.ts';

export interface RecordsFault {
  readonly fault: string;
  /** The case that must see it. */
  readonly seenBy: string;
  readonly plant: (records: Records) => Partial<Records>;
}

export const correctionFaults: readonly RecordsFault[] = [
  {
    fault: 'a disabled user is shown as disabled, and their token opens',
    seenBy: 'a disabled user opens nothing and is shown as disabled, until they are enabled again',
    plant: (records) => {
      const remembered = new Map<string, Awaited<ReturnType<Records['principalIn']>>>();
      return {
        async issueToken(token, audit) {
          await records.issueToken(token, audit);
          remembered.set(token.sha256, await records.principalIn(token.sha256, 'any'));
        },
        principalIn: async (sha256) => remembered.get(sha256),
      };
    },
  },
  {
    fault: 'what is not given of a change of a user becomes false',
    seenBy: 'an administrator is made and unmade, and what is not given stays',
    plant: (records) => ({
      changeUser: (user, { admin = false, disabled = false }, audit) =>
        records.changeUser(user, { admin, disabled }, audit),
    }),
  },
  {
    fault: 'revoked tokens of jobs are listed too',
    seenBy: 'a token is found by its id, and the jobs’ tokens that still work are listed by page',
    plant: () => ({ revokeToken: async () => undefined }),
  },
  {
    fault: 'a project has any number of types',
    seenBy: 'a project gets more types, each once, none of another project’s, and no more than it may have',
    plant: (records) => ({
      addTypes: (project, types, audit) =>
        records.addTypes(project, types, audit).catch((error: unknown) => {
          if (!isFailure(error, 'InvalidInput')) throw error;
        }),
    }),
  },
  {
    fault: 'a grant that was taken back still counts',
    seenBy: 'a type is consumed by its own project and, while granted, by another',
    plant: (records) => ({
      setTypeGrant: (grant, audit) => records.setTypeGrant({ ...grant, granted: true }, audit),
    }),
  },
  {
    fault: 'the last change of an application wins, whatever it was made from',
    seenBy: 'an application changes from the revision that was seen, once',
    plant: (records) => ({
      async changeApplication(application, audit) {
        const revision = ((await records.application(application.application))?.revision ?? 0) + 1;
        await records.changeApplication({ ...application, revision }, audit);
      },
    }),
  },
  {
    fault: 'a removed type is removed from the list only',
    seenBy: 'a type that is live is not removed; a removed one takes no release and keeps its history',
    plant: (records) => ({
      async changeApplication(application, audit) {
        const stored = await records.application(application.application);
        const types = [...new Set([...(stored?.types ?? []), ...application.types])];
        await records.changeApplication({ ...application, types }, audit);
      },
    }),
  },
  {
    fault: 'whatever an application was offered counts as having been live',
    seenBy: 'what was ever live is known, and nothing else',
    plant: (records) => ({ wasLive: async (_, __, release) => (await records.release(release)) !== undefined }),
  },
  {
    fault: 'every attempt to register a data set may go on',
    seenBy: 'of the attempts to register a data set the newest counts, and none begins while another one clears',
    plant: (records) => ({ registerDataSet: (dataset, audit) => records.registerDataSet(dataset, audit) }),
  },
  {
    fault: 'the name of a deleted data set is free again',
    seenBy: 'a deleted data set is gone, its name stays taken, and its files are swept once',
    plant: (records) => ({
      async draftDataSet(draft) {
        const answer = await records.draftDataSet(draft);
        return answer === 'deleted' ? 'taken' : answer;
      },
    }),
  },
  {
    fault: 'what names a data set is forgotten',
    seenBy: 'a data set that a run names is not deleted, and one that is deleted is not named',
    plant: () => ({ nameDataSets: async () => undefined }),
  },
  {
    fault: 'an evaluation keeps its data set only while it is open',
    seenBy: 'a data set is kept by an open evaluation and by one that a decision rests on, by no other',
    plant: (records) => ({
      record: (entries, projections) =>
        records.record(
          entries,
          projections.map((one) => (one.kind === 'version' ? { ...one, row: { ...one.row, decisions: [] } } : one)),
        ),
    }),
  },
  {
    fault: 'an import under way keeps nothing',
    seenBy: 'a data set is kept by a private test without naming it, and by an import under way',
    plant: () => ({ recordImport: async () => undefined }),
  },
];
