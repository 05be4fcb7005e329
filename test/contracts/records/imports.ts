// Cases on Records: imports as they stand, and the hosts that data may come from.
import assert from 'node:assert/strict';
import type { Import, ImportState, Node } from '../../../workflows/domain/import.ts';
import { newImport } from '../../../workflows/domain/import.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { at, fails, setProject } from './scene.ts';

const importRow = ({ project }: Scene, id: string, state: ImportState, some: Partial<Import> = {}): Import => ({
  ...newImport(
    {
      ...{ project, import: id, dataset: 'rows', unpack: false, actor: 'sam' },
      source: { kind: 'maven', coordinate: 'org.example:rows:1' },
    },
    state,
    at(0),
  ),
  ...some,
});

const sftpNode = ({ project }: Scene, node: string): Node => ({
  ...{ kind: 'sftp', project, node, host: 'lab.example.org', port: 22, user: 'reader' },
  ...{ hostKey: 'SHA256:x', secret: 'lab' },
});

export const importCases: readonly RecordsCase[] = [
  {
    name: 'a resolution stays when a repeated request writes the first row of its import late',
    async run(records, scene) {
      const resolution = { revision: 'r', licence: null, files: [], notes: [] };
      const first = importRow(scene, 'i-1', 'resolving');
      await records.recordImport({ ...first, resolution }, null);
      await records.recordImport(first, null);
      assert.deepEqual(await records.import(scene.project, 'i-1'), { ...first, resolution });
      const done = importRow(scene, 'i-1', 'done', { updatedAt: at(2) });
      await records.recordImport(done, null);
      assert.deepEqual(await records.import(scene.project, 'i-1'), done);
    },
  },
  {
    name: 'an import only moves forward, and its end is final',
    async run(records, scene) {
      const { project } = scene;
      const write = async (...rows: readonly Import[]) => {
        for (const row of rows) await records.recordImport(row, null);
      };
      const known = () => records.import(project, 'i-1');
      assert.equal(await known(), undefined);
      const half = importRow(scene, 'i-1', 'fetching', { bytes: 5, updatedAt: at(5) });
      await write(importRow(scene, 'i-1', 'resolving'), half);
      // A late row of an earlier state, whatever its clock, and an older row of the same state.
      await write(importRow(scene, 'i-1', 'resolving', { updatedAt: at(9) }));
      await write({ ...half, bytes: 3, updatedAt: at(4) });
      assert.deepEqual(await known(), half);
      // A clock that is behind does not delay a state.
      const done = importRow(scene, 'i-1', 'done', { bytes: 9, detail: 'there', updatedAt: at(2) });
      await write(done, { ...half, updatedAt: at(20) }, importRow(scene, 'i-1', 'failed', { updatedAt: at(20) }));
      assert.deepEqual(await known(), done);
    },
  },
  {
    name: 'an import and its audit row are written together, once',
    async run(records, scene) {
      const { project } = scene;
      const key = scene.entry({ kind: 'import.done', subject: `${project}/imports/i-1` });
      await fails(records.recordImport(importRow(scene, 'i-1', 'done', { updatedAt: 'never' }), key), 'InvalidInput');
      assert.deepEqual((await records.audit({ project })).rows, []);
      await records.recordImport(importRow(scene, 'i-1', 'done'), key);
      await records.recordImport(importRow(scene, 'i-1', 'done'), key);
      const { rows } = await records.audit({ project });
      assert.deepEqual(
        rows.map(({ entry }) => entry),
        [key],
      );
    },
  },
  {
    name: 'imports are listed oldest first, by page, of one project',
    async run(records, scene) {
      const { project } = scene;
      const rows = ['c', 'a', 'b'].map((id) => importRow(scene, id, 'resolving'));
      for (const row of rows) await records.recordImport(row, null);
      await records.recordImport({ ...importRow(scene, 'x', 'resolving'), project: `${project}-2` }, null);
      const first = await records.imports({ project, limit: 2 });
      const rest = await records.imports({ project, limit: 2, after: first.next ?? '' });
      assert.deepEqual([...first.rows, ...rest.rows], rows);
      assert.equal(rest.next, undefined);
    },
  },
  {
    name: 'a node is replaced and removed, and a late repeated write changes nothing',
    async run(records, scene) {
      const { project, entry } = scene;
      await setProject(records, scene);
      const first = entry();
      await records.setNode(sftpNode(scene, 'lab'), first);
      await records.setNode(sftpNode(scene, 'barn'), entry());
      const web: Node = { kind: 'https', project, node: 'lab', host: 'data.example.org' };
      await records.setNode(web, entry());
      await records.setNode(sftpNode(scene, 'lab'), first);
      assert.deepEqual(await records.nodes(project), [sftpNode(scene, 'barn'), web]);
      const removal = entry();
      await records.removeNode(project, 'lab', removal);
      await records.removeNode(project, 'lab', entry());
      assert.deepEqual(await records.nodes(project), [sftpNode(scene, 'barn')]);
      await records.setNode(web, entry());
      await records.removeNode(project, 'lab', removal);
      assert.deepEqual(await records.nodes(project), [sftpNode(scene, 'barn'), web]);
      assert.deepEqual(await records.nodes(`${project}-2`), []);
      await fails(records.setNode({ ...web, project: `${project}-2` }, entry()), 'NotFound');
    },
  },
];
