// Planted faults in corrections that people make later: each must make the case named with it fail.
import { isFailure } from '../../../activities/failures.ts';
import type { Records } from '../../../activities/records.ts';
import type { Import } from '../../../workflows/domain/import.ts';

export interface RecordsFault {
  readonly fault: string;
  /** The case that must detect it. */
  readonly seenBy: string;
  readonly plant: (records: Records) => Partial<Records>;
}

export const correctionFaults: readonly RecordsFault[] = [
  {
    fault: 'a disabled user is shown as disabled, but their token is still accepted',
    seenBy: 'a disabled user’s tokens are refused and the user is shown as disabled, until enabled again',
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
    fault: 'omitted fields of a user change become false',
    seenBy: 'a user becomes an administrator and stops being one; omitted fields stay unchanged',
    plant: (records) => ({
      changeUser: (user, { admin = false, disabled = false }, audit) =>
        records.changeUser(user, { admin, disabled }, audit),
    }),
  },
  {
    fault: 'revoked job tokens are listed',
    seenBy: 'a token is found by its id, and valid job tokens are listed by page',
    plant: () => ({ revokeToken: async () => undefined }),
  },
  {
    fault: 'a project has any number of types',
    seenBy: 'a project gets further types, each once, none of another project’s, up to its limit',
    plant: (records) => ({
      addTypes: (project, types, audit) =>
        records.addTypes(project, types, audit).catch((error: unknown) => {
          if (!isFailure(error, 'InvalidInput')) throw error;
        }),
    }),
  },
  {
    fault: 'a revoked grant still counts',
    seenBy: 'a type is consumed by its own project and, while granted, by another one',
    plant: (records) => ({
      setTypeGrant: (grant, audit) => records.setTypeGrant({ ...grant, granted: true }, audit),
    }),
  },
  {
    fault: 'the last change of an application wins, whatever its base revision',
    seenBy: 'an application is changed from its current revision, once',
    plant: (records) => ({
      async changeApplication(application, audit) {
        const revision = ((await records.application(application.application))?.revision ?? 0) + 1;
        await records.changeApplication({ ...application, revision }, audit);
      },
    }),
  },
  {
    fault: 'a removed type is removed from the list only',
    seenBy: 'a live type cannot be removed; a removed one accepts no release and keeps its history',
    plant: (records) => ({
      async changeApplication(application, audit) {
        const stored = await records.application(application.application);
        const types = [...new Set([...(stored?.types ?? []), ...application.types])];
        await records.changeApplication({ ...application, types }, audit);
      },
    }),
  },
  {
    fault: 'the commit of labels is not kept',
    seenBy: 'the commit of labels is kept even if the clock of the process that decided them is ahead',
    plant: (records) => ({
      async scan(project, id) {
        const scan = await records.scan(project, id);
        return scan && { ...scan, commit: null };
      },
    }),
  },
  {
    fault: 'the last written row of an import counts',
    seenBy: 'a resolution stays when a repeated request writes the first row of its import late',
    plant: () => {
      const last = new Map<string, Import>();
      return {
        recordImport: async (row) => void last.set(row.import, row),
        import: async (_, name) => last.get(name),
      };
    },
  },
  {
    fault: 'a revoked grant stays',
    seenBy: 'a revert after the grant of its type was revoked moves nothing',
    plant: (records) => ({
      setTypeGrant: async (access, audit) => (access.granted ? records.setTypeGrant(access, audit) : undefined),
    }),
  },
  {
    fault: 'no type is without a start',
    seenBy: 'types of an application whose workflow has no recorded start are listed',
    plant: () => ({ unstartedTypes: async () => [] }),
  },
  {
    fault: 'decisions that wait to be carried out are not listed',
    seenBy: 'a decision that waits to be carried out is listed with the waiting commands, from a time of its own',
    plant: (records) => ({ openCommands: ({ pendingBefore: _, ...filter }) => records.openCommands(filter) }),
  },
  {
    fault: 'a removed type stays in the list while a command waits',
    seenBy: 'a revert recorded before its type was removed from the application moves nothing',
    plant: () => ({ changeApplication: async () => undefined }),
  },
  {
    fault: 'the later of two concurrent policies replaces the other without a word',
    seenBy: 'a version of a policy keeps its content: of concurrent changes one comes first',
    plant: (records) => ({
      setPolicy: (project, policy, audit) =>
        records.setPolicy(project, policy, audit).catch((error: unknown) => {
          if (!isFailure(error, 'Conflict')) throw error;
        }),
    }),
  },
  {
    fault: 'every release offered to an application counts as having been live',
    seenBy: 'returns every release that was ever live, and no other',
    plant: (records) => ({ wasLive: async (_, __, release) => (await records.release(release)) !== undefined }),
  },
  {
    fault: 'every attempt to register a data set may continue',
    seenBy: 'the newest attempt to register a data set wins, and none begins while another one cleans up',
    plant: (records) => ({ registerDataSet: (dataset, audit) => records.registerDataSet(dataset, audit) }),
  },
  {
    fault: 'the name of a deleted data set can be used again',
    seenBy: 'a deleted data set is gone, its name stays reserved, and its files are swept once',
    plant: (records) => ({
      async draftDataSet(draft) {
        const answer = await records.draftDataSet(draft);
        return answer === 'deleted' ? 'taken' : answer;
      },
    }),
  },
  {
    fault: 'references to a data set are lost',
    seenBy: 'a data set that a run uses cannot be deleted, and a deleted one cannot be used',
    plant: () => ({ nameDataSets: async () => undefined }),
  },
  {
    fault: 'an evaluation protects its data set only while it is open',
    seenBy: 'a data set is protected by an open evaluation and by one that a decision is based on, by no other',
    plant: (records) => ({
      record: (entries, projections) =>
        records.record(
          entries,
          projections.map((one) => (one.kind === 'version' ? { ...one, row: { ...one.row, decisions: [] } } : one)),
        ),
    }),
  },
  {
    fault: 'a running import does not protect its data set',
    seenBy: 'a data set is protected by a private test, which is not named, and by a running import',
    plant: () => ({ recordImport: async () => undefined }),
  },
];
