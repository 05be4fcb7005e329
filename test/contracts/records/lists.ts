// Cases on Records: lists of versions and evaluations, by filter, in order, page by page, and what a person may see.
import assert from 'node:assert/strict';
import type { Records, VersionFilter, VersionSummary } from '../../../activities/records.ts';
import type { Evaluation, Version } from '../../../workflows/domain/model.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { at, digestOf, evaluationRow, fails, versionRow } from './scene.ts';

/** What a list shows of a version. */
function summaryOf({
  files: _files,
  run: _run,
  decisions: _decisions,
  keyId: _keyId,
  ...summary
}: Version): VersionSummary {
  return summary;
}

async function writeVersions(records: Records, rows: readonly Version[]): Promise<void> {
  for (const row of rows) await records.record([], [{ kind: 'version', row }]);
}

async function writeEvaluations(records: Records, rows: readonly Evaluation[]): Promise<void> {
  for (const row of rows) await records.record([], [{ kind: 'evaluation', row }]);
}

/** Every row of a list, in pages of two; only the last may be shorter. */
async function pagesOf<Row>(
  read: (page: { limit: number; after?: string }) => Promise<{ rows: readonly Row[]; next?: string }>,
) {
  const found: Row[] = [];
  for (let after: string | undefined, pages = 0; pages < 50; pages += 1) {
    const { rows, next } = await read({ limit: 2, ...(after !== undefined && { after }) });
    found.push(...rows);
    if (next === undefined) return found;
    assert.equal(rows.length, 2, 'a page that is not the last one is not full');
    after = next;
  }
  return assert.fail('the list has no end');
}

/** Versions that differ in what lists are filtered by; the fourth has no number yet. */
const manyVersions = (scene: Scene): readonly Version[] =>
  [
    { submission: 'rf-1', model: 'forest', author: 'sam', state: 'new', tags: ['fast', 'small'], version: 1 },
    { submission: 'rf-2', model: 'forest', author: 'ann', state: 'rejected', tags: ['fast'], version: 3 },
    { submission: 'oak-1', model: 'tree', author: 'sam', state: 'new', tags: [], version: 2, type: `${scene.type}-b` },
    { submission: 'oak-2', model: 'tree', author: 'ann', state: 'training', tags: ['small'], version: null },
    {
      submission: 'rf-3',
      model: 'forest',
      author: 'sam',
      state: 'new',
      tags: ['small'],
      version: 4,
      detail: 'Für_Äpfel',
    },
  ].map((some, n) =>
    versionRow(scene, { ...(some as Partial<Version>), updatedAt: at([50, 10, 30, 30, 40][n] ?? 0), files: [file] }),
  );
const file = { name: 'model.onnx', uri: 'local:areas/x' as never, sha256: digestOf('x'), bytes: 1 };

