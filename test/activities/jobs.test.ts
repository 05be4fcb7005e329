// Results of jobs: which failures are final and which are retried; and the job's token, which never fails a job.
import { setTimeout as sleep } from 'node:timers/promises';
import { failureTypes } from '../../workflows/domain/failures.ts';
import { isFinal } from '../../activities/failures.ts';
import { createJobRunner, type Job, type JobDeps } from '../../activities/jobs.ts';
import type { JobOutcome } from '../../activities/ports.ts';
import { inActivity } from './activity.ts';

const job: Job = {
  inputs: [],
  outputs: [],
  argv: ['x'],
  lock: '',
  parameters: {},
  compute: 'cpu',
  deadlineSeconds: 60,
};
const watch = { signal: new AbortController().signal };
const week: JobOutcome = { status: 'succeeded', seconds: 604_000, log: 'trained for a week' };

interface TokenRow {
  readonly tokenId: string;
  revokedAt: string | null;
  readonly expiresAt: string | null;
}

/** Only the tokens of Records; `revoke` may fail. */
function tokenRecords(revoke: () => void = () => undefined) {
  const rows: TokenRow[] = [];
  const records = {
    async issueToken({ tokenId, expiresAt }: TokenRow) {
      rows.push({ tokenId, expiresAt, revokedAt: null });
    },
    async revokeToken(tokenId: string) {
      revoke();
      for (const row of rows) if (row.tokenId === tokenId) row.revokedAt = 'now';
    },
    tokens: async () => rows,
  };
  return { rows, records: records as unknown as JobDeps['records'] };
}

const runnerOf = (outcome: () => JobOutcome | Promise<JobOutcome>, more: Partial<JobDeps> = {}) =>
  createJobRunner({
    apiUrl: 'http://127.0.0.1:1',
    records: tokenRecords().records,
    cluster: { runJob: async () => outcome() } as unknown as JobDeps['cluster'],
    ...more,
  });
const failed = (reason: Extract<JobOutcome, { status: 'failed' }>['reason'], log = 'its last line'): JobOutcome => ({
  ...{ status: 'failed', reason, exitCode: 1, log },
});

it('keeps the result of a job whose token cannot be revoked, and revokes the token later', async () => {
  const state = { isUnavailable: true };
  const { rows, records } = tokenRecords(() => {
    if (state.isUnavailable) throw new Error('PostgreSQL: it cannot be reached (ECONNREFUSED)');
  });
  const warnings: string[] = [];
  const run = runnerOf(() => week, { records, onWarn: (message) => warnings.push(message) });
  expect(await inActivity(() => run(job, watch))).toEqual({ status: 'succeeded', log: 'trained for a week' });
  expect(warnings).toEqual([expect.stringContaining('was not revoked, which will be retried: PostgreSQL')]);
  expect(rows).toMatchObject([{ revokedAt: null }]);
  state.isUnavailable = false;
  for (let waited = 0; waited < 10_000 && rows[0]?.revokedAt === null; waited += 50) await sleep(50);
  expect(rows).toMatchObject([{ revokedAt: 'now' }]);
});

it('revokes the tokens of earlier attempts, also if they have expired by its own clock', async () => {
  const { rows, records } = tokenRecords();
  rows.push({ tokenId: 'former', revokedAt: null, expiresAt: '2999-01-01T00:00:00Z' });
  rows.push({ tokenId: 'expired', revokedAt: null, expiresAt: '2001-01-01T00:00:00Z' });
  const during: (string | null)[] = [];
  const run = runnerOf(
    () => {
      during.push(...rows.map(({ revokedAt }) => revokedAt));
      return week;
    },
    { records },
  );
  await inActivity(() => run(job, watch));
  expect(during).toEqual(['now', 'now', null]);
  expect(rows.map(({ revokedAt }) => revokedAt)).toEqual(['now', 'now', 'now']);
});

it('runs even if tokens of earlier attempts cannot be listed', async () => {
  const { records } = tokenRecords();
  const broken = { ...records, tokens: () => Promise.reject(new Error('PostgreSQL is unavailable')) };
  expect(await inActivity(() => runnerOf(() => week, { records: broken })(job, watch))).toMatchObject({
    status: 'succeeded',
  });
});

it('issues a token that is valid until after the deadline and the upload', async () => {
  const { rows, records } = tokenRecords();
  await inActivity(() => runnerOf(() => week, { records })(job, watch));
  const left = Date.parse(rows[0]?.expiresAt ?? '') - Date.now();
  // The local cluster's wrapper asks for twelve hours.
  expect(left).toBeGreaterThan(60_000 + 12 * 3_600_000);
  expect(left).toBeLessThanOrEqual((60 + 86_400) * 1_000);
});

it.each(['fetch', 'upload', 'environment', 'killed'] as const)('retries a job that failed by %s', async (reason) => {
  const thrown = await inActivity(() => runnerOf(() => failed(reason))(job, watch)).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(Error);
  expect(isFinal(thrown)).toBe(false);
  expect(thrown).not.toMatchObject({ nonRetryable: true });
  expect(String(thrown)).toMatch(/it will be retried\nits last line$/);
});

it.each(['exit', 'inputs', 'outputs', 'lock', 'memory'] as const)(
  'does not retry a job that failed by %s',
  async (reason) => {
    expect(await inActivity(() => runnerOf(() => failed(reason))(job, watch))).toMatchObject({
      ...{ status: 'failed', type: 'JobFailed', log: 'its last line' },
      message: expect.stringMatching(/\(exit code 1\)\nits last line$/) as unknown,
    });
    expect(failureTypes).toContain('JobFailed');
  },
);

it('does not retry a job that ran too long', async () => {
  const late: JobOutcome = { status: 'timed-out', log: 'still at it' };
  expect(await inActivity(() => runnerOf(() => late)(job, watch))).toMatchObject({
    ...{ status: 'failed', type: 'JobTimedOut', message: 'the job ran longer than its 60 s\nstill at it' },
  });
});

it('reports that a job was killed, and gives up when it is killed three times in a row', async () => {
  const outcomes = ['killed', 'killed', 'fetch', 'killed', 'killed', 'killed'] as const;
  const left = outcomes.map((reason) => failed(reason));
  const run = runnerOf(() => left.shift() ?? week);
  const ends: string[] = [];
  for (const _ of outcomes)
    ends.push(
      await inActivity(() => run(job, watch)).then(
        (end) => (end.status === 'failed' ? end.message : end.status),
        (error: unknown) => `again: ${String(error)}`,
      ),
    );
  expect(ends.map((end) => end.split('\n')[0])).toEqual([
    ...Array<unknown>(2).fill(expect.stringMatching(/^again: .*killed from outside/)),
    expect.stringMatching(/^again: .*inputs could not be fetched/),
    ...Array<unknown>(2).fill(expect.stringMatching(/^again: .*killed from outside/)),
    expect.stringMatching(/^the job was killed from outside 3 times/),
  ]);
});
