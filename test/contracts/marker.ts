// The contract of a marked system: it belongs to its first claimer permanently, and keeps the newest checkpoint.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Checkpoint, MarkedSystem } from '../../activities/installation.ts';
import type { Marker } from '../../activities/ports.ts';
import { registerCases, type Case } from './cases.ts';

export interface MarkerSubject {
  /** The marker of an unclaimed system. */
  readonly marked: Marker & Partial<Pick<MarkedSystem, 'checkpoints'>>;
  /** The same system, as another process opens it. */
  readonly another: () => Promise<Marker & Partial<Pick<MarkedSystem, 'checkpoints'>>>;
  readonly close: () => Promise<void>;
}

const checkpoint = (installation: string, tick: number): Checkpoint => ({
  ...{
    v: 1,
    installation,
    tick,
    accepted: 0,
    audit: { seq: tick * 10, hash: 'ab'.repeat(32) },
    kept: { areas: tick - 1 },
  },
  at: '2026-01-02T03:04:05.000Z',
});

export const markerCases: readonly Case<MarkerSubject>[] = [
  {
    name: 'has no owner, then one of two that claim it concurrently, then no other',
    async run({ marked, another }) {
      const other = await another();
      assert.equal(await marked.owner(), undefined);
      const ids: readonly string[] = [randomUUID(), randomUUID()];
      const answers = await Promise.all([marked.claim(ids[0] ?? ''), other.claim(ids[1] ?? '')]);
      const winner = await (await another()).owner();
      assert.ok(winner !== undefined && ids.includes(winner), `${winner} is none of ${ids.join(', ')}`);
      assert.deepEqual(answers, [winner, winner]);
      assert.equal(await marked.claim(randomUUID()), winner);
      assert.equal(await other.claim(winner), winner);
      assert.deepEqual([await marked.owner(), await other.owner()], [winner, winner]);
    },
  },
  {
    name: 'keeps the newest checkpoint, even if a slow writer comes last',
    async run({ marked, another }) {
      const { checkpoints } = marked;
      assert.ok(checkpoints, 'the system keeps no checkpoints');
      const installation = await marked.claim(randomUUID());
      assert.equal(await checkpoints.newest(), undefined);
      for (const tick of [1, 2, 3, 4, 5]) await checkpoints.keep(checkpoint(installation, tick));
      const seen = (await another()).checkpoints;
      assert.deepEqual(await seen?.newest(), checkpoint(installation, 5));
      await checkpoints.keep(checkpoint(installation, 7));
      await checkpoints.keep(checkpoint(installation, 6));
      assert.equal((await seen?.newest())?.tick, 7);
    },
  },
];

/** Runs the contract as jest tests; `open` is called once. The events keep no checkpoints, and a home has its own. */
export function markerContract(
  name: string,
  open: () => Promise<MarkerSubject>,
  { checkpoints = true }: { readonly checkpoints?: boolean } = {},
): void {
  const cases = checkpoints ? markerCases : markerCases.slice(0, 1);
  registerCases(`${name} keeps the contract of marked systems`, cases, open);
}
