// Results of jobs: which failures are final and which are retried; and the job's token.
import { failureTypes } from '../../workflows/domain/failures.ts';
import { issueJobToken, revokeJobTokens, sorted } from '../../activities/jobs.ts';
import type { JobOutcome } from '../../activities/ports.ts';
import type { Job, Records } from '../../activities/records.ts';

const job: Job = {
  ...{ inputs: [], outputs: [], argv: ['x'], lock: '', parameters: {}, compute: 'cpu', deadlineSeconds: 60 },
  log: { area: 'common', project: 'p', path: 'log.txt' },
};
const row = { name: 'job-1', workflowId: 'run/p/m/s/1', job, kills: 0 };

interface TokenRow {
  readonly tokenId: string;
  revokedAt: string | null;
  readonly expiresAt: string | null;
}

/** Only the tokens of Records. */
function tokenRecords() {
  const rows: TokenRow[] = [];
  const records = {
    async issueToken({ tokenId, expiresAt }: TokenRow) {
      rows.push({ tokenId, expiresAt, revokedAt: null });
    },
    async revokeToken(tokenId: string) {
      for (const found of rows) if (found.tokenId === tokenId) found.revokedAt = 'now';
    },
    tokens: async () => rows,
  };
  return { rows, records: records as unknown as Records };
}

const failed = (reason: Extract<JobOutcome, { status: 'failed' }>['reason'], log = 'its last line'): JobOutcome => ({
  ...{ status: 'failed', reason, exitCode: 1, log },
});

it('revokes the tokens of earlier starts, also if they have expired by its own clock, and its own at the end', async () => {
  const { rows, records } = tokenRecords();
  rows.push({ tokenId: 'former', revokedAt: null, expiresAt: '2999-01-01T00:00:00Z' });
  rows.push({ tokenId: 'expired', revokedAt: null, expiresAt: '2001-01-01T00:00:00Z' });
  await issueJobToken(records, row);
  expect(rows.map(({ revokedAt }) => revokedAt)).toEqual(['now', 'now', null]);
  await revokeJobTokens(records, row);
  expect(rows.map(({ revokedAt }) => revokedAt)).toEqual(['now', 'now', 'now']);
});

it('issues a token that is valid until after the deadline and the upload', async () => {
  const { rows, records } = tokenRecords();
  await issueJobToken(records, row);
  const left = Date.parse(rows[0]?.expiresAt ?? '') - Date.now();
  // The local cluster's wrapper asks for twelve hours.
  expect(left).toBeGreaterThan(60_000 + 12 * 3_600_000);
  expect(left).toBeLessThanOrEqual((60 + 86_400) * 1_000);
});

it.each(['fetch', 'upload', 'environment', 'killed'] as const)('retries a job that failed by %s', (reason) => {
  expect(sorted(row, failed(reason))).toEqual({
    again: expect.stringMatching(/it will be retried\nits last line$/) as unknown,
    kills: reason === 'killed' ? 1 : 0,
  });
});

it.each(['exit', 'inputs', 'outputs', 'lock', 'memory'] as const)(
  'does not retry a job that failed by %s',
  (reason) => {
    expect(sorted(row, failed(reason))).toMatchObject({
      ...{ status: 'failed', type: 'JobFailed', log: 'its last line' },
      message: expect.stringMatching(/\(exit code 1\)\nits last line$/) as unknown,
    });
    expect(failureTypes).toContain('JobFailed');
  },
);

it('does not retry a job that ran too long', () => {
  expect(sorted(row, { status: 'timed-out', log: 'still at it' })).toMatchObject({
    ...{ status: 'failed', type: 'JobTimedOut', message: 'the job ran longer than its 60 s\nstill at it' },
  });
});

it('reports that a job was killed, and gives up when it is killed three times in a row', () => {
  const state = { kills: 0 };
  const ends = (['killed', 'killed', 'fetch', 'killed', 'killed', 'killed'] as const).map((reason) => {
    const result = sorted({ ...row, kills: state.kills }, failed(reason));
    if ('again' in result) state.kills = result.kills;
    const text = 'again' in result ? `again: ${result.again}` : result.status === 'failed' ? result.message : '';
    return text.split('\n')[0];
  });
  expect(ends).toEqual([
    ...Array<unknown>(2).fill(expect.stringMatching(/^again: .*killed from outside/)),
    expect.stringMatching(/^again: .*inputs could not be fetched/),
    ...Array<unknown>(2).fill(expect.stringMatching(/^again: .*killed from outside/)),
    expect.stringMatching(/^the job was killed from outside 3 times/),
  ]);
});
