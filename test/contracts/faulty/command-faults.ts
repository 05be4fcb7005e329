// Faulty Records in what may run and which commands are taken: each with the case of the contract that must detect it.
import { isFailure } from '../../../activities/failures.ts';
import type { Records } from '../../../activities/records.ts';
import type { SignedCommand } from '../../../workflows/domain/command.ts';

export interface RecordsFault {
  readonly fault: string;
  /** The case that must detect it. */
  readonly seenBy: string;
  readonly plant: (records: Records) => Partial<Records>;
}

/** Does the work, and treats a failure of this type as success. */
const despite =
  <T>(type: Parameters<typeof isFailure>[1], instead: T) =>
  (error: unknown): T => {
    if (!isFailure(error, type)) throw error;
    return instead;
  };

export const commandFaults: readonly RecordsFault[] = [
  {
    fault: 'a different input under the id of a start is accepted',
    seenBy: 'a start is recorded once, and a different one under its id is a conflict',
    plant: (records) => ({
      recordStart: (...args) => records.recordStart(...args).catch(despite('Conflict', undefined)),
    }),
  },
  {
    fault: 'a run is admitted by its id only',
    seenBy: 'a run is admitted only by its recorded id, type and input',
    plant: (records) => ({
      async admit(run) {
        const start = await records.start(run.workflowId);
        return start ? 'admitted' : 'unknown';
      },
    }),
  },
  {
    fault: 'a start is never closed',
    seenBy: 'once a start is closed, only the run that closed it may clean up, and open commands are refused',
    plant: () => ({ closeStart: async () => undefined }),
  },
  {
    fault: 'a page of starts repeats the last entry of the page before',
    seenBy: 'open root workflows are listed oldest first, by page, without children and closed ones',
    plant: (records) => ({
      openStarts: ({ after, ...page }) =>
        records.openStarts({ ...page, ...(after !== undefined && { after: String(Number(after) - 1) }) }),
    }),
  },
  {
    fault: 'a restart is counted each time it is reported',
    seenBy: 'restarts are counted, each once, until the workflow makes progress',
    plant: (records) => ({
      async restarted(id, at) {
        // A different time means another restart.
        if (at !== null) await records.restarted(id, new Date(Math.random() * 1e12).toISOString());
        await records.restarted(id, at);
      },
    }),
  },
  {
    fault: 'exclusive work runs concurrently',
    seenBy: 'exclusive work runs one at a time, and can run again afterwards',
    plant: () => ({ exclusively: (_, work) => work(new AbortController().signal) }),
  },
  {
    fault: 'the clock is the process’s own',
    seenBy: 'the clock is the source of recorded times',
    plant: () => ({ clock: async () => new Date(Date.now() + 3_600_000).toISOString() }),
  },
  {
    fault: 'a job token stays valid after its workflow',
    seenBy: 'job tokens are revoked when their workflow closes, with one audit row',
    plant: () => ({ closeStart: async () => undefined }),
  },
  {
    fault: 'a signing key can be replaced',
    seenBy: 'a signing key is registered once and keeps its value',
    plant: () => {
      const newest: Record<string, string> = {};
      return { registerKeys: async (keys) => Object.keys(Object.assign(newest, keys)), keys: async () => newest };
    },
  },
  ...[
    'a command is recorded once; its id is taken for any other content or person',
    'if two people use one command id concurrently, one is recorded',
  ].map((seenBy) => ({
    fault: `the first command of an id answers for every other (${seenBy.slice(0, 12)})`,
    seenBy,
    plant: (records: Records): Partial<Records> => ({
      async recordCommand(command, about) {
        const made = await records.recordCommand(command, about).catch(despite('Conflict', undefined));
        const row = made ?? (await records.command(command.body.workflowId, command.body.commandId));
        if (!row) throw new Error('there is no such command');
        return row;
      },
    }),
  })),
  {
    fault: 'a forged command is recorded',
    seenBy: 'a command not signed by a registered key is not recorded',
    plant: (records) => ({
      recordCommand: (command, about) => {
        const { commandId, actor } = command.body;
        const row = { commandId, actor, isOpen: true, outcome: { status: 'accepted' } } as const;
        return records.recordCommand(command, about).catch(despite('NotAuthorized', row));
      },
    }),
  },
  {
    fault: 'an impossible command is accepted at first',
    seenBy: 'an impossible command is refused when it is recorded, once, with an audit row',
    plant: (records) => ({
      async recordCommand(command, about) {
        const row = await records.recordCommand(command, about);
        return { ...row, isOpen: true, outcome: { status: 'accepted' } };
      },
    }),
  },
  {
    fault: 'a command is never decided',
    seenBy: 'waiting commands are listed until they are decided, oldest first',
    plant: (records) => {
      const all: SignedCommand[] = [];
      return {
        async recordCommand(command, about) {
          all.push(command);
          return records.recordCommand(command, about);
        },
        openCommands: async ({ before }) => (before > '2027' ? all : []),
      };
    },
  },
  {
    fault: 'a command that arrives as its workflow closes gets no answer',
    seenBy: 'no command stays open after its workflow closes',
    plant: (records) => ({
      async command(...args) {
        const row = await records.command(...args);
        const isLate = row?.outcome.status === 'refused' && row.outcome.reason === 'closed';
        return row && (isLate ? { ...row, isOpen: true, outcome: { status: 'accepted' } } : row);
      },
    }),
  },
];
