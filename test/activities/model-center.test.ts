// The Model Center's activities over Records in memory: checks of reports, announcements, ends of deliveries and evaluations.
import { createModelCenterActivities } from '../../activities/model-center.ts';
import { failure, isFailure } from '../../activities/failures.ts';
import { inActivity } from './activity.ts';

const report = 'e'.repeat(64);
const command = (given: object = {}) => ({ body: { report, ...given }, signature: '' }) as never;

interface Given {
  readonly stored?: string | undefined;
  readonly known?: boolean;
  readonly forged?: boolean;
  readonly fenced?: boolean;
  readonly evaluation?: string;
  readonly cancelledBy?: string;
  readonly standing?: object;
  readonly updatedAt?: string;
}

function centerOf(given: Given = {}) {
  const { stored = report, known = true, evaluation = 'running' } = given;
  const seen = {
    doubts: [] as unknown[],
    announced: [] as string[],
    entries: [] as { kind: string; key: string; actor: string; subject: string }[],
    rows: [] as { row: { detail: string; state: string } }[],
    concluded: [] as unknown[],
    files: [] as string[],
    ended: [] as { detail: string }[],
    closed: [] as unknown[],
  };
  const updated = { updatedAt: given.updatedAt ?? '2026-01-01T00:00:00.000Z' };
  const delivery = {
    application: 'shop',
    type: 'kind',
    release: 'kind-1',
    state: 'live',
    gates: [],
    detail: '',
    ...updated,
  };
  const records = {
    evaluations: async () => ({ rows: known ? [{ report: { uri: 'u', sha256: report } }] : [] }),
    versionStanding: async () => given.standing ?? 'current',
    unfiled: async () => [],
    keys: async () => ({}),
    closeStart: async (id: string, detail: string) => void seen.closed.push([id, detail]),
    closeQuiet: async (id: string, quiet: object) => (seen.closed.push([id, quiet]), { until: null }),
    start: async () => undefined,
    async decideVersion(_: string, __: object, { doubt }: { doubt: object | undefined }) {
      if (given.forged) throw failure('NotAuthorized', 'not signed');
      seen.doubts.push(doubt);
      return 'decided';
    },
    release: async (id: string) =>
      id === 'kind-1' ? { release: id, project: 'p', model: 'm', submission: 'v-1', type: 'kind' } : undefined,
    applications: async () => [{ application: 'shop' }, { application: 'bank' }],
    announced: async (id: string) => void seen.announced.push(id),
    fenced: async () => given.fenced ?? false,
    delivery: async () => delivery,
    concludeDelivery: async (of: object, ended?: string) => (
      seen.concluded.push([of, ended]),
      { ...delivery, state: 'failed', gates: [{ gate: 'function' }], detail: ended ?? '' }
    ),
    record: async (entries: typeof seen.entries, rows: typeof seen.rows) => {
      seen.entries.push(...entries);
      seen.rows.push(...rows);
    },
    evaluation: async () => ({ evaluation: 'e-1', state: evaluation, detail: 'as it ended' }),
    endEvaluation: async (row: { detail: string }) => (seen.ended.push(row), row),
    audit: async () => ({
      rows: given.cancelledBy ? [{ entry: { kind: 'evaluation.cancel', actor: given.cancelledBy } }] : [],
    }),
  };
  const areas = {
    stat: async () => (stored === '' ? undefined : {}),
    digest: async () => stored,
    write: async (path: string) => void seen.files.push(path),
  };
  const center = createModelCenterActivities({
    ...{ records, areas, releases: {}, signer: { seal: (content: object) => content } },
  } as never);
  return { center, seen };
}
const as = <R>(workflowId: string, work: () => Promise<R>) => inActivity(work, { workflowId });
const thrown = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'nothing was thrown',
    (error: unknown) => error,
  );

it('a lifecycle closes its start when it begins only if its version is closed', async () => {
  for (const closed of [true, false]) {
    const { center, seen } = centerOf({ standing: { closed, version: { state: 'withdrawn' } } });
    await as('model/p/m/v-1', () => center.begin());
    expect(seen.closed).toEqual(closed ? [['model/p/m/v-1', 'withdrawn']] : []);
  }
});

it('a transition made while a lifecycle begins does not count as stored', async () => {
  const made = { revision: 1, unfiled: [] as number[] };
  // An activity of an earlier run makes it after the first of the two reads.
  const move = () => Object.assign(made, { revision: 2, unfiled: [2] });
  const reads = { done: 0 };
  const after = <T>(read: () => T) => {
    const found = read();
    if ((reads.done += 1) === 1) move();
    return found;
  };
  const records = {
    keys: async () => ({}),
    // The slower of the two reads.
    versionStanding: async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return after(() => ({ closed: false, version: { revision: made.revision } }));
    },
    unfiled: async () => after(() => made.unfiled),
  };
  const center = createModelCenterActivities({ records, areas: {}, releases: {}, signer: {} } as never);
  const { version, isFiled } = await as('model/p/m/v-1', () => center.begin());
  expect([version?.version.revision, isFiled]).not.toEqual([2, true]);
});

