// Plain activities of deliveries, labels and imports.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sheetText } from '../../../activities/acquisition/data-sheet.ts';
import { createFetcher } from '../../../activities/acquisition/fetch.ts';
import { gates } from '../../../activities/gates/gate.ts';
import { once } from '../../../activities/model-center.ts';
import type { DataSheet, Import, ImportedFile, Resolution } from '../../../workflows/domain/import.ts';
import { importFolder } from '../../../workflows/domain/import.ts';
import type {
  Application,
  Decision,
  Delivery,
  GateResult,
  NamedArtifact,
  Release,
  Scan,
} from '../../../workflows/domain/model.ts';
import { storePath } from '../../../workflows/domain/names.ts';
import type { DataImportInput } from '../../../workflows/messages.ts';
import type { PlainDeps, PlainGround } from './plain-ground.ts';
import { now, signal, workflow } from './plain-ground.ts';
import { audit, deliveryRow, deliveryRows, importRow, insert, scanRow, set } from './plain-rows.ts';

/** Those of deliveries, scans and imports. */
export function createPlainDeliveries({ systems, scratch }: PlainDeps, ground: PlainGround) {
  const { areas, releases, code, cluster, sources } = systems;
  const { write, beside, decisionRows } = ground;
  const fetchFile = createFetcher(systems);

  return {
    async openDelivery({ delivery, release }: Delivering): Promise<void> {
      await write(...deliveryRows(delivery, release));
    },

    async receiveRelease({ release }: Delivering): Promise<void> {
      for (const { uri, sha256 } of release.files)
        if ((await releases.digest(uri)) !== sha256) throw new Error(`${uri} has other bytes`);
    },

    async lockModel({ application, release }: Delivering): Promise<void> {
      await commitLock(application, release, `ocdl/${release.release}`);
    },

    async runGate({ application, delivery, release }: Delivering): Promise<GateResult> {
      await write(deliveryRow({ ...delivery, state: 'gating', updatedAt: now() }));
      const verdict = await gates.function({
        ...{ application, release, files: release.files, cluster, releases, signal: signal(), report: () => undefined },
      });
      const result = { gate: 'function', ...verdict, seconds: 0 };
      const of = { application: application.application, release: release.release };
      await write(
        insert('authoritative.gate_results', { ...of, ...result, run: workflow() }),
        deliveryRow({ ...delivery, state: 'gating', gates: [result], updatedAt: now() }),
      );
      return result;
    },

    async concludeDelivery({ delivery, release }: Delivering): Promise<Delivery> {
      const row: Delivery = { ...delivery, state: 'deploying', updatedAt: now() };
      await write(...deliveryRows(row, release));
      await beside(release, `delivery-${row.application}-${row.release}-deploying-1`, row);
      return row;
    },

    /** `former`: what was live before. */
    async moveLivePointer({ application, delivery, release, generation, former }: Delivering & Moving): Promise<void> {
      const of = { application: application.application, type: release.type };
      const moved = { ...of, release: release.release, generation, moved_at: now() };
      await write(
        insert('authoritative.moves', { ...moved, key: `${workflow()}/${generation}`, refused: null }),
        set('authoritative.live_pointers', { release: release.release, generation, moved_at: moved.moved_at }, of),
        deliveryRow({ ...delivery, state: 'live', updatedAt: now() }),
        ...(former ? [deliveryRow({ ...former, state: 'superseded', updatedAt: now() })] : []),
        audit(`${workflow()}/live/${generation}`, 'application.live', {
          project: release.project,
          digest: release.digest,
        }),
      );
    },

    async commitLive({ application, release }: Delivering): Promise<void> {
      await commitLock(application, release, 'main');
    },

    async recordLabels({ scan, decision }: { scan: Scan; decision: Decision }): Promise<void> {
      const { project } = scan;
      await write(
        scanRow(scan),
        ...decisionRows(decision, { digest: null, revision: scan.revision }, 'pending'),
        audit(`${workflow()}/${decision.commandId}`, 'finding.confirm', { project, subject: scan.scan }),
      );
    },

    async commitLabels({ scan, decision }: { scan: Scan; decision: Decision }): Promise<Scan> {
      await code.ensure('p/labels');
      const { commit } = await code.commit({
        ...{ repository: 'p/labels', branch: 'main', message: `labels of ${scan.scan}`, author: decision.actor },
        files: { [`labels/${scan.scan}.csv`]: scan.findings.map(({ finding }) => finding).join('\r\n') },
      });
      const row = { ...scan, commit, updatedAt: now() };
      const key = { workflow_id: workflow(), command_id: decision.commandId };
      await write(scanRow(row), set('authoritative.decisions', { status: 'complete' }, key));
      return row;
    },

    async resolveSource({ row }: { row: Import }): Promise<Resolution> {
      const session = await sources.connect(row.source, { project: row.project, nodes: [], signal: signal() });
      const resolution = await session.resolve();
      await session.close();
      await write(importRow({ ...row, resolution, updatedAt: now() }));
      return resolution;
    },

    async acquireData({ row, input, resolution }: Importing): Promise<readonly ImportedFile[]> {
      const session = await sources.connect(row.source, { project: row.project, nodes: [], signal: signal() });
      const parts = join(scratch, row.import);
      const files: ImportedFile[] = [];
      for (const file of resolution.files)
        files.push(
          await fetchFile({
            ...{ input, session, file, isOnly: true, parts, limit: 1e6, signal: signal(), onBytes: () => undefined },
          }),
        );
      await rm(parts, { recursive: true, force: true });
      await session.close();
      await write(importRow({ ...row, state: 'fetching', resolution, files, updatedAt: now() }));
      return files;
    },

    async registerImport({ row, input, files }: Importing & { files: readonly ImportedFile[] }): Promise<Import> {
      const { project, dataset, actor } = row;
      const described = files.map(({ uri: _, ...file }) => file);
      const sheet: DataSheet = {
        ...{ v: 1, project, dataset, import: row.import, source: row.source, revision: null, licence: null },
        ...{ importedBy: actor, importedAt: now(), bytes: 0, files: described, notes: [] },
      };
      const put = async (name: string, text: string): Promise<NamedArtifact> => {
        const path = storePath({ area: 'common', project, path: `${importFolder(input)}/${name}` });
        return { ...(await areas.write(path, once(Buffer.from(text)))), name };
      };
      const done: Import = {
        ...{ ...row, state: 'done', files, sheet: await put('datasheet.json', JSON.stringify(sheet, null, 1)) },
        ...{ sheetText: await put('datasheet.md', sheetText(sheet)), updatedAt: now() },
      };
      const set = { project, dataset, kind: 'training', files, registeredBy: actor, registeredAt: now() };
      await write(
        insert('authoritative.data_sets', { project, dataset, row: JSON.stringify(set) }),
        audit(`${workflow()}/dataset`, 'dataset.registered', { project, subject: dataset }),
        importRow(done),
        audit(`${workflow()}/done`, 'import.done', { project, subject: row.import }),
      );
      return done;
    },
  };

  async function commitLock(application: Application, release: Release, branch: string): Promise<void> {
    await code.ensure(application.repository);
    const files = { 'model.lock': `${JSON.stringify({ [release.type]: release }, null, 2)}\n` };
    await code.commit({ repository: application.repository, branch, files, message: 'live', author: 'mia' });
  }
}

interface Delivering {
  readonly application: Application;
  readonly delivery: Delivery;
  readonly release: Release;
}
interface Moving {
  readonly generation: number;
  readonly former: Delivery | null;
}
interface Importing {
  readonly row: Import;
  readonly input: DataImportInput;
  readonly resolution: Resolution;
}
