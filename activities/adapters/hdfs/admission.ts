// Lets people into an area, and keeps all others out: owners, modes and ACLs that the NameNode itself enforces.
import { dataSetsFolder, locationOf, type StorePath } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';
import { folderAcl, fileAcl, PASSAGE, readOnly, rightsOf, type Access } from './access.ts';
import { isRefusal } from './errors.ts';
import type { FileStatus, NameNode } from './namenode.ts';

/** Entries changed at once: enough to hide the network's delay, few beside a NameNode's handlers (10 by default). */
const AT_ONCE = 4;

/** Sticky: what lies in such a folder is removed or renamed by its owner alone. Its people's rights are in the ACL. */
const STICKY = '1770';

/**
 * Gives exactly these people access to an area and to all that lies in it. The area itself comes first: whoever is not among
 * them may not even pass, while what lies below is still being changed. Doing it again is harmless.
 *
 * Registered data sets lie in one folder of the common area. It belongs to the platform and people only read there; and since
 * whoever may write to the folder above could rename or delete it, that one is sticky.
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
      `"${folder}" is no area: private/<project>/<user>, common/<project> or staging/<project>`,
    );

  /** What vanished meanwhile needs nothing. */
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
    // The owner may change rights: one who is no longer the owner must not.
    if (entry.owner !== owner) await unlessGone(nameNode.setOwner(path, owner, signal));
  }

  /** In the sticky folder a writer removes and renames only what is the writer's own: it stays so as long as they write there. */
  const mayKeep = (path: string, entry: FileStatus): boolean =>
    sealed !== undefined &&
    path === `${area}/${entry.pathSuffix}` &&
    path !== sealed &&
    rights.get(entry.owner) === 'rwx';

  /** A folder is changed before it is listed: what is made in it meanwhile inherits, or is found. */
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
    // Before anybody is let in: nobody else makes it, and it does not go away.
    await nameNode.setMode(area, STICKY, signal);
    await nameNode.makeFolder(sealed, signal);
    await nameNode.setAcl(sealed, folderAcl(readOnly(rights)), signal);
    await nameNode.setOwner(sealed, user, signal);
  }
  await nameNode.setAcl(area, folderAcl(rights), signal);
  await nameNode.setOwner(area, owner, signal);
  await changeBelow(area);
}

/** Makes a folder that everyone may pass and only the platform may read or change. */
export async function openPassage(nameNode: NameNode, path: string, signal?: AbortSignal): Promise<void> {
  await nameNode.makeFolder(path, signal);
  await nameNode.setAcl(path, PASSAGE, signal);
}
