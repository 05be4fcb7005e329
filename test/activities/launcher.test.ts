// The launcher: what it copies to staging, validates and removes, and to whom it returns files.
import { createHash } from 'node:crypto';
import { createLauncherActivities } from '../../activities/launcher.ts';
import { isFailure } from '../../activities/failures.ts';
import type { FailureType } from '../../workflows/domain/failures.ts';
import { submissionFiles } from '../workflows/submission-files.ts';
import { inActivity } from './activity.ts';

const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const KIB = 1024;

interface Given {
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** File sizes that the store reports, whatever the content. */
  readonly sizes?: Readonly<Record<string, number>>;
  readonly version?: object;
  readonly numbers?: readonly number[];
  readonly decision?: object | undefined;
  readonly members?: readonly object[];
  readonly evaluations?: readonly object[];
  readonly deliveries?: readonly object[];
}

/** The launcher over an area in memory, with a submission of sam in `private/p/sam/sub`. */
function launcherOf(given: Given = {}) {
  const { files = submissionFiles('launcher'), sizes = {}, numbers = [] } = given;
  const stored = new Map<string, Buffer>();
  for (const [name, bytes] of Object.entries(files)) stored.set(`private/p/sam/sub/${name}`, Buffer.from(bytes));
  const seen = {
    validations: [] as { problems?: readonly string[] }[],
    staged: [] as object[],
    noted: [] as string[],
    isJudged: false,
  };
  const version = {
    ...{ project: 'p', model: 'm', submission: 'v-1', type: 'kind', author: 'sam', state: 'validating', run: null },
    ...{ files: [], decisions: [] },
    ...given.version,
  };
  const areas = {
    uri: (path: string) => path,
    path: (uri: string) => uri,
    stat: async (uri: string) => {
      const found = stored.get(uri);
      return found && { bytes: sizes[uri.split('/').at(-1) ?? ''] ?? found.length };
    },
    async *read(uri: string) {
      yield stored.get(uri) ?? Buffer.from('nothing is there');
    },
    list: async (prefix: string) => ({
      files: [...stored.keys()]
        .filter((path) => path.startsWith(prefix))
        .map((path) => ({ path, uri: path, bytes: sizes[path.split('/').at(-1) ?? ''] ?? stored.get(path)?.length })),
    }),
    async write(path: string, source: AsyncIterable<Uint8Array>, options: { expect?: { sha256: string } } = {}) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of source) chunks.push(chunk);
      const bytes = Buffer.concat(chunks);
      if (options.expect && options.expect.sha256 !== sha256(bytes)) throw new Error(`other bytes for ${path}`);
      stored.set(path, bytes);
      return { uri: path, sha256: sha256(bytes), bytes: bytes.length };
    },
    remove: async (uri: string) => void stored.delete(uri),
  };
  const records = {
    start: async () => ({ input: { author: 'sam', beginning: { directory: 'sub' } } }),
    versionStanding: async () => ({ version, attempt: 1 }),
    recordStaged: async (_: object, of: object) => void seen.staged.push(of),
    staged: async () => (seen.staged.length > 0 ? { files: seen.staged.at(-1), isJudged: seen.isJudged } : undefined),
    recordValidation: async (_: object, found: object) => void seen.validations.push(found),
    versionByNumber: async (_: string, __: string, number: number) => (numbers.includes(number) ? version : undefined),
    decision: async () => given.decision,
    members: async () => given.members ?? [],
    evaluations: async () => ({ rows: given.evaluations ?? [] }),
    releasesOf: async () => [{ release: 'kind-1' }],
    deliveries: async () => ({ rows: given.deliveries ?? [] }),
    noteReturned: async (_: string, __: string, folder: string) => void seen.noted.push(folder),
  };
  const launcher = createLauncherActivities({ records, areas, signer: { seal: (of: object) => of } } as never);
  const as = <R>(work: () => Promise<R>) => inActivity(work, { workflowId: 'model/p/m/v-1' });
  return {
    ...{ stored, seen },
    stage: () => as(() => launcher.stageModel()),
    unstage: () => as(() => launcher.unstageModel()),
    giveBack: () => as(() => launcher.returnToPrivate({ commandId: 'c-1' })),
    async problems(): Promise<readonly string[] | undefined> {
      await as(() => launcher.stageModel());
      await as(() => launcher.validateModel());
      return seen.validations.at(-1)?.problems;
    },
    paths: () => [...stored.keys()].filter((path) => !path.startsWith('private/p/sam/sub/')).sort(),
  };
}

