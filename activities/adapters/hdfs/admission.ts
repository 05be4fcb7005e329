// Grants people access to an area and denies it to everyone else, with owners, modes and ACLs that the NameNode enforces.
import { dataSetsFolder, locationOf, type StorePath } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import { folderAcl, fileAcl, PASSAGE, readOnly, rightsOf, type Access } from './access.ts';
import { isRefusal } from './errors.ts';
import type { FileStatus, NameNode } from './namenode.ts';

/** Concurrent changes: enough to hide the network's delay, few compared to a NameNode's handlers (10 by default). */
const AT_ONCE = 4;

/** Sticky bit: only the owner of an entry can remove or rename it. People's rights are in the ACL. */
const STICKY = '1770';

/**
 * Gives exactly these people access to an area and all its content. The area itself is changed first, so that excluded
 * people cannot traverse it while its content is still being changed. Repeating the call is harmless.
 *
 * Registered data sets are in one folder of the common area, which the platform owns and people can only read. The folder
 * above it is sticky, because its writers could otherwise rename or delete it.
 */
export async function admitPeople(
  nameNode: NameNode,
  options: { readonly root: string; readonly user: string; readonly signal?: AbortSignal | undefined },
  folder: StorePath,
  access: Access,
): Promise<void> {
  const { root, user, signal } = options;
  const rights = rightsOf(access);
  const owner = access.owner ?? user;
  const area = `${root}/${folder}`;
  const sealed = folder.startsWith('common/') ? `${area}/${dataSetsFolder}` : undefined;
  if (locationOf(`${folder}/_`)?.path !== '_')
    throw failure(
      'InvalidInput',
      `"${folder}" is not an area: use private/<project>/<user>, common/<project> or staging/<project>`,
    );

  /** Files that vanish meanwhile need no change. */
  async function unlessGone(work: Promise<void>): Promise<void> {
    await work.catch((error: unknown) => {
      if (!isRefusal(error, 'FileNotFoundException')) throw error;
    });
  }

  async function change(path: string, entry: FileStatus): Promise<void> {
    const inside = entry.type === 'DIRECTORY';
    const theirs = path === sealed || path.startsWith(`${sealed}/`) ? readOnly(rights) : rights;
    await unlessGone(nameNode.setAcl(path, inside ? folderAcl(theirs) : fileAcl(theirs), signal));
    if (mayKeep(path, entry)) return;
    // An owner may change rights, so a former owner must be replaced first.
    if (entry.owner !== owner) await unlessGone(nameNode.setOwner(path, owner, signal));
  }

  /** In the sticky folder, only the owner removes and renames an entry: writers stay owners of their own files. */
  const mayKeep = (path: string, entry: FileStatus): boolean =>
    sealed !== undefined &&
    path === `${area}/${entry.pathSuffix}` &&
    path !== sealed &&
    rights.get(entry.owner) === 'rwx';

  /** A folder is changed before it is listed: content created meanwhile either inherits the rights or is listed. */
  async function changeBelow(path: string): Promise<void> {
    for await (const page of nameNode.list(path, '', signal)) {
      for (let at = 0; at < page.length; at += AT_ONCE)
        await Promise.all(page.slice(at, at + AT_ONCE).map((entry) => change(`${path}/${entry.pathSuffix}`, entry)));
      for (const entry of page) if (entry.type === 'DIRECTORY') await changeBelow(`${path}/${entry.pathSuffix}`);
    }
  }

  const way = folder.split('/').slice(0, -1);
  for (const at of way.keys()) await openPassage(nameNode, [root, ...way.slice(0, at + 1)].join('/'), signal);
  await nameNode.makeFolder(area, signal);
  if (sealed !== undefined) {
    // Before anyone gets access: nobody else can create or remove it.
    await nameNode.setMode(area, STICKY, signal);
    await nameNode.makeFolder(sealed, signal);
    await nameNode.setAcl(sealed, folderAcl(readOnly(rights)), signal);
    await nameNode.setOwner(sealed, user, signal);
  }
  await nameNode.setAcl(area, folderAcl(rights), signal);
  await nameNode.setOwner(area, owner, signal);
  await changeBelow(area);
}

/** Creates a folder that everyone may traverse and only the platform may read or change. */
export async function openPassage(nameNode: NameNode, path: string, signal?: AbortSignal): Promise<void> {
  await nameNode.makeFolder(path, signal);
  await nameNode.setAcl(path, PASSAGE, signal);
}
