// Writes files into the store: temporary file, checks, the rights of the target folder, then a rename.
import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { Digest, StorePath } from '../../../workflows/domain/names.ts';
import { failure, isFailure } from '../../failures.ts';
import type { WriteOptions } from '../../ports.ts';
import { LEFTOVER_AGE_MS } from '../durable-file.ts';
import { checkDigest, contended, takeChunks } from '../store-rules.ts';
import { fileAcl, folderAcl, inheritedRights } from './access.ts';
import type { DataNodes } from './datanodes.ts';
import { isRefusal, problem } from './errors.ts';
import type { FileStatus, NameNode } from './namenode.ts';

/** How many times to retry when creations and removals of the same path collide. */
const RENAME_ATTEMPTS = 10;

interface Content {
  readonly sha256: Digest;
  readonly bytes: number;
}

export interface Drafts {
  readonly write: (path: StorePath, source: AsyncIterable<Uint8Array>, options: WriteOptions) => Promise<Content>;
  /** Creates the folder of drafts and removes old ones. */
  readonly prepare: () => Promise<void>;
  /** Removes drafts of dead writers that are more than a day old. */
  readonly sweep: () => Promise<void>;
  /** Tests with a draft everything that the store needs of HDFS. */
  readonly probe: () => Promise<void>;
}