export const listCases: readonly RecordsCase[] = [
  {
    name: 'versions and evaluations are listed newest first, by filter and by page',
    async run(records, scene) {
      const rows = [0, 1, 2, 3, 4].map((n) => versionRow(scene, { submission: `rf-${n}`, files: [file] }));
      await writeVersions(records, rows);
      const { project } = scene;
      const first = await records.versions({ project, limit: 3 });
      const second = await records.versions({ project, limit: 3, after: first.next ?? '' });
      assert.deepEqual([...first.rows, ...second.rows], rows.map(summaryOf).reverse());
      assert.equal(second.next, undefined);
      await writeEvaluations(
        records,
        [1, 2, 3].map((n) => evaluationRow(scene, { evaluation: `e-${n}`, submission: n === 2 ? null : 'rf-1' })),
      );
      const page = await records.evaluations({ project, submission: 'rf-1', limit: 1 });
      assert.deepEqual(page.rows[0]?.evaluation, 'e-3');
      const next = await records.evaluations({ project, submission: 'rf-1', limit: 1, after: page.next ?? '' });
      assert.deepEqual(next.rows[0]?.evaluation, 'e-1');
      assert.equal((await records.evaluations({ project, model: 'forest' })).rows.length, 3);
    },
  },
  {
    name: 'versions are filtered by every field, and by several at once',
    async run(records, scene) {
      await writeVersions(records, manyVersions(scene));
      await writeVersions(records, [versionRow({ ...scene, project: `${scene.project}-2` }, { tags: ['fast'] })]);
      const { project, type } = scene;
      const named = async (filter: Omit<VersionFilter, 'project'>) =>
        (await records.versions({ project, ...filter })).rows.map(({ submission }) => submission).sort();
      const cases: readonly [Omit<VersionFilter, 'project'>, readonly string[]][] = [
        [{}, ['oak-1', 'oak-2', 'rf-1', 'rf-2', 'rf-3']],
        [{ model: 'tree' }, ['oak-1', 'oak-2']],
        [{ type: `${type}-b` }, ['oak-1']],
        [{ state: 'new' }, ['oak-1', 'rf-1', 'rf-3']],
        [{ author: 'ann' }, ['oak-2', 'rf-2']],
        [{ tag: 'fast' }, ['rf-1', 'rf-2']],
        [{ tag: 'fas' }, []],
        // By the beginnings of words of the model, the submission and the detail.
        [{ text: 'fore' }, ['rf-1', 'rf-2', 'rf-3']],
        [{ text: 'RF 2' }, ['rf-2']],
        [{ text: 'rf-3' }, ['rf-3']],
        [{ text: 'äpf' }, ['rf-3']],
        [{ text: 'orest' }, []],
        [{ text: "forest' | 'oak & !:*" }, []],
        [{ text: '  ' }, ['oak-1', 'oak-2', 'rf-1', 'rf-2', 'rf-3']],
        [{ text: '-- ' }, []],
        [{ model: 'forest', state: 'new', author: 'sam', tag: 'small', text: 'rf', type }, ['rf-1', 'rf-3']],
        [{ model: 'forest', state: 'new', author: 'sam', tag: 'small', text: 'rf 1', type }, ['rf-1']],
      ];
      for (const [filter, expected] of cases) assert.deepEqual(await named(filter), expected, JSON.stringify(filter));
      // The filter index follows the version.
      await writeVersions(records, [
        versionRow(scene, { submission: 'rf-1', revision: 2, tags: ['slow'], state: 'approved', updatedAt: at(60) }),
      ]);
      assert.deepEqual(await named({ tag: 'fast' }), ['rf-2']);
      assert.deepEqual(await named({ tag: 'slow', state: 'approved' }), ['rf-1']);
    },
  },
  {
    name: 'versions are sorted by time and by number, each once, page by page',
    async run(records, scene) {
      await writeVersions(records, manyVersions(scene));
      const { project } = scene;
      const expected = {
        newest: ['rf-1', 'rf-3', 'oak-2', 'oak-1', 'rf-2'],
        oldest: ['rf-2', 'oak-1', 'oak-2', 'rf-3', 'rf-1'],
        number: ['rf-3', 'rf-2', 'oak-1', 'rf-1', 'oak-2'],
      } as const;
      for (const order of ['newest', 'oldest', 'number'] as const) {
        const rows = await pagesOf((page) => records.versions({ project, order, ...page }));
        assert.deepEqual(
          rows.map(({ submission }) => submission),
          expected[order],
        );
      }
      const forest = await pagesOf((page) => records.versions({ project, order: 'number', model: 'forest', ...page }));
      assert.deepEqual(
        forest.map(({ version }) => version),
        [4, 3, 1],
      );
      const { next = '' } = await records.versions({ project, limit: 1 });
      await fails(records.versions({ project, order: 'number', after: next }), 'InvalidInput', 'after');
      for (const after of ['7', 'x', Buffer.from('["newest","now()",1]').toString('base64url')])
        await fails(records.versions({ project, after }), 'InvalidInput', 'after');
    },
  },
  {
    name: 'a version is found by its number',
    async run(records, scene) {
      const rows = manyVersions(scene);
      await writeVersions(records, rows);
      const { project } = scene;
      assert.deepEqual(await records.versionByNumber(project, 'forest', 3), rows[1]);
      assert.deepEqual(await records.versionByNumber(project, 'tree', 2), rows[2]);
      for (const [model, number] of [
        ['forest', 2],
        ['tree', 0],
        ['bush', 1],
      ] as const)
        assert.equal(await records.versionByNumber(project, model, number), undefined);
    },
  },
  {
    name: 'a page of evaluations is full and has only what the person may see',
    async run(records, scene) {
      const { project } = scene;
      await writeVersions(records, [versionRow(scene, { submission: 'rf-1', author: 'sam' })]);
      const rows = Array.from({ length: 24 }, (_, n) =>
        evaluationRow(scene, {
          evaluation: `e-${n}`,
          actor: ['mia', 'sam', 'ann'][n % 3] ?? '',
          submission: n % 4 === 0 ? null : n % 4 === 1 ? 'rf-1' : 'rf-2',
        }),
      );
      await writeEvaluations(records, rows);
      // The other version is written after its evaluations.
      await writeVersions(records, [versionRow(scene, { submission: 'rf-2', author: 'ann' })]);
      const authors: Readonly<Record<string, string>> = { 'rf-1': 'sam', 'rf-2': 'ann' };
      const mayBeSeen = (row: Evaluation, user: string, all: boolean): boolean =>
        row.actor === user || (row.submission !== null && (all || authors[row.submission] === user));
      for (const [user, all] of [
        ['mia', true],
        ['mia', false],
        ['sam', false],
        ['ann', false],
        ['eve', false],
      ] as const) {
        const found = await pagesOf((page) => records.evaluations({ project, seenBy: { user, all }, ...page }));
        const expected = rows.filter((row) => mayBeSeen(row, user, all)).reverse();
        assert.deepEqual(found, expected, `what ${user} sees${all ? ' as a manager' : ''}`);
      }
      const ofOne = await pagesOf((page) =>
        records.evaluations({ project, submission: 'rf-2', seenBy: { user: 'sam', all: false }, ...page }),
      );
      assert.deepEqual(
        ofOne,
        rows.filter(({ submission, actor }) => submission === 'rf-2' && actor === 'sam').reverse(),
      );
    },
  },
];
