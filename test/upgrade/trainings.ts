// Trainings that wait, run, have failed or are about to be withdrawn.
import assert from 'node:assert/strict';
import type { Scene } from './scene.ts';
import type { Thing } from './thing.ts';

/** Beyond the stop of the earlier program: the training that runs then runs on under the new one. */
const LASTS_SECONDS = 180;
/** The job of a withdrawn training would run for so long. */
const FOREVER_SECONDS = 3_600;

/** The trainings. Those that are set going take the slots of the earlier worker in this order. */
export function trainingThings(scene: Scene): readonly Thing[] {
  const { becomes, give, send, outcomeOf, train, version, pathOf } = scene;
  const state = { submitted: '', withdrawn: '' };
  const ended = ['trained', 'failed'] as const;
  const in_ = (seconds: number): number => Date.now() / 1_000 + seconds;
  const thing = (submission: string, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `training ${submission}`,
    state: async () => (await version(submission)).state,
    ...given,
  });
  const trains = (submission: string) => async (): Promise<void> => {
    await train(submission);
    await becomes(submission, ended);
  };
  const ask = async (submission: string, name: string): Promise<string> => {
    const { revision, digest } = await version(submission);
    return send('sam', `${pathOf(submission)}/commands`, { name, revision, digest });
  };
  return [
    thing('trained', {
      left: 'trained',
      leave: trains('trained'),
      finish: async () => {
        await give('sam', 'trained', 'submit');
        await becomes('trained', ['new']);
      },
      end: 'new',
    }),
    thing('submission-sent', {
      left: 'trained',
      leave: trains('submission-sent'),
      ask: async () => (state.submitted = await ask('submission-sent', 'submit')),
      finish: async () => {
        assert.equal((await outcomeOf('sam', state.submitted))?.status, 'done');
        await becomes('submission-sent', ['new']);
      },
      end: 'new',
    }),
    thing('failed', {
      left: 'failed',
      leave: async () => {
        await train('failed', { fails: 1 });
        await becomes('failed', ended);
      },
      // Its second attempt fails like the first one: then its author gives it up.
      finish: async () => {
        await give('sam', 'failed', 'retry');
        await becomes('failed', ended);
        await give('sam', 'failed', 'withdraw');
      },
      end: 'withdrawn',
    }),
    thing('running', {
      left: 'training',
      runs: 'run/p/m/running/1',
      begin: () => train('running', { until: in_(LASTS_SECONDS) }),
      finish: () => becomes('running', ended),
      end: 'trained',
    }),
    thing('withdrawal-sent', {
      left: 'training',
      begin: () => train('withdrawal-sent', { until: in_(FOREVER_SECONDS) }),
      ask: async () => (state.withdrawn = await ask('withdrawal-sent', 'withdraw')),
      finish: async () => {
        assert.equal((await outcomeOf('sam', state.withdrawn))?.status, 'done');
        await becomes('withdrawal-sent', ['withdrawn']);
      },
      end: 'withdrawn',
    }),
    thing('queued', {
      left: 'training',
      begin: () => train('queued'),
      finish: () => becomes('queued', ended),
      end: 'trained',
    }),
    thing('undigested-lock', {
      left: 'training',
      begin: () => train('undigested-lock', {}, 'undigested.lock'),
      finish: async () => {
        const { detail } = await becomes('undigested-lock', ended);
        assert.match(detail, /npm run lock/, 'the author learns how a lock is made now');
      },
      end: 'failed',
    }),
    thing('just-started-training', {
      left: 'provisioning',
      ask: () => train('just-started-training'),
      finish: () => becomes('just-started-training', ended),
      end: 'trained',
    }),
  ];
}
