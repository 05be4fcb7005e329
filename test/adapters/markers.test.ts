// Marked systems, embedded: store, repositories, events, home and a namespace of Temporal keep the contract; checkpoints stay few.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { createGitHost } from '../../activities/adapters/git.ts';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import { createLocalLog } from '../../activities/adapters/local-log.ts';
import { markedCode, markedStore } from '../../activities/marked-systems.ts';
import { markedHome, markedNamespace } from '../../workers/marked-systems.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { markerContract } from '../contracts/marker.ts';
import { temporalServer } from '../servers.ts';
import { openNamespace } from '../workflows/namespace.ts';
import { scratchFolder } from './scratch-folder.ts';

markerContract('a store on disk', async () => {
  const { path, remove } = await scratchFolder();
  const another = async () => markedStore('areas', path, await createLocalDisk({ root: path, name: 'areas' }));
  return { marked: await another(), another, close: remove };
});

markerContract('repositories on disk', async () => {
  const { path, remove } = await scratchFolder();
  const another = async () => markedCode(path, await createGitHost({ root: path }));
  return { marked: await another(), another, close: remove };
});

markerContract(
  'a log on disk',
  async () => {
    const { path, remove } = await scratchFolder();
    const buses = [await createLocalLog({ root: path }), await createLocalLog({ root: path })];
    const close = async (): Promise<void> => {
      for (const bus of buses) await bus.close();
      await remove();
    };
    const [one, other] = buses.map(({ marker }) => marker);
    assert.ok(one && other);
    return { marked: one, another: async () => other, close };
  },
  { checkpoints: false },
);

markerContract(
  'a home',
  async () => {
    const { path, remove } = await scratchFolder();
    const { checkpoints: _, ...marked } = markedHome(join(path, 'home'));
    // Each of several homes has its own checkpoints, and the newest one counts.
    return { marked, another: async () => marked, close: remove };
  },
  { checkpoints: false },
);

markerContract('a Temporal namespace', async () => {
  const { address } = await temporalServer();
  const namespace = `marker-${randomUUID()}`;
  const connection = await Connection.connect({ address });
  await openNamespace(connection, namespace);
  const another = async () => markedNamespace(connection, { address, namespace });
  return { marked: await another(), another, close: () => connection.close() };
});

describe('checkpoints', () => {
  it('of a store are pruned, and those of a home are read back', async () => {
    const { path, remove } = await scratchFolder();
    try {
      const store = await createLocalDisk({ root: path, name: 'areas' });
      const { checkpoints } = markedStore('areas', path, store);
      const home = markedHome(join(path, 'home'));
      const base = { v: 1, installation: randomUUID(), accepted: 0, audit: { seq: 0, hash: '' }, kept: {} } as const;
      for (let tick = 1; tick <= 8; tick += 1) {
        const given = { ...base, tick, at: '2026-01-02T03:04:05.000Z' };
        await checkpoints?.keep(given);
        await home.checkpoints?.keep(given);
      }
      expect((await store.list('ocdl/checkpoints' as StorePath)).files).toHaveLength(3);
      expect((await home.checkpoints?.newest())?.tick).toBe(8);
      expect(await home.owner()).toBeUndefined();
    } finally {
      await remove();
    }
  });
});
