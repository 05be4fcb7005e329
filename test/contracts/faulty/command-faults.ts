// Faulty Records in what may run and which commands are taken: each with the case of the contract that must see it.
import { isFailure } from '../../../activities/failures.ts';
import type { Records } from '../../../activities/records.ts';
import type { SignedCommand } from '../../../workflows/domain/command.ts';

export interface RecordsFault {
  readonly fault: string;
  /** The case that must see it. */
  readonly seenBy: string;
  readonly plant: (records: Records) => Partial<Records>;
}

/** Does the work, and takes a failure of this type for success. */
const despite =
  <T>(type: Parameters<typeof isFailure>[1], instead: T) =>
  (error: unknown): T => {
    if (!isFailure(error, type)) throw error;
    return instead;
  };

export const commandFaults: readonly RecordsFault[] = [
  {
    fault: 'another input under the id of a start is taken',
    seenBy: 'a start is recorded once, and another one under its id is a conflict',
    plant: (records) => ({
      recordStart: (...args) => records.recordStart(...args).catch(despite('Conflict', undefined)),
    }),
  },
  {
    fault: 'a run is admitted by its id alone',
    seenBy: 'a run is admitted by its recorded id, type and input, and by these alone',
    plant: (records) => ({
      async admit(run) {
        const start = await records.start(run.workflowId);
        return start ? 'admitted' : 'unknown';
      },
    }),
  },
  {
    fault: 'a start is never closed',
    seenBy: 'once a start is closed only the run that closed it may tidy up, and open commands are refused',
    plant: () => ({ closeStart: async () => undefined }),
  },
  {
    fault: 'a page of starts begins where the last one ended',
    seenBy: 'open roots are listed oldest first, by page, without children and what is closed',
    plant: (records) => ({
      openStarts: ({ after, ...page }) =>
        records.openStarts({ ...page, ...(after !== undefined && { after: String(Number(after) - 1) }) }),
    }),
  },
  {
    fault: 'a restart is counted each time that it is told',
    seenBy: 'restarts are counted, each once, until it goes on',
    plant: (records) => ({
      async restarted(id, at) {
        // Another time is another restart.
        if (at !== null) await records.restarted(id, new Date(Math.random() * 1e12).toISOString());
        await records.restarted(id, at);
      },
    }),
  },
  {
    fault: 'exclusive work is done by everybody',
    seenBy: 'work that is exclusive is done by one at a time, and again when it is over',
    plant: () => ({ exclusively: (_, work) => work(new AbortController().signal) }),
  },
  {
    fault: 'the clock is that of the process',
    seenBy: 'the clock is the one that recorded times come from',
    plant: () => ({ clock: async () => new Date(Date.now() + 3_600_000).toISOString() }),
  },
  {
    fault: 'the token of a job outlives its workflow',
    seenBy: 'no token of a job outlives the start of its workflow, and the audit says so once',
    plant: () => ({ closeStart: async () => undefined }),
  },
  {
    fault: 'a signing key is replaced',
    seenBy: 'a signing key is registered once and keeps its value',
    plant: () => {
      const newest: Record<string, string> = {};
      return { registerKeys: async (keys) => void Object.assign(newest, keys), keys: async () => newest };
    },
  },
  ...[
    'a command is recorded once; its id stands for nothing else, and for nobody else',
    'of two people with one command id at once one is recorded',
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
    seenBy: 'a command without a signature of a registered key is not recorded',
    plant: (records) => ({
      recordCommand: (command, about) => {
        const { commandId, actor } = command.body;
        const row = { commandId, actor, isOpen: true, outcome: { status: 'accepted' } } as const;
        return records.recordCommand(command, about).catch(despite('NotAuthorized', row));
      },
    }),
  },
  {
    fault: 'what cannot be is accepted at first',
    seenBy: 'what cannot be is refused as it is recorded, once, with its audit',
    plant: (records) => ({
      async recordCommand(command, about) {
        const row = await records.recordCommand(command, about);
        return { ...row, isOpen: true, outcome: { status: 'accepted' } };
      },
    }),
  },
  {
    fault: 'a command waits for ever',
    seenBy: 'commands that wait are found until they are decided, oldest first',
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
    fault: 'a command that came as its workflow closed has no answer',
    seenBy: 'no command stays open when its workflow closes',
    plant: (records) => ({
      async command(...args) {
        const row = await records.command(...args);
        const isLate = row?.outcome.status === 'refused' && row.outcome.reason === 'closed';
        return row && (isLate ? { ...row, isOpen: true, outcome: { status: 'accepted' } } : row);
      },
    }),
  },
];
