// Material for the cases of stores: fresh folders, bytes and sources.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { ArtifactStore, WriteOptions } from '../../../activities/ports.ts';
import type { Artifact } from '../../../workflows/domain/model.ts';
import { storePath, type Digest, type StorePath } from '../../../workflows/domain/names.ts';
import { collect, freshName, rejectsAs } from '../cases.ts';

export interface StoreSubject {
  readonly store: ArtifactStore;
  readonly close: () => Promise<void>;
}

/** A separate folder for each case. */
export function freshFolder(): (path?: string) => StorePath {
  const project = freshName('contract');
  return (path = 'files') => storePath({ area: 'common', project, path });
}
export const sha256 = (bytes: Uint8Array): Digest => createHash('sha256').update(bytes).digest('hex') as Digest;
export const text = (value: string): Buffer => Buffer.from(value);
/** Bytes without repeated parts, so that a lost, duplicated or moved part is detected. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0, state = seed; at < length; at += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}
export async function* chunked(bytes: Uint8Array, size = 64 * 1024): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}
export async function* failing(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
  throw new Error('planted: the source broke off');
}
/** Yields some bytes, reports it, then waits for the promise. */
export async function* waiting(bytes: Uint8Array, begun: () => void, gate: Promise<void>): AsyncGenerator<Uint8Array> {
  yield bytes;
  begun();
  await gate;
  yield bytes;
}
export function latch(): { promise: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const promise = new Promise<void>((resolve) => (open = resolve));
  return { promise, open };
}
export const put = (
  store: ArtifactStore,
  path: StorePath,
  bytes: Uint8Array,
  options?: WriteOptions,
): Promise<Artifact> => store.write(path, chunked(bytes), options);
export const get = async (store: ArtifactStore, path: StorePath): Promise<Buffer> =>
  collect(await store.read(store.uri(path)));
export const pathsBelow = async (store: ArtifactStore, folder: StorePath): Promise<string[]> =>
  (await store.list(folder)).files.map((file) => file.path);
/** Nothing at the path, nothing in the folder. */
export async function assertNothing(store: ArtifactStore, folder: StorePath, path: StorePath): Promise<void> {
  assert.equal(await store.stat(store.uri(path)), undefined, `${path} is visible`);
  assert.deepEqual(await pathsBelow(store, folder), []);
  await rejectsAs('NotFound', 'reading what was not committed', get(store, path));
}
