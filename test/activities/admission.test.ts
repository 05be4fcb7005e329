// Before each activity: is this run recorded? Activities of unrecorded runs are refused, and a limited number is recorded.
import { defaultPayloadConverter } from '@temporalio/common';
import type { AdmissionAnswer } from '../../activities/records.ts';
import { admitActivities } from '../../activities/admission.ts';
import { isFailure } from '../../activities/failures.ts';

function admission(answer: AdmissionAnswer) {
  const seen = { asked: [] as object[], noted: [] as { key: string; subject: string; actor: string }[], ran: 0 };
  const records = {
    admit: async (run: object) => (seen.asked.push(run), answer),
    record: async (entries: (typeof seen.noted)[number][]) => void seen.noted.push(...entries),
  };
  const execute = (runId = 'run-1', headers: Record<string, unknown> = {}) =>
    admitActivities(records as never)({
      info: { workflowExecution: { workflowId: 'model/p/m/s', runId }, workflowType: 'modelLifecycle' },
    } as never).inbound.execute({ headers }, async () => (seen.ran += 1));
  return { seen, execute };
}

it('asks by id, type, run and digest of the input, and runs admitted activities', async () => {
  const { seen, execute } = admission('admitted');
  await execute('run-1', { 'ocdl-start-digest': defaultPayloadConverter.toPayload('abc') });
  await execute('run-2');
  const common = { workflowId: 'model/p/m/s', type: 'modelLifecycle' };
  expect(seen.asked).toEqual([
    { ...common, digest: 'abc', runId: 'run-1' },
    { ...common, digest: null, runId: 'run-2' },
  ]);
  expect([seen.ran, seen.noted]).toEqual([2, []]);
});

it.each<[Exclude<AdmissionAnswer, 'admitted'>, RegExp]>([
  ['unknown', /its start is not recorded/],
  ['other-input', /its input is not the recorded one/],
  ['closed', /it has ended before/],
])('runs nothing for a workflow that is %s, and says why', async (answer, message) => {
  const { seen, execute } = admission(answer);
  const error = await execute().catch((reason: unknown) => reason);
  expect([String(error), isFailure(error, 'NotAuthorized')]).toEqual([expect.stringMatching(message), true]);
  expect(seen.ran).toBe(0);
  expect(seen.noted).toMatchObject([{ actor: 'unproven', subject: 'platform' }]);
});

it('records at most a hundred attempts per day', async () => {
  const { seen, execute } = admission('unknown');
  for (let n = 0; n < 500; n += 1) await execute(`run-${n * 7919}`).catch(() => undefined);
  const keys = new Set(seen.noted.map(({ key }) => key));
  expect(keys.size).toBeLessThanOrEqual(200);
  expect(keys.size).toBeGreaterThan(50);
});
