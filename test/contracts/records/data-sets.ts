// Cases on Records: data sets, from the attempt to register one to the removal of its files.
import assert from 'node:assert/strict';
import type { Records } from '../../../activities/records.ts';
import type { DataSet } from '../../../workflows/domain/model.ts';
import { newImport } from '../../../workflows/domain/import.ts';
import type { ArtifactUri } from '../../../workflows/domain/names.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { digestOf, evaluationRow, fails, setProject, START, versionRow } from './scene.ts';

const file = { name: 'rows.csv', uri: 'file:rows' as ArtifactUri, sha256: digestOf('rows'), bytes: 4 };
const row = ({ project }: Scene, dataset = 'held-out'): DataSet => ({
  ...{ project, dataset, kind: 'test', files: [file], registeredBy: 'mia', registeredAt: START },
});

async function registered(records: Records, scene: Scene): Promise<void> {
  await setProject(records, scene);
  await records.registerDataSet(row(scene), scene.entry());
}

const deleted = (records: Records, { project, entry }: Scene) => records.deleteDataSet(project, 'held-out', entry());

export const dataSetCases: readonly RecordsCase[] = [
  {
    name: 'a data set never changes',
    async run(records, scene) {
      const { project, entry } = scene;
      await setProject(records, scene);
      const first = row(scene);
      await records.registerDataSet(first, entry());
      await records.registerDataSet({ ...first, registeredBy: 'sam' }, entry());
      const other = { ...first, files: [{ ...file, sha256: digestOf('other') }] };
      await fails(records.registerDataSet(other, entry()), 'Conflict', 'held-out');
      await fails(records.registerDataSet({ ...first, kind: 'training' }, entry()), 'Conflict', 'held-out');
      assert.deepEqual(await records.dataSet(project, 'held-out'), first);
      assert.deepEqual(await records.dataSets({ project }), { rows: [first] });
      const second = { ...first, dataset: 'a-second' };
      await records.registerDataSet(second, entry());
      const page = await records.dataSets({ project, limit: 1 });
      assert.deepEqual(page.rows, [second]);
      assert.deepEqual(await records.dataSets({ project, after: page.next ?? '' }), { rows: [first] });
      await fails(records.dataSets({ project, after: 'held-out' }), 'InvalidInput', 'cursor');
      assert.equal(await records.dataSet(project, 'none'), undefined);
      await fails(records.registerDataSet({ ...first, project: 'nowhere' }, entry()), 'NotFound');
    },
  },
  {
    name: 'the newest attempt to register a data set wins, and none begins while another one cleans up',
    async run(records, scene) {
      const { project, entry } = scene;
      await setProject(records, scene);
      const draft = (attempt: string, step: 'write' | 'clear' = 'write') =>
        records.draftDataSet({ project, dataset: 'held-out', attempt, step });
      assert.equal(await draft('one'), 'taken');
      assert.equal(await draft('two'), 'taken');
      await fails(records.registerDataSet(row(scene), entry(), 'one'), 'Conflict', 'newer request');
      assert.equal(await draft('one', 'clear'), 'busy');
      assert.equal(await draft('two', 'clear'), 'taken');
      assert.equal(await draft('three'), 'busy');
      await records.dropDraft(project, 'held-out', 'one');
      assert.equal(await draft('three'), 'busy');
      await records.dropDraft(project, 'held-out', 'two');
      // It may have written after the second one had cleared.
      assert.equal(await draft('one', 'clear'), 'taken');
      assert.equal(await draft('three'), 'busy');
      await records.dropDraft(project, 'held-out', 'one');
      assert.equal(await draft('three'), 'taken');
      await records.registerDataSet(row(scene), entry(), 'three');
      assert.deepEqual(await records.dataSet(project, 'held-out'), row(scene));
      assert.equal(await draft('four'), 'registered');
    },
  },
  {
    name: 'a deleted data set is gone, its name stays reserved, and its files are swept once',
    async run(records, scene) {
      const { project, entry } = scene;
      await registered(records, scene);
      const mine = async () => (await records.unsweptDataSets(1000)).filter((one) => one.project === project);
      assert.deepEqual(await mine(), []);
      const audit = entry();
      for (let times = 0; times < 2; times++)
        assert.deepEqual(await records.deleteDataSet(project, 'held-out', audit), { references: [] });
      assert.equal(await records.dataSet(project, 'held-out'), undefined);
      assert.deepEqual(await records.dataSets({ project }), { rows: [] });
      assert.deepEqual(await records.deletedDataSet(project, 'held-out'), row(scene));
      const draft = { project, dataset: 'held-out', attempt: 'one', step: 'write' } as const;
      assert.equal(await records.draftDataSet(draft), 'deleted');
      await fails(records.registerDataSet(row(scene), entry()), 'Conflict', 'was deleted');
      assert.deepEqual(await mine(), [row(scene)]);
      for (let times = 0; times < 2; times++) await records.sweptDataSet(project, 'held-out');
      assert.deepEqual(await mine(), []);
      const { rows } = await records.audit({ project });
      assert.equal(rows.filter((one) => one.entry.key === audit.key).length, 1);
      await fails(records.deleteDataSet(project, 'none', entry()), 'NotFound', 'none');
    },
  },
  {
    name: 'a data set that a run uses cannot be deleted, and a deleted one cannot be used',
    async run(records, scene) {
      const { project, entry } = scene;
      await registered(records, scene);
      const name = (submission: string) =>
        records.nameDataSets(project, ['held-out'], { kind: 'run', name: `forest/${submission}` });
      // Of a version that is not in the record.
      await name('rf-0');
      await records.record([], [{ kind: 'version', row: versionRow(scene, { submission: 'rf-1', state: 'retired' }) }]);
      for (let times = 0; times < 2; times++) await name('rf-1');
      assert.deepEqual(await deleted(records, scene), { references: [{ kind: 'run', name: 'forest/rf-1' }] });
      assert.deepEqual(await records.dataSet(project, 'held-out'), row(scene));
      await records.registerDataSet(row(scene, 'spare'), entry());
      await records.deleteDataSet(project, 'spare', entry());
      const named = records.nameDataSets(project, ['held-out', 'spare'], { kind: 'run', name: 'forest/rf-2' });
      await fails(named, 'NotFound', 'spare');
    },
  },
  {
    name: 'a data set is protected by an open evaluation and by one that a decision is based on, by no other',
    async run(records, scene) {
      const { project } = scene;
      await registered(records, scene);
      const report = { ...file, name: 'report.json' };
      await records.nameDataSets(project, ['held-out'], { kind: 'evaluation', name: 'e-1' });
      await records.record([], [{ kind: 'evaluation', row: evaluationRow(scene) }]);
      const references = [{ kind: 'evaluation' as const, name: 'e-1' }];
      assert.deepEqual(await deleted(records, scene), { references });
      await records.record([], [{ kind: 'evaluation', row: evaluationRow(scene, { state: 'done', report }) }]);
      const approval = {
        commandId: 'c-1',
        name: 'approve',
        actor: 'mia',
        reason: '',
        report: report.sha256,
        at: START,
      };
      await records.record([], [{ kind: 'version', row: versionRow(scene, { decisions: [approval] }) }]);
      assert.deepEqual(await deleted(records, scene), { references });
      await records.record([], [{ kind: 'version', row: versionRow(scene, { decisions: [], revision: 2 }) }]);
      assert.deepEqual(await deleted(records, scene), { references: [] });
    },
  },
  {
    name: 'a data set is protected by a private test, which is not named, and by a running import',
    async run(records, scene) {
      const { project } = scene;
      await registered(records, scene);
      await records.nameDataSets(project, ['held-out'], { kind: 'evaluation', name: 'e-1' });
      await records.record([], [{ kind: 'evaluation', row: evaluationRow(scene, { submission: null }) }]);
      const source = { kind: 'https' as const, url: 'https://data.example.org/rows.csv' };
      const given = { project, import: 'i-1', dataset: 'held-out', source, unpack: false, actor: 'sam' };
      await records.recordImport(newImport(given, 'fetching', START), null);
      assert.deepEqual(await deleted(records, scene), {
        references: [
          { kind: 'evaluation', name: '(a private test)' },
          { kind: 'import', name: 'i-1' },
        ],
      });
      await records.recordImport(newImport(given, 'done', START), null);
      await records.record(
        [],
        [{ kind: 'evaluation', row: evaluationRow(scene, { submission: null, state: 'failed' }) }],
      );
      assert.deepEqual(await deleted(records, scene), { references: [] });
    },
  },
];
