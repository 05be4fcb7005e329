// Passages of released models: deliveries, an application's loop, labels of a scan; and imports of data.
import type { Import } from '../../../workflows/domain/import.ts';
import { newImport } from '../../../workflows/domain/import.ts';
import type { Application, Delivery, Release, Scan } from '../../../workflows/domain/model.ts';
import type { Digest } from '../../../workflows/domain/names.ts';
import { wake, workflowId } from '../../../workflows/messages.ts';
import { auditEntry } from '../../workflows/passage.ts';
import type { Passage, PassageScene } from './passage-scene.ts';
import { now, timed } from './passage-scene.ts';
import { firstRows, upsert } from './plain-rows.ts';
import { decide, plainApplication, plainDelivery, plainFeedback, plainImport, take } from './plain-workflows.ts';
import type { LifecycleStage } from './stage.ts';

/** The passages `application`, `delivery`, `feedback` and `dataImport`. */
export async function createDeliveryPassages(stage: LifecycleStage, scene: PassageScene): Promise<readonly Passage[]> {
  const { records, client, gateway, watches, write } = stage;
  const { started, startPlain, give, decisionOf, end, layRelease, addApplication } = scene;

  const shops = {
    platform: await addApplication('platform', 'own-delivery'),
    plain: await addApplication('plain', 'plain-delivery'),
  };
  const delivery: Passage = {
    name: 'delivery',
    async platform(n) {
      const { application } = shops.platform;
      const { release, type } = await layRelease('platform', 'own-delivery', n);
      await records.openDelivery(workflowId.application({ application, type }));
      const input = { application, type, release };
      const id = workflowId.delivery(input);
      const ms = await timed(() =>
        client.workflow.execute('delivery', { workflowId: id, taskQueue: 'ocdl', args: [input] }),
      );
      // The next release is delivered although nobody moves the pointer.
      await end(id);
      await forget(application, release);
      return ms;
    },
    async plain(n) {
      const release = await layRelease('plain', 'plain-delivery', n);
      const given = { application: shops.plain, release, delivery: receivedOf(shops.plain, release) };
      await write(firstRows.delivery(given.delivery, release));
      return timed(async () =>
        (await startPlain(plainDelivery.name, `plain-delivery/${release.release}`, given)).result(),
      );
    },
  };
  /** A delivery that is as good as failed: the next release comes after it. */
  async function forget(application: string, release: string): Promise<void> {
    const key = { application, release };
    const columns = { ...key, state: 'failed', standing: 3, updated_at: now(), row: '{}' };
    await write([upsert('projection.deliveries', columns, ['application', 'release'])]);
  }

  const consumers = {
    platform: await addApplication('platform', 'own-app'),
    plain: await addApplication('plain', 'plain-app'),
  };
  const applicationId = workflowId.application({ application: consumers.platform.application, type: 'own-app' });
  const began = watches.platform.until(applicationId, ({ activity }) => activity === 'openDelivery');
  await gateway.startApplication({ application: consumers.platform.application, type: 'own-app' }, 'p');
  await began;
  await startPlain(plainApplication.name, 'plain-application', { application: consumers.plain });
  const application: Passage = {
    name: 'application',
    async platform(n) {
      await layRelease('platform', 'own-app', n);
      const live = watches.platform.until(applicationId, ({ activity }) => activity === 'commitLive');
      const ms = await timed(async () => {
        await client.workflow.getHandle(applicationId).signal(wake);
        await live;
      });
      await watches.platform.rest();
      return ms;
    },
    async plain(n) {
      const release = await layRelease('plain', 'plain-app', n);
      const live = watches.plain.until('plain-application', ({ activity }) => activity === 'commitLive');
      const ms = await timed(async () => {
        await client.workflow.getHandle('plain-application').signal(take, release);
        await live;
      });
      await watches.plain.rest();
      return ms;
    },
  };

  const scanned = await layRelease('platform', 'kind', 1_000_000);
  const scanOf = (scan: string): Scan => ({
    ...{ scan, project: 'p', application: shops.platform.application, type: 'kind', release: scanned.release },
    ...{ state: 'open', revision: 0, commit: null, keyId: 'k', updatedAt: now() },
    findings: ['one', 'two', 'three'].map((finding) => ({
      ...{ finding, name: finding, path: `src/${finding}.c`, vulnerable: true, probability: 0.9 },
      ...{ source: 'a'.repeat(64) as Digest, label: null },
    })),
  });
  const feedback: Passage = {
    name: 'feedback',
    async platform(n) {
      const scan = scanOf(`scan-${n}`);
      const input = { project: 'p', scan: scan.scan };
      const id = workflowId.feedback(input);
      const labelled = watches.platform.until(id, ({ activity }) => activity === 'commitLabels');
      const ms = await timed(async () => {
        const start = { ...started, workflowId: id, type: 'feedback' as const, input, askedBy: scan.application };
        await records.recordStart(start, auditEntry('scan.reported'), [{ kind: 'scan', row: scan }]);
        await gateway.startFeedback(input);
        await give(id, { name: 'confirm', actor: 'eve', revision: 0, args: { findings: ['one', 'two', 'three'] } });
        await labelled;
      });
      await watches.platform.rest();
      await end(id);
      return ms;
    },
    async plain(n) {
      const scan = scanOf(`plain-scan-${n}`);
      const id = `plain-feedback/${scan.scan}`;
      const labelled = watches.plain.until(id, ({ activity }) => activity === 'commitLabels');
      const ms = await timed(async () => {
        await write(firstRows.scan(scan));
        const handle = await startPlain(plainFeedback.name, id, { scan });
        await handle.signal(decide, decisionOf('confirm', 'eve'));
        await labelled;
      });
      await watches.plain.rest();
      await end(id);
      return ms;
    },
  };

  const importOf = (id: string) => ({
    ...{
      project: 'p',
      import: id,
      dataset: `set-${id}`,
      source: { kind: 'https', url: 'https://a.example/r' } as const,
    },
    ...{ unpack: false, sha256: null, actor: 'sam' },
  });
  const dataImport: Passage = {
    name: 'dataImport',
    platform: (n) =>
      timed(async () => {
        const input = importOf(`i-${n}`);
        const id = workflowId.dataImport(input);
        const start = { ...started, workflowId: id, type: 'dataImport' as const, input, askedBy: 'sam' };
        await records.recordStart(start, auditEntry('import.started'), []);
        await records.recordImport(newImport(input, 'resolving', now()), null);
        await gateway.startImport(input);
        await client.workflow.getHandle(id).result();
      }),
    plain: (n) =>
      timed(async () => {
        const input = importOf(`plain-i-${n}`);
        const row: Import = newImport(input, 'resolving', now());
        await write(firstRows.import(row));
        await (await startPlain(plainImport.name, `plain-import/${input.import}`, { row, input })).result();
      }),
  };

  return [application, delivery, feedback, dataImport];
}

const receivedOf = ({ application }: Application, { release, type }: Release): Delivery => ({
  ...{ application, release, type, state: 'received', gates: [], detail: '', updatedAt: now() },
});