it('a scan is closed by the times that its workflow gives; workflows of earlier programs give none', async () => {
  const { center, seen } = centerOf();
  const quiet = { since: '2026-01-01T00:00:00.000Z', forMs: 60_000 };
  expect(await as('feedback/p/s-1', () => center.closeFeedback(quiet))).toEqual({ until: null });
  await as('feedback/p/s-1', () => center.closeFeedback({}));
  expect(seen.closed).toEqual([
    ['feedback/p/s-1', quiet],
    ['feedback/p/s-1', { since: expect.any(String) as string, forMs: 0 }],
  ]);
});

describe('a decision about a version', () => {
  const decide = async (given: Given, change: object = {}) => {
    const { center, seen } = centerOf(given);
    const result = await as('model/p/m/v-1', () => center.decideVersion({ command: command(change) }));
    return { result, seen };
  };

  it('has no objection if the report is unchanged, or is not a report of the version', async () => {
    expect((await decide({})).seen.doubts).toEqual([undefined]);
    expect((await decide({ stored: 'other' }, { report: null })).seen.doubts).toEqual([undefined]);
    // Records refuse it.
    expect((await decide({ known: false })).seen.doubts).toEqual([undefined]);
  });

  it.each([
    ['has other bytes now', 'a'.repeat(64), /report has sha256:a{64}, expected sha256:e{64}/],
    ['is gone', '', /the stored report sha256:e{64} is missing/],
  ])('has an objection if the report %s', async (_, stored, message) => {
    const { seen } = await decide({ stored });
    expect(seen.doubts).toMatchObject([
      { reason: 'DigestMismatch', message: expect.stringMatching(message) as string },
    ]);
  });

  it('without a signature changes nothing, and is in the audit', async () => {
    const { result, seen } = await decide({ forged: true });
    expect(result).toBe('current');
    expect(seen.entries).toMatchObject([{ kind: 'command.refused', actor: 'unproven', subject: 'p/m/v-1' }]);
  });
});

describe('a release', () => {
  it('is announced by its own workflow, which wakes its consumers', async () => {
    const { center, seen } = centerOf();
    const announce = (by: string) => as(by, () => center.recordAnnounced({ release: 'kind-1' }));
    expect(await announce('release/kind-1')).toEqual({ wake: ['application/shop/kind', 'application/bank/kind'] });
    for (const by of ['release/kind-2', 'delivery/shop/kind-1', 'model/p/m/v-1'])
      expect([by, isFailure(await thrown(announce(by)), 'NotAuthorized')]).toEqual([by, true]);
    expect(seen.announced).toEqual(['kind-1']);
  });
});

describe('a delivery', () => {
  it('ends with its reason, in Records and in a file beside the version', async () => {
    const { center, seen } = centerOf();
    await as('delivery/shop/kind-1', () => center.concludeDelivery({ release: 'kind-1', ended: 'it broke' }));
    expect(seen.concluded).toEqual([[{ application: 'shop', type: 'kind', release: 'kind-1' }, 'it broke']]);
    expect(seen.files).toEqual(['staging/p/models/m/v-1/record/delivery-shop-kind-1-failed-1.json']);
  });

  it('that is interrupted fails if its release was withdrawn, and starts again otherwise', async () => {
    const interrupt = async (fenced: boolean) => {
      const { center, seen } = centerOf({ fenced });
      await as('application/shop/kind', () => center.interruptDelivery({ release: 'kind-1' }));
      return seen.concluded;
    };
    expect(await interrupt(false)).toEqual([]);
    expect(await interrupt(true)).toMatchObject([[{ application: 'shop' }, 'withdrawn by a manager']]);
  });

  it('that is live shows a note for people', async () => {
    const { center, seen } = centerOf();
    await as('application/shop/kind', () =>
      center.noteDelivery({ release: 'kind-1', note: 'main could not be written' }),
    );
    expect(seen.rows).toMatchObject([
      { kind: 'delivery', row: { release: 'kind-1', state: 'live', detail: 'main could not be written' } },
    ]);
  });

  it('is noted even if the clock of the process that made it live is ahead', async () => {
    const updatedAt = new Date(Date.now() + 60_000).toISOString();
    const { center, seen } = centerOf({ updatedAt });
    await as('application/shop/kind', () => center.noteDelivery({ release: 'kind-1', note: 'not written' }));
    expect(seen.rows).toMatchObject([{ row: { detail: 'not written', updatedAt } }]);
  });
});

describe('a failed evaluation', () => {
  const fail = async (given: Given, why: string | null) => {
    const { center, seen } = centerOf(given);
    const result = await as('evaluation/p/e-1', () => center.failEvaluation({ why }));
    return { detail: result.detail, ended: seen.ended.length };
  };

  it('shows the reason, who cancelled it, or that an operator did', async () => {
    expect(await fail({}, 'the job failed')).toEqual({ detail: 'the job failed', ended: 1 });
    expect(await fail({ cancelledBy: 'sam' }, null)).toEqual({ detail: 'cancelled by sam', ended: 1 });
    expect(await fail({}, null)).toEqual({ detail: 'ended by an operator: start another one', ended: 1 });
  });

  it('keeps its result if it has ended', async () => {
    for (const evaluation of ['done', 'failed'])
      expect(await fail({ evaluation }, 'late')).toEqual({ detail: 'as it ended', ended: 0 });
  });
});
