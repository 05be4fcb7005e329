// Versions of a model in every state that they can wait in, and in the middle of every step between two states.
import assert from 'node:assert/strict';
import { z } from 'zod';
import type { Person, ProjectName, Scene, Version } from './scene.ts';
import { shortUndoType } from './scene.ts';
import type { Thing } from './thing.ts';

const closedSchema = z.object({ closed: z.boolean().default(false) });

/** The versions, most of them without a training. */
export function versionThings(scene: Scene): readonly Thing[] {
  const {
    becomes,
    give,
    send,
    outcomeOf,
    upload,
    start,
    submit,
    approve,
    approved,
    pathOf,
    version,
    startEvaluation,
    reportOf,
  } = scene;
  const mia = scene.as('mia');
  const sent = new Map<string, { readonly by: Person; readonly address: string }>();

  /** Sends a command that is taken and not looked at yet. */
  const asks =
    (by: Person, submission: string, name: string, args: object = {}) =>
    async (): Promise<void> => {
      const { revision, digest } = await version(submission);
      const report = name === 'approve' ? await reportOf(submission) : null;
      const command = { name, args, revision, digest, report };
      sent.set(submission, { by, address: await send(by, `${pathOf(submission)}/commands`, command) });
    };
  /** The command that was sent is carried out without further action. */
  const isDone = (submission: string) => async (): Promise<void> => {
    const { by, address } = sent.get(submission) ?? { by: 'mia', address: '' };
    const outcome = await outcomeOf(by, address);
    assert.equal(outcome?.status, 'done', `${submission}: ${outcome?.status}: ${outcome?.message}`);
  };
  const arrives = (submission: string) => async (): Promise<Version> => {
    await submit(submission);
    return becomes(submission, ['new']);
  };
  const evaluated = async (submission: string): Promise<void> => {
    await arrives(submission)();
    await startEvaluation(submission);
    await reportOf(submission);
  };
  const releases = async (submission: string): Promise<void> => void (await give('mia', submission, 'release'));
  const thing = (submission: string, given: Omit<Thing, 'name' | 'state'>, project: ProjectName = 'p'): Thing => ({
    name: `version ${submission}`,
    state: async () => describe(await version(submission, project)),
    ...given,
  });
  return [
    thing('invalid', {
      left: 'invalid',
      leave: async () => {
        await submit('invalid', { card: 'wrong' });
        await becomes('invalid', ['invalid']);
      },
      end: 'invalid',
    }),
    thing('withdrawn', {
      left: 'withdrawn',
      leave: async () => {
        await arrives('withdrawn')();
        await give('sam', 'withdrawn', 'withdraw');
      },
      end: 'withdrawn',
    }),
    thing('rolled-back', {
      left: 'rolled-back',
      leave: async () => {
        await arrives('rolled-back')();
        await give('mia', 'rolled-back', 'rollback', { args: { reason: 'not this one' } });
      },
      end: 'rolled-back',
    }),
    thing('retired', {
      left: 'retired',
      leave: async () => {
        await approved('retired');
        await releases('retired');
        await give('mia', 'retired', 'retire', { args: { reason: 'old' } });
      },
      end: 'retired',
    }),
    thing('new', {
      left: 'new',
      leave: arrives('new'),
      finish: () => approve('new', ['mia', 'max']),
      end: 'approved',
    }),
    thing('evaluated', {
      left: 'new',
      leave: () => evaluated('evaluated'),
      finish: async () => {
        const report = await reportOf('evaluated');
        for (const manager of ['mia', 'max'] as const) await give(manager, 'evaluated', 'approve', { report });
        await give('mia', 'evaluated', 'rollback', { args: { reason: 'another one is better' } });
      },
      end: 'rolled-back',
    }),
    thing('half-approved', {
      left: 'new, approved by mia',
      leave: async () => {
        await evaluated('half-approved');
        await give('mia', 'half-approved', 'approve', { report: await reportOf('half-approved') });
      },
      finish: async () => give('max', 'half-approved', 'approve', { report: await reportOf('half-approved') }),
      end: 'approved',
    }),
    thing('approval-sent', {
      left: 'new, approved by mia',
      leave: async () => {
        await evaluated('approval-sent');
        await give('mia', 'approval-sent', 'approve', { report: await reportOf('approval-sent') });
      },
      ask: asks('max', 'approval-sent', 'approve'),
      finish: isDone('approval-sent'),
      end: 'approved',
    }),
    thing('rejection-sent', {
      left: 'new',
      leave: arrives('rejection-sent'),
      ask: asks('mia', 'rejection-sent', 'reject', { reason: 'no' }),
      finish: isDone('rejection-sent'),
      end: 'rejected',
    }),
    thing('rejected', {
      left: 'rejected',
      leave: async () => {
        await arrives('rejected')();
        await give('mia', 'rejected', 'reject', { args: { reason: 'no' } });
      },
      finish: () => give('max', 'rejected', 'undo'),
      end: 'new',
    }),
    {
      ...thing('rejected-for-good', { left: 'rejected', end: 'rejected, closed' }, 'q'),
      state: async () => {
        const found = await mia.get(pathOf('rejected-for-good', 'q'), closedSchema);
        return `${(await version('rejected-for-good', 'q')).state}${found.closed ? ', closed' : ''}`;
      },
      leave: async () => {
        await submit('rejected-for-good', { type: shortUndoType, project: 'q' });
        await becomes('rejected-for-good', ['new'], 'q');
      },
      // Late: its undo window ends under the new program.
      begin: async () => {
        const { revision, digest } = await version('rejected-for-good', 'q');
        const command = { name: 'reject', args: { reason: 'no' }, revision, digest };
        await mia.command(`${pathOf('rejected-for-good', 'q')}/commands`, command);
      },
      finish: () =>
        mia.until(
          'the undo window to end',
          () => mia.get(pathOf('rejected-for-good', 'q'), closedSchema),
          ({ closed }) => closed,
          120_000,
        ),
    },
    thing('release-sent', {
      left: 'approved',
      leave: () => approved('release-sent'),
      ask: asks('mia', 'release-sent', 'release'),
      finish: isDone('release-sent'),
      end: 'released',
    }),
    thing('staging', {
      left: 'validating',
      // So large that it is still being copied when the worker is stopped.
      leave: () => upload('staging', { isLarge: true }),
      caught: 2,
      runs: 'model/p/m/staging',
      begin: () => start('staging'),
      finish: () => becomes('staging', ['new']),
      end: 'new',
    }),
    thing('just-started', {
      left: 'validating',
      ask: () => submit('just-started'),
      finish: () => becomes('just-started', ['new']),
      end: 'new',
    }),
    thing('evaluating', {
      left: 'new',
      leave: arrives('evaluating'),
      // Its evaluation is a separate item.
      finish: async () => {
        const report = await reportOf('evaluating', 'e-running');
        for (const manager of ['mia', 'max'] as const) await give(manager, 'evaluating', 'approve', { report });
      },
      end: 'approved',
    }),
    thing('evaluating-next', {
      left: 'new',
      leave: arrives('evaluating-next'),
      finish: async () => {
        const report = await reportOf('evaluating-next', 'e-queued');
        for (const manager of ['mia', 'max'] as const) await give(manager, 'evaluating-next', 'approve', { report });
      },
      end: 'approved',
    }),
  ];
}

/** The state, with whose approvals it has so far. */
function describe({ state, decisions }: Version): string {
  const since = decisions.findLastIndex(({ name }) => name === 'undo');
  const voters = decisions.slice(since + 1).flatMap(({ name, actor }) => (name === 'approve' ? [actor] : []));
  return state === 'new' && voters.length > 0 ? `new, approved by ${voters.join(', ')}` : state;
}
