// The earlier program's code, extracted from this repository's history into a separate folder, with its packages.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, realpath, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../', import.meta.url));

const lockSchema = z.object({ packages: z.record(z.string(), z.looseObject({ version: z.string().optional() })) });

/** Unpacks a commit into `folder` and gives it its packages; `say` hears which. Throws when this clone does not have the commit. */
export async function unpackCommit(commit: string, folder: string, say: (line: string) => void): Promise<void> {
  const archive = `${folder}.tar`;
  await mkdir(folder);
  await run('git', ['-C', root, 'archive', '--format=tar', '-o', archive, commit]).catch((error: unknown) => {
    throw new Error(`commit ${commit} is not in this clone: fetch the whole history (git fetch --unshallow)`, {
      cause: error,
    });
  });
  await run('tar', ['-xf', archive, '-C', folder]);
  const differing = await differingPackages(folder);
  if (differing.length === 0 && existsSync(join(root, 'node_modules'))) {
    say('its packages are those installed here: they are linked');
    await symlink(await realpath(join(root, 'node_modules')), join(folder, 'node_modules'));
    return;
  }
  say(`its packages are installed: ${differing.slice(0, 5).join(', ')} have other versions here`);
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' };
  await run('npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: folder, env, maxBuffer: 2 ** 26 });
}

/** Packages that the earlier code was locked to and that have another version, or are missing, here. */
async function differingPackages(folder: string): Promise<readonly string[]> {
  const [before, now] = await Promise.all(
    [folder, root].map(
      async (at) => lockSchema.parse(JSON.parse(await readFile(join(at, 'package-lock.json'), 'utf8'))).packages,
    ),
  );
  return Object.entries(before ?? {})
    .filter(([path, { version }]) => path !== '' && now?.[path]?.version !== version)
    .map(([path]) => path.replace('node_modules/', ''));
}