async function failsAs(type: FailureType, message: RegExp, work: Promise<unknown>): Promise<void> {
  const error = await work.then(
    () => 'it did not fail',
    (reason: unknown) => reason,
  );
  expect([type, String(error), isFailure(error, type)]).toEqual([type, expect.stringMatching(message), true]);
}

describe('staging', () => {
  it('copies the three files, and reports within the size limit', async () => {
    const reports = { 'reports/e-1.json': '{}', 'reports/huge.json': 'x' };
    const { stage, paths, seen } = launcherOf({
      files: { ...submissionFiles('a'), ...reports, 'notes.txt': 'mine' },
      sizes: { 'huge.json': 2 * KIB * KIB + 1 },
    });
    await stage();
    expect(paths()).toEqual(
      ['golden.json', 'model.json', 'model.onnx', 'reports/private-e-1.json'].map(
        (name) => `staging/p/models/m/v-1/${name}`,
      ),
    );
    expect(seen.staged).toHaveLength(1);
  });

  it('leaves files that were found valid, whatever their author has done since', async () => {
    const { stage, stored, seen } = launcherOf();
    await stage();
    const path = 'staging/p/models/m/v-1/model.onnx';
    const valid = stored.get(path);
    seen.isJudged = true;
    stored.set('private/p/sam/sub/model.onnx', Buffer.from('something else'));
    expect(await stage()).toEqual({ files: seen.staged[0] });
    expect(stored.get(path)).toEqual(valid);
    expect(seen.staged).toHaveLength(1);
  });

  it.each<[string, RegExp, Given]>([
    ['a missing file', /golden\.json is missing/, { files: { ...submissionFiles('a'), 'golden.json': '' } }],
    ['an empty file', /model\.json is empty/, { sizes: { 'model.json': 0 } }],
    ['a card that is too large', /at most 262144 are allowed/, { sizes: { 'model.json': 256 * KIB + 1 } }],
    ['a model that is too large', /model\.onnx has \d+ bytes/, { sizes: { 'model.onnx': 2 ** 40 } }],
    [
      'bytes that differ from the output of the run',
      /model\.onnx in sub has sha256:\w+, expected sha256:\w+ \(the output of the run\)/,
      { version: { run: { outputs: [{ name: 'model.onnx', sha256: 'a'.repeat(64) }] } } },
    ],
  ])('refuses %s', async (what, message, given) => {
    const found = launcherOf(given);
    if (what === 'a missing file') found.stored.delete('private/p/sam/sub/golden.json');
    await failsAs('InvalidModel', message, found.stage());
    expect(found.seen.staged).toEqual([]);
  });

  it('copies nothing after the version was judged', async () => {
    for (const state of ['new', 'approved', 'released', 'withdrawn'])
      await failsAs('NotAuthorized', /its files are fixed/, launcherOf({ version: { state } }).stage());
  });

  it('copies the bytes that the run made', async () => {
    const files = submissionFiles('a');
    const outputs = [{ name: 'model.onnx', sha256: sha256(files['model.onnx'] ?? '') }];
    await expect(launcherOf({ files, version: { run: { outputs } } }).stage()).resolves.toBeDefined();
  });
});

describe('a submission', () => {
  it('is valid if its card names this model and type, and the version it revises exists', async () => {
    expect(await launcherOf().problems()).toBeUndefined();
    const revising = launcherOf({ files: submissionFiles('a', { revises: 2 }), numbers: [2] });
    expect(await revising.problems()).toBeUndefined();
    expect(revising.seen.validations).toMatchObject([{ revises: 2 }]);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['of another model', { name: 'other' }, /name is "other"/],
    ['of another type', { type: 'other' }, /type is "other"/],
    ['that revises a missing version', { revises: 3 }, /revises version 3, which m does not have/],
  ])('is invalid with a card %s', async (_, change, message) => {
    expect(await launcherOf({ files: submissionFiles('a', change), numbers: [2] }).problems()).toEqual([
      expect.stringMatching(message),
    ]);
  });
});

