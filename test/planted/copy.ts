// A temporary copy of the checkout for planting faults; the checkout itself is never changed.
import { execFileSync } from 'node:child_process';
import { chmod, copyFile, lstat, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const checkout = resolve(import.meta.dirname, '../..');

export interface Copy {
  readonly folder: string;
  /** Runs `work` with another text in one of the copy's files, which has its own text again afterwards. */
  replaced<R>(file: string, text: (source: string) => string, work: () => Promise<R>): Promise<R>;
  remove(): Promise<void>;
}

/** Copies the files that Git tracks or would track, with the changes that are not committed; packages are linked. */
export async function copyCheckout(): Promise<Copy> {
  const folder = await mkdtemp(join(tmpdir(), 'ocdl-planted-'));
  // Some servers of tests run as another user.
  await chmod(folder, 0o755);
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: checkout,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  for (const file of new Set(listed.split('\0').filter(Boolean))) {
    const from = join(checkout, file);
    const found = await lstat(from).catch(() => undefined);
    // Deleted and not committed yet, or a link.
    if (!found?.isFile()) continue;
    const to = join(folder, file);
    await mkdir(dirname(to), { recursive: true });
    await copyFile(from, to);
  }
  await symlink(join(checkout, 'node_modules'), join(folder, 'node_modules'));
  return {
    folder,
    async replaced(file, text, work) {
      const path = join(folder, file);
      const source = await readFile(path, 'utf8');
      try {
        await writeFile(path, text(source));
        return await work();
      } finally {
        await writeFile(path, source);
      }
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
