// The contract of ArtifactStore, writing: complete files or none, correct bytes, one winner.
import assert from 'node:assert/strict';
import { isFailure } from '../../../activities/failures.ts';
import { patience, rejects, rejectsAs, type Case } from '../cases.ts';
import {
  assertNothing,
  failing,
  freshFolder,
  get,
  latch,
  pathsBelow,
  pattern,
  put,
  sha256,
  text,
  waiting,
  type StoreSubject,
} from './material.ts';

export const writingCases: readonly Case<StoreSubject>[] = [
  {
    name: 'returns what was written, of any size, with its digest and length',
    async run({ store }) {
      const at = freshFolder();
      for (const length of [0, 1, 65_536, 3_000_001]) {
        const path = at(`files/size-${length}`);
        const bytes = pattern(length);
        const artifact = await put(store, path, bytes);
        assert.deepEqual({ ...artifact }, { uri: store.uri(path), sha256: sha256(bytes), bytes: length });
        assert.ok((await get(store, path)).equals(bytes), `${length} bytes came back changed`);
        assert.equal(await store.digest(store.uri(path)), sha256(bytes));
      }
    },
  },
  {
    name: 'stores nothing if the source fails',
    async run({ store }) {
      const at = freshFolder();
      for (const length of [10, 2_000_000]) {
        const error = await store.write(at('files/a'), failing(pattern(length))).catch((reason: unknown) => reason);
        assert.match(String(error), /planted/, 'the source’s own error comes out');
        await assertNothing(store, at(), at('files/a'));
      }
    },
  },
  {
    name: 'keeps the previous bytes if a replacement fails',
    async run({ store }) {
      const path = freshFolder()('files/a');
      await put(store, path, text('former'));
      await rejects('breaking off', store.write(path, failing(text('new')), { ifExists: 'replace' }));
      await rejects('wrong', put(store, path, text('new'), { ifExists: 'replace', expect: { bytes: 9 } }));
      assert.equal((await get(store, path)).toString(), 'former');
    },
  },
  {
    name: 'refuses bytes that do not match the expected digest, and stores nothing',
    async run({ store }) {
      const at = freshFolder();
      const path = at('files/a');
      const bytes = pattern(100_000);
      for (const expect of [{ sha256: sha256(text('other')) }, { bytes: 99_999 }, { bytes: 100_001 }, { bytes: 0 }]) {
        await rejectsAs('DigestMismatch', JSON.stringify(expect), put(store, path, bytes, { expect }));
        await assertNothing(store, at(), path);
      }
      await put(store, path, bytes, { expect: { sha256: sha256(bytes), bytes: 100_000 } });
      assert.ok((await get(store, path)).equals(bytes));
    },
  },
  {
    name: 'accepts no more than the limit, even from an endless source',
    async run({ store }) {
      const at = freshFolder();
      async function* endless(): AsyncGenerator<Uint8Array> {
        for (;;) yield pattern(100_000);
      }
      const path = at('files/a');
      await rejectsAs('InvalidInput', 'an endless source', store.write(path, endless(), { limit: 1_000_000 }));
      await rejectsAs('InvalidInput', 'one byte more', put(store, path, pattern(1001), { limit: 1000 }));
      await assertNothing(store, at(), path);
      await put(store, path, pattern(1000), { limit: 1000 });
      assert.equal((await store.stat(store.uri(path)))?.bytes, 1000);
    },
  },
  {
    name: 'ends a write when the signal is aborted, even while the source hangs',
    async run({ store }) {
      const at = freshFolder();
      const path = at('files/a');
      const never = latch();
      const begun = latch();
      const controller = new AbortController();
      const source = waiting(text('some'), begun.open, never.promise);
      const write = store.write(path, source, { signal: controller.signal });
      write.catch(() => undefined);
      await begun.promise;
      controller.abort();
      // A store that waits for the source would never end.
      const hanging = setTimeout(never.open, patience.ms);
      const aborted = Date.now();
      await rejects('an aborted write', write);
      clearTimeout(hanging);
      assert.ok(Date.now() - aborted < patience.ms, 'the write did not end while the source hung');
      await assertNothing(store, at(), path);
      await rejects('one aborted before', put(store, path, text('x'), { signal: AbortSignal.abort() }));
      await assertNothing(store, at(), path);
      never.open();
    },
  },
  {
    name: 'ends a write when the signal is aborted at any point between two chunks',
    async run({ store }) {
      const at = freshFolder();
      const path = at('files/a');
      const never = latch();
      // The store takes a chunk within some turns of the microtask queue; until it requests the next one, nothing waits for the source.
      for (let turns = 0; turns < 30; turns += 1) {
        const controller = new AbortController();
        const abortLater = async (): Promise<void> => {
          for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
          controller.abort();
        };
        async function* source(): AsyncGenerator<Uint8Array> {
          void abortLater();
          yield text('some');
          await never.promise;
        }
        const hanging = setTimeout(never.open, patience.ms);
        const begun = Date.now();
        await rejects(`aborted after ${turns} turns`, store.write(path, source(), { signal: controller.signal }));
        clearTimeout(hanging);
        assert.ok(Date.now() - begun < patience.ms, `aborted after ${turns} turns, it went on until the source ended`);
      }
      await assertNothing(store, at(), path);
      never.open();
    },
  },
  {
    name: 'does not show a file while it is being written',
    async run({ store }) {
      const at = freshFolder();
      const path = at('files/a');
      const begun = latch();
      const gate = latch();
      const write = store.write(path, waiting(pattern(1_000_000), begun.open, gate.promise));
      await begun.promise;
      try {
        await assertNothing(store, at(), path);
      } finally {
        gate.open();
        await write;
      }
      assert.deepEqual(await pathsBelow(store, at()), [path]);
    },
  },
  {
    name: 'accepts the same bytes again, and refuses different bytes at the same path',
    async run({ store }) {
      const path = freshFolder()('files/a');
      const first = await put(store, path, text('first'));
      assert.deepEqual({ ...(await put(store, path, text('first'), { ifExists: 'same' })) }, { ...first });
      await rejectsAs('Conflict', 'different bytes', put(store, path, text('other')));
      await rejectsAs('Conflict', 'same length', put(store, path, text('fIrst'), { ifExists: 'same' }));
      assert.equal((await get(store, path)).toString(), 'first');
    },
  },
  {
    name: 'lets one of many concurrent writers succeed; the others get an error',
    async run({ store }) {
      const path = freshFolder()('files/a');
      const entrants = Array.from({ length: 12 }, (_, at) => pattern(50_000, at + 1));
      const outcomes = await Promise.allSettled(entrants.map((bytes) => put(store, path, bytes)));
      const winners = entrants.filter((_, at) => outcomes[at]?.status === 'fulfilled');
      assert.equal(winners.length, 1, `${winners.length} writers were told that theirs is stored`);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') assert.ok(isFailure(outcome.reason, 'Conflict'), String(outcome.reason));
      assert.ok((await get(store, path)).equals(winners[0] ?? Buffer.alloc(0)), 'the winner’s bytes are not stored');
    },
  },
  {
    name: 'lets concurrent writers of the same bytes all succeed',
    async run({ store }) {
      const path = freshFolder()('files/a');
      const bytes = pattern(50_000);
      const written = await Promise.all(Array.from({ length: 8 }, () => put(store, path, bytes)));
      for (const artifact of written) assert.equal(artifact.sha256, sha256(bytes));
      assert.ok((await get(store, path)).equals(bytes));
    },
  },
  {
    name: 'replaces atomically: a reader sees the old bytes or the new ones',
    async run({ store }) {
      const path = freshFolder()('files/a');
      const versions = [1, 2, 3, 4].map((seed) => pattern(200_000, seed));
      const known = new Set(versions.map(sha256));
      await put(store, path, pattern(200_000, 1));
      let writing = true;
      const reader = (async () => {
        while (writing) {
          const seen = sha256(await get(store, path));
          assert.ok(known.has(seen), 'a reader saw a mixture');
        }
      })();
      // Awaited at the end; it may fail before that.
      reader.catch(() => undefined);
      try {
        for (const bytes of versions) await put(store, path, bytes, { ifExists: 'replace' });
      } finally {
        writing = false;
        await reader;
      }
      assert.ok((await get(store, path)).equals(versions[3] ?? Buffer.alloc(0)));
    },
  },
  {
    name: 'keeps concurrent writes separate',
    async run({ store }) {
      const at = freshFolder();
      const files = Array.from({ length: 10 }, (_, seed) => ({
        path: at(`many/f${seed}`),
        bytes: pattern(70_000, seed + 1),
      }));
      await Promise.all(files.map(({ path, bytes }) => put(store, path, bytes)));
      for (const { path, bytes } of files) assert.ok((await get(store, path)).equals(bytes), `${path} is changed`);
      assert.deepEqual(
        await pathsBelow(store, at('many')),
        files.map(({ path }) => path),
      );
    },
  },
];
