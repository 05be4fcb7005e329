// Activities that decide commands: a forged command is recorded as refused and changes nothing, and the workflow continues.
import { labelDecisionRecords } from '../../activities/adapters/postgres/label-decisions.ts';
import { pointerDecisionRecords } from '../../activities/adapters/postgres/pointer-decisions.ts';
import { versionDecisionRecords } from '../../activities/adapters/postgres/version-decisions.ts';
import { failure } from '../../activities/failures.ts';
import { createActivities } from '../../workers/wiring.ts';
import { inActivity } from './activity.ts';

const isDeciding = (name: string): boolean => /^decide[A-Z]/.test(name);
/** All methods of Records that decide a command. */
const deciding = [versionDecisionRecords, pointerDecisionRecords, labelDecisionRecords]
  .flatMap((group) => Object.keys(group({} as never)))
  .filter(isDeciding)
  .sort();
const workflows: Readonly<Record<string, string>> = {
  decideVersion: 'model/p/m/v-1',
  decidePointer: 'application/shop/kind',
  decideLabels: 'feedback/p/s-1',
};

async function open() {
  const seen = { decided: [] as string[], entries: [] as object[] };
  const known: Readonly<Record<string, unknown>> = {
    record: async (entries: object[]) => void seen.entries.push(...entries),
    ...Object.fromEntries(
      ['versionStanding', 'applicationStanding', 'scanStanding'].map((name) => [name, async () => 'as it stands']),
    ),
  };
  const records = new Proxy(known, {
    get: (_, name: string) =>
      isDeciding(name)
        ? async () => {
            seen.decided.push(name);
            throw failure('NotAuthorized', 'not signed by the platform');
          }
        : (known[name] ?? (async () => undefined)),
  });
  const ports = { records, areas: {}, releases: {}, code: {}, cluster: {}, bus: {}, signer: {}, apiUrl: '' };
  const activities = (await createActivities(ports as never)) as unknown as Record<
    string,
    (input: object) => Promise<unknown>
  >;
  return { activities, seen };
}

it('each deciding method of Records has an activity', async () => {
  const { activities } = await open();
  expect(Object.keys(activities).filter(isDeciding).sort()).toEqual(deciding);
  expect(Object.keys(workflows).sort()).toEqual(deciding);
});

it.each(deciding)('%s records a forged command as refused and returns the current state', async (name) => {
  const { activities, seen } = await open();
  const command = { body: { name: 'revert', args: {}, report: null }, signature: '' };
  const result = await inActivity(async () => activities[name]?.({ command }), { workflowId: workflows[name] ?? '' });
  expect([result, seen.decided]).toEqual(['as it stands', [name]]);
  expect(seen.entries).toEqual([
    expect.objectContaining({ kind: 'command.refused', actor: 'unproven', reason: 'not signed by the platform' }),
  ]);
});