/** Opens the drafts of the store in `root`; `find` and `digestOf` read its files. */
export function createDrafts(store: {
  readonly nameNode: NameNode;
  readonly dataNodes: DataNodes;
  readonly root: string;
  readonly find: (path: StorePath, signal?: AbortSignal) => Promise<FileStatus | undefined>;
  readonly digestOf: (path: StorePath, signal?: AbortSignal) => Promise<Digest>;
  readonly onWarn: (message: string) => void;
}): Drafts {
  const { nameNode, dataNodes, root, find, digestOf, onWarn } = store;
  const folder = `${root}/.tmp`;

  /** Never throws: a draft that cannot be removed is a leftover, and a missing one is fine. */
  const discard = (draft: string): Promise<void> =>
    nameNode
      .remove(draft)
      .catch((error: unknown) => onWarn(`HDFS: the temporary file ${draft} could not be removed: ${String(error)}`));

  /** Streams the source into the draft and verifies what HDFS stored. */
  async function fill(
    draft: string,
    path: StorePath,
    source: AsyncIterable<Uint8Array>,
    options: WriteOptions,
  ): Promise<Content> {
    const { expect, signal } = options;
    const hash = createHash('sha256');
    let bytes = 0;
    async function* hashed(): AsyncGenerator<Uint8Array> {
      for await (const chunk of takeChunks(path, source, options)) {
        hash.update(chunk);
        bytes += chunk.byteLength;
        yield chunk;
      }
    }
    await dataNodes.upload(draft, hashed(), {
      ...(expect?.bytes !== undefined && { bytes: expect.bytes }),
      ...(signal && { signal }),
    });
    const sha256 = hash.digest('hex') as Digest;
    checkDigest(path, expect?.sha256, sha256);
    const stored = (await nameNode.stat(draft, signal))?.length;
    if (stored !== bytes) throw problem('DATANODE_LOST', `HDFS stored only ${stored} of ${bytes} bytes of ${path}`);
    return { sha256, bytes };
  }

  /** The ACL of a file in this folder; creates the folder if missing. Unlike a creation, a rename inherits no rights. */
  async function aclIn(parent: string, signal?: AbortSignal): Promise<string> {
    const known = await nameNode.acl(parent, signal).catch((error: unknown) => {
      // HDFS reports that a file is above the folder; creating the folder gives a clear error.
      if (isRefusal(error, 'AccessControlException')) return undefined;
      throw error;
    });
    if (!known) await nameNode.makeFolder(parent, signal);
    return fileAcl(inheritedRights(known ?? (await nameNode.acl(parent, signal)) ?? []));
  }

  /** Whether the path holds the draft's bytes; `undefined` if it does not exist. */
  async function holds(path: StorePath, draft: string, content: Content, signal?: AbortSignal) {
    const [stored, given] = [await find(path, signal), await nameNode.stat(draft, signal)];
    if (!stored) return undefined;
    if (stored.length !== content.bytes) return false;
    try {
      // Different checksums with the same block size mean different bytes. Equal checksums prove nothing.
      // A missing draft means that it was renamed and the response was lost.
      if (given?.blockSize === stored.blockSize) {
        const one = await dataNodes.checksum(`${root}/${path}`, signal);
        const two = await dataNodes.checksum(draft, signal);
        if (one.split(':')[0] === two.split(':')[0] && one !== two) return false;
      }
      return (await digestOf(path, signal)) === content.sha256;
    } catch (error) {
      if (isFailure(error, 'NotFound') || isRefusal(error, 'FileNotFoundException')) return undefined;
      throw error;
    }
  }

  /**
   * Renames the draft to its path (`true`), or finds the same bytes there. After the rename the signal is ignored: a visible
   * file must also get the current rights of its folder.
   */
  async function commit(draft: string, path: StorePath, content: Content, options: WriteOptions): Promise<boolean> {
    const { ifExists, signal } = options;
    const target = `${root}/${path}`;
    const parent = target.slice(0, target.lastIndexOf('/'));
    for (let attempt = 1; attempt <= RENAME_ATTEMPTS; attempt += 1) {
      const acl = await aclIn(parent, signal);
      try {
        await nameNode.setAcl(draft, acl, signal);
        signal?.throwIfAborted();
        await nameNode.rename(draft, target, ifExists === 'replace' ? 'OVERWRITE' : 'NONE');
        // Changes of access between rename and this point did not affect this file.
        const now = await aclIn(parent);
        if (now !== acl) await nameNode.setAcl(target, now);
        return true;
      } catch (error) {
        // The path is taken, the folder was removed meanwhile, or a request whose response was lost already renamed it.
        if (!isRefusal(error, 'FileAlreadyExistsException', 'FileNotFoundException')) throw error;
      }
      const same = await holds(path, draft, content, signal);
      if (same === false && ifExists !== 'replace')
        throw failure(
          'Conflict',
          `${path} already exists with different bytes (given ${content.bytes} bytes, sha256:${content.sha256})`,
        );
      if (same) {
        // An earlier attempt may have ended between its rename and this step.
        await nameNode.setAcl(target, await aclIn(parent));
        return false;
      }
    }
    throw contended(path);
  }

  async function sweep(): Promise<void> {
    for await (const page of nameNode.list(folder))
      for (const { pathSuffix, modificationTime } of page)
        if (Date.now() - modificationTime > LEFTOVER_AGE_MS) await discard(`${folder}/${pathSuffix}`);
  }

  return {
    async write(path, source, options) {
      options.signal?.throwIfAborted();
      const draft = `${folder}/${randomUUID()}`;
      let renamed = false;
      try {
        const content = await fill(draft, path, source, options);
        options.signal?.throwIfAborted();
        renamed = await commit(draft, path, content, options);
        return content;
      } catch (error) {
        throw inTheWay(error)
          ? failure(
              'Conflict',
              `${path} is an existing folder, or one of its parent folders is a file: choose another path`,
            )
          : error;
      } finally {
        if (!renamed) await discard(draft);
      }
    },

    async prepare() {
      await nameNode.makeFolder(folder);
      await nameNode.setAcl(folder, folderAcl(new Map()));
      await sweep();
    },

    sweep,

    async probe() {
      const draft = `${folder}/${randomUUID()}`;
      const given = Buffer.from('probe');
      try {
        await dataNodes.upload(draft, Readable.from([given]), {});
        const stored = await buffer(dataNodes.download(draft, {}));
        if (!given.equals(stored)) throw new Error(`HDFS returned different bytes than were written to ${draft}`);
        await nameNode.setAcl(draft, fileAcl(new Map([['nobody', 'r-x']])));
        // Only a member of the supergroup can change the owner.
        await nameNode.setOwner(draft, 'nobody');
      } finally {
        await discard(draft);
      }
    },
  };
}

/** Whether the refusal means that a folder is in the place of a file, or the reverse. */
const inTheWay = (error: unknown): boolean =>
  isRefusal(error, 'ParentNotDirectoryException') ||
  (isRefusal(error, 'IOException') && error.message.includes('must both be directories')) ||
  (isRefusal(error, 'FileAlreadyExistsException') && error.message.includes('not a directory'));