describe('unstaging', () => {
  it.each(['invalid', 'withdrawn'])('removes the files of a version that is %s', async (state) => {
    const { stored, unstage, paths } = launcherOf({ version: { state } });
    for (const name of ['model.onnx', 'reports/e-1.json', 'record/000001.json'])
      stored.set(`staging/p/models/m/v-1/${name}`, Buffer.from('x'));
    await unstage();
    expect(paths()).toEqual(['staging/p/models/m/v-1/record/000001.json']);
  });

  it.each(['validating', 'new', 'approved', 'released', 'rejected', 'retired', 'rolled-back', 'reassigned'])(
    'removes nothing of a version that is %s',
    async (state) => {
      const { stored, unstage, paths } = launcherOf({ version: { state } });
      stored.set('staging/p/models/m/v-1/model.onnx', Buffer.from('x'));
      await failsAs('NotAuthorized', /its files stay in staging/, unstage());
      expect(paths()).toEqual(['staging/p/models/m/v-1/model.onnx']);
    },
  );
});

describe('returning files to a scientist', () => {
  const bytes = 'the model';
  const report = sha256('report e-1');
  const decision = {
    ...{ status: 'pending', at: '2026-01-02T00:00:00Z', detail: { to: 'sue' } },
    command: { body: { name: 'reassign', actor: 'mia', args: { reason: 'look' }, report } },
  };
  const evaluation = (id: string, area: string) => ({
    evaluation: id,
    report: { uri: `${area}/p/models/m/v-1/reports/${id}.json`, sha256: sha256(`report ${id}`) },
  });
  const given: Given = {
    decision,
    version: { state: 'released', files: [{ name: 'model.onnx', uri: 'kept', sha256: sha256(bytes) }] },
    members: [
      { user: 'sue', roles: ['scientist'], disabled: false },
      { user: 'max', roles: ['manager'], disabled: false },
      { user: 'old', roles: ['scientist'], disabled: true },
    ],
    evaluations: [evaluation('e-1', 'staging'), evaluation('e-2', 'staging')],
    deliveries: [
      { application: 'shop', state: 'failed' },
      { application: 'bank', state: 'live' },
    ],
  };
  const returned = (change: Given = {}) => {
    const made = launcherOf({ ...given, ...change });
    made.stored.set('kept', Buffer.from(bytes));
    for (const id of ['e-1', 'e-2'])
      for (const area of ['staging', 'private'])
        made.stored.set(`${area}/p/models/m/v-1/reports/${id}.json`, Buffer.from(`report ${id}`));
    return made;
  };
  const theirs = (paths: readonly string[]) =>
    paths.filter((path) => path.startsWith('private/p/sue/')).map((path) => path.replace('private/p/sue/', ''));

  it('copies the files with the decision, its report, and the gate results of failed deliveries', async () => {
    const { giveBack, paths, seen } = returned();
    await giveBack();
    expect(theirs(paths())).toEqual(
      [...['decision.json', 'decisions.json', 'deliveries/shop-kind-1.json', 'model.onnx'], 'reports/e-1.json'].map(
        (name) => `returned/m/v-1/${name}`,
      ),
    );
    expect(seen.noted).toEqual(['returned/m/v-1']);
  });

  it('copies no report from an area that its author can write', async () => {
    const { giveBack, paths } = returned({ evaluations: [evaluation('e-1', 'private/p')] });
    await giveBack();
    expect(theirs(paths()).filter((path) => path.includes('reports'))).toEqual([]);
  });

  it.each<[string, object | undefined]>([
    ['without a decision', undefined],
    ['for a decision that is complete', { ...decision, status: 'complete' }],
    ['for a decision that returns nothing', { ...decision, detail: {} }],
  ])('copies nothing %s', async (_, other) => {
    const { giveBack, paths } = returned({ decision: other });
    await failsAs('NotAuthorized', /no decision returns the files of p\/m\/v-1/, giveBack());
    expect(theirs(paths())).toEqual([]);
  });

  it.each(['max', 'old', 'nobody'])('copies nothing to %s, who is not a scientist of the project', async (to) => {
    const { giveBack, paths } = returned({ decision: { ...decision, detail: { to } } });
    await failsAs('InvalidInput', /is not a scientist of project p/, giveBack());
    expect(paths().filter((path) => path.includes('returned/'))).toEqual([]);
  });

  it('refuses bytes that differ from those of the version', async () => {
    const { giveBack, stored, seen } = returned();
    stored.set('kept', Buffer.from('something else'));
    await expect(giveBack()).rejects.toThrow('other bytes');
    expect(seen.noted).toEqual([]);
  });
});
