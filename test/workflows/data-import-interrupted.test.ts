// Interrupted imports: a cancelled import leaves nothing; an import whose worker dies is resumed.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { jest } from '@jest/globals';
import { pino } from 'pino';
import { sweep } from '../../api/sweep.ts';
import { checkout } from '../../workers/wiring.ts';
import { layRelease, layRepository } from '../adapters/github-api.ts';
import { serveFile } from '../adapters/web-server.ts';
import { PATIENCE_MS, project, sha256, useImportWorld } from './import-world.ts';
import { until } from './until.ts';

jest.setTimeout(2 * PATIENCE_MS);

const world = useImportWorld();

describe('an interrupted import', () => {
  /** Starts an import of a complete file and a slow one; waits until the slow download is running. */
  async function underWay(id: string) {
    const bytes = randomBytes(4_000_000);
    layRepository(world().site, serveFile(() => Buffer.alloc(0)).handler);
    const first = serveFile(() => Buffer.from('first'));
    // Half a minute by default: a dead worker is detected after 15 s without a heartbeat, and a cancellation arrives with one.
    const pace = { ms: 500 };
    const slow = serveFile(() => bytes, { paceMs: () => pace.ms });
    const assets = {
      'first.csv': { handler: first.handler, bytes: 5 },
      'slow.bin': { handler: slow.handler, bytes: bytes.length },
    };
    layRelease(world().site, 'v1.0', assets, 10);
    const handle = await world().start(id, { kind: 'github-release', repository: 'octo/rows', tag: 'v1.0' });
    await until('bytes', async () => (await world().rowOf(id)).bytes > 500_000);
    return { handle, bytes, first, slow, pace };
  }

  it('that is cancelled by its importer ends and removes its stored files', async () => {
    const { handle, bytes, slow } = await underWay('cancelled');
    expect(await world().filesOf('cancelled')).toEqual(['files/first.csv']);
    await world().gateway.cancel(handle.workflowId);
    await expect(handle.result()).rejects.toThrow();
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    expect(await world().rowOf('cancelled')).toMatchObject({
      state: 'cancelled',
      detail: expect.stringContaining('cancelled') as string,
    });
    await world().leftNothing('cancelled');
    expect(slow.sent()).toBeLessThan(bytes.length);
  });

  it('that an operator terminates has failed, and its stored files are removed', async () => {
    const { handle, bytes, slow } = await underWay('terminated');
    expect(await world().filesOf('terminated')).toEqual(['files/first.csv']);
    await handle.terminate('by hand');
    const { records, gateway } = world();
    const report = await sweep({ records, workflows: gateway, log: pino({ level: 'silent' }) });
    expect(report).toMatchObject({ ended: [handle.workflowId], restarted: [], terminated: [] });
    const over = await until('it to be over', async () => {
      const row = await world().rowOf('terminated');
      return row.state !== 'fetching' && row;
    });
    expect(over).toMatchObject({ state: 'failed', detail: 'ended by an operator: start another one' });
    expect((await records.start(handle.workflowId))?.closedAt).not.toBeNull();
    // Its fetching hears of it with a heartbeat, and takes away what it has stored since.
    await until('the fetching to have stopped', async () => {
      const before = slow.sent();
      await sleep(2_000);
      return slow.sent() === before;
    });
    expect(slow.sent()).toBeLessThan(bytes.length);
    await until('the parts to be gone', async () =>
      world()
        .leftNothing('terminated')
        .then(
          () => true,
          () => false,
        ),
    );
    const { rows } = await records.audit({ subject: 'p/imports/terminated' });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(['import.started', 'import.failed']);
    expect(await sweep({ records, workflows: gateway, log: pino({ level: 'silent' }) })).toMatchObject({ ended: [] });
  });

  it('resumes on another worker after the first, whose clock is ahead, stops', async () => {
    const { handle, bytes, pace } = await underWay('ahead');
    await world().stopWorker();
    const updatedAt = new Date(Date.now() + 3_600_000).toISOString();
    await world().records.recordImport({ ...(await world().rowOf('ahead')), updatedAt }, null);
    pace.ms = 0;
    await world().startWorker();
    expect(await handle.result()).toMatchObject({ state: 'done', bytes: 5 + bytes.length });
  });

  it('resumes on another worker after a kill, without repeating or restarting', async () => {
    await world().stopWorker();
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', join(import.meta.dirname, 'import-worker.ts'), JSON.stringify(world().settings)],
      { cwd: checkout, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    );
    const died = new Promise<string | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    const { handle, bytes, first, slow, pace } = await underWay('killed').finally(() => child.kill('SIGKILL'));
    expect(await died).toBe('SIGKILL');
    pace.ms = 0;
    const before = slow.sent();
    expect(before).toBeLessThan(bytes.length);
    expect(await world().filesOf('killed')).toEqual(['files/first.csv']);
    await world().startWorker();
    expect(await handle.result()).toMatchObject({ state: 'done', bytes: 5 + bytes.length });
    const set = await world().records.dataSet(project, 'set-killed');
    expect(set?.files.map(({ name, sha256: digest }) => [name, digest])).toEqual([
      ['first.csv', sha256('first')],
      ['slow.bin', sha256(bytes)],
    ]);
    expect(await world().filesOf('killed')).toEqual([
      'datasheet.json',
      'datasheet.md',
      'files/first.csv',
      'files/slow.bin',
    ]);
    // The first file was complete; only the rest of the second one was requested.
    expect(first.sent()).toBe(5);
    const resumed = Number(/\d+/.exec(world().site.asked.at(-1)?.headers.range ?? '')?.[0]);
    expect(resumed).toBeGreaterThan(0);
    const { rows } = await world().records.audit({ subject: 'p/imports/killed' });
    expect(rows.map(({ entry }) => entry.kind)).toEqual(['import.started', 'import.done']);
  });
});
