// The contract of ArtifactStore, paths and reading: addresses, ranges, listings.
import assert from 'node:assert/strict';
import { storePath, type ArtifactUri, type StorePath } from '../../../workflows/domain/names.ts';
import { collect, freshName, rejects, rejectsAs, type Case } from '../cases.ts';
import { freshFolder, get, pathsBelow, pattern, put, text, type StoreSubject } from './material.ts';

export const readingCases: readonly Case<StoreSubject>[] = [
  {
    name: 'has one address per path and refuses addresses of other stores',
    async run({ store }) {
      const path = freshFolder()('files/model.onnx');
      assert.equal(store.path(store.uri(path)), path);
      for (const foreign of ['other:store/a', 'file:///etc/passwd', `${store.uri(path)}/../../x`, '']) {
        const uri = foreign as ArtifactUri;
        await rejectsAs('InvalidInput', `path of ${foreign}`, (async () => store.path(uri))());
        await rejectsAs('InvalidInput', `reading ${foreign}`, (async () => store.read(uri))());
        await rejectsAs('InvalidInput', `removing ${foreign}`, (async () => store.remove(uri))());
      }
    },
  },
  {
    name: 'refuses invalid paths',
    async run({ store }) {
      const at = freshFolder();
      for (const tail of ['../x', 'a//b', '.tmp/x', 'a/..', 'a\\b', 'a/b/', 'a b', 'a\0b', '%2e%2e/x'])
        await rejectsAs('InvalidInput', `writing to ${tail}`, put(store, `${at()}/${tail}` as StorePath, text('x')));
      for (const path of ['/etc/passwd', '', '..'])
        await rejectsAs('InvalidInput', `writing to "${path}"`, put(store, path as StorePath, text('x')));
    },
  },
  {
    name: 'accepts the longest and deepest path that an area allows',
    async run({ store }) {
      const project = freshName('contract');
      const path = storePath({
        area: 'private',
        project,
        user: 'u'.repeat(63),
        path: [...Array.from({ length: 11 }, () => 'd'.repeat(30)), 'f'.repeat(128)].join('/'),
      });
      await put(store, path, text('deep'));
      assert.equal((await get(store, path)).toString(), 'deep');
      assert.equal(store.path(store.uri(path)), path);
    },
  },
  {
    name: 'finds the file at a path, or reports that there is none',
    async run({ store }) {
      const at = freshFolder();
      const path = at('files/a');
      const before = Date.now();
      assert.equal(await store.stat(store.uri(path)), undefined);
      await rejectsAs('NotFound', 'reading nothing', store.read(store.uri(path)).then(collect));
      await rejectsAs('NotFound', 'digest of nothing', store.digest(store.uri(path)));
      await put(store, path, text('seven b'));
      const found = await store.stat(store.uri(path));
      assert.deepEqual({ ...found, modifiedAt: '' }, { uri: store.uri(path), path, bytes: 7, modifiedAt: '' });
      const modified = Date.parse(found?.modifiedAt ?? '');
      // Clocks of store and test may differ, and some stores keep whole seconds.
      assert.ok(Math.abs(modified - before) < 10 * 60_000, `modified at ${found?.modifiedAt}`);
      assert.equal(found?.modifiedAt, new Date(modified).toISOString());
      assert.equal(await store.stat(store.uri(at())), undefined, 'a folder is no file');
    },
  },
  {
    name: 'removes a file; removing a missing file succeeds',
    async run({ store }) {
      const at = freshFolder();
      await put(store, at('files/a'), text('a'));
      await put(store, at('files/b'), text('b'));
      await store.remove(store.uri(at('files/a')));
      await store.remove(store.uri(at('files/a')));
      await store.remove(store.uri(at('never/was')));
      assert.deepEqual(await pathsBelow(store, at()), [at('files/b')]);
      await put(store, at('files/a'), text('again'));
      assert.equal((await get(store, at('files/a'))).toString(), 'again');
    },
  },
  {
    name: 'reads ranges, truncated at the end of the file',
    async run({ store }) {
      const path = freshFolder()('files/a');
      const bytes = pattern(300_000);
      await put(store, path, bytes);
      const part = async (start: number, end?: number): Promise<Buffer> =>
        collect(await store.read(store.uri(path), { range: { start, ...(end !== undefined && { end }) } }));
      for (const [start, end] of [
        [0, 1],
        [0, 300_000],
        [1, 299_999],
        [299_999, 300_000],
        [5, 5],
        [250_000, 900_000],
      ])
        assert.ok((await part(start ?? 0, end)).equals(bytes.subarray(start, end)), `range ${start} to ${end}`);
      assert.ok((await part(123_456)).equals(bytes.subarray(123_456)));
      assert.equal((await part(300_000)).byteLength, 0);
      assert.equal((await part(400_000)).byteLength, 0);
      for (const [start, end] of [
        [-1, 5],
        [5, 4],
        [0.5, 2],
      ])
        await rejectsAs('InvalidInput', `range ${start} to ${end}`, part(start ?? 0, end));
    },
  },
  {
    name: 'ends a read when the signal is aborted or the reader stops',
    async run({ store }) {
      const path = freshFolder()('files/a');
      await put(store, path, pattern(6_000_000));
      const controller = new AbortController();
      const source = await store.read(store.uri(path), { signal: controller.signal });
      let after = 0;
      await rejects(
        'an aborted read',
        (async () => {
          for await (const chunk of source)
            if (controller.signal.aborted) after += chunk.byteLength;
            else if (chunk.byteLength > 0) controller.abort();
        })(),
      );
      assert.equal(after, 0, `${after} bytes were given after the abort`);
      for await (const chunk of await store.read(store.uri(path))) if (chunk.byteLength > 0) break;
      assert.equal((await get(store, path)).byteLength, 6_000_000);
    },
  },
  {
    name: 'stops computing a digest when the signal is aborted',
    async run({ store }) {
      const path = freshFolder()('files/a');
      await put(store, path, pattern(2_000_000));
      const controller = new AbortController();
      const digest = store.digest(store.uri(path), controller.signal);
      controller.abort();
      await rejects('one aborted meanwhile', digest);
      await rejects('one aborted before', store.digest(store.uri(path), AbortSignal.abort()));
    },
  },
  {
    name: 'refuses page sizes that are zero, fractional or above 1,000',
    async run({ store }) {
      const folder = freshFolder()();
      for (const limit of [0, -1, 1.5, 1001, Number.NaN])
        await rejectsAs('InvalidInput', `a page of ${limit}`, store.list(folder, { limit }));
      assert.deepEqual((await store.list(folder, { limit: 1000 })).files, []);
    },
  },
  {
    name: 'lists a folder by page, ordered by full path',
    async run({ store }) {
      const at = freshFolder();
      const tails = ['B', 'a', 'a-b', 'a.b', 'a0', 'b/c', 'b/c-d/e', 'b/c0/x', 'b-', 'b.c', 'b0', 'Z/z', '_', '1'];
      for (const tail of tails) await put(store, at(`list/${tail}`), text(tail));
      await put(store, at('list-not'), text('beside'));
      await put(store, at('lis/t'), text('beside'));
      const wanted = tails.map((tail) => at(`list/${tail}`)).sort((a, b) => (a < b ? -1 : 1));
      const whole = await store.list(at('list'));
      assert.deepEqual(
        whole.files.map((file) => file.path),
        wanted,
      );
      assert.equal(whole.next, undefined);
      for (const file of whole.files) {
        assert.equal(file.uri, store.uri(file.path));
        assert.equal(file.bytes, file.path.length - `${at('list')}/`.length);
      }
      for (const limit of [1, 3, wanted.length]) {
        const seen: string[] = [];
        let after: StorePath | undefined;
        do {
          const page = await store.list(at('list'), { limit, ...(after && { after }) });
          assert.ok(page.files.length <= limit, `${page.files.length} files on a page of ${limit}`);
          seen.push(...page.files.map((file) => file.path));
          after = page.next;
        } while (after !== undefined && seen.length <= wanted.length);
        assert.deepEqual(seen, wanted, `pages of ${limit}`);
      }
      const after = at('list/b/c');
      const rest = await store.list(at('list'), { after });
      assert.deepEqual(
        rest.files.map((file) => file.path),
        wanted.filter((path) => path > after),
      );
      assert.deepEqual((await store.list(at('empty'))).files, []);
    },
  },
];
