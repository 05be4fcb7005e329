// The capsule image as users build it (deploy/capsule/Dockerfile), on a Debian base made here, for the stack's containerd.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { importImage } from '../../deploy/stack/kubernetes/images.ts';
import { programs } from '../servers.ts';

const run = promisify(execFile);
const capsule = resolve(import.meta.dirname, '../../deploy/capsule');
/** Debian's release, and what the image needs of it. */
const base = { suite: 'bookworm', packages: 'python3,python3-venv' };

export const capsuleImage = 'localhost/ocdl-capsule:1';
/** The version of Debian's Python. */
export const capsulePython = '3.11';

/** Builds the image, once for the same Dockerfile, lock and package, and imports it. Needs root, mmdebstrap and buildah. */
export async function importCapsule(socket: string): Promise<void> {
  const archive = join(programs.cache, `capsule-image-${keyOfCapsule()}.tar`);
  if (!existsSync(archive)) await buildCapsule(archive);
  await importImage(socket, archive);
}

function keyOfCapsule(): string {
  const hash = createHash('sha256').update(JSON.stringify(base));
  const files = readdirSync(capsule, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.py$|\.lock$|Dockerfile$/.test(file))
    .sort();
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(join(capsule, file)));
  return hash.digest('hex').slice(0, 16);
}

async function buildCapsule(archive: string): Promise<void> {
  mkdirSync(programs.cache, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-capsule-'));
  const debian = join(programs.cache, `debian-${base.suite}.tar`);
  const buildah = (...args: readonly string[]): Promise<unknown> => {
    const stores = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    return run('nice', ['-n', '10', 'buildah', ...stores, ...args], { maxBuffer: 64 * 1024 ** 2 });
  };
  try {
    if (!existsSync(debian)) {
      const draft = join(folder, 'debian.tar');
      const args = ['--variant=minbase', `--include=${base.packages}`, base.suite, draft];
      await run('nice', ['-n', '10', 'mmdebstrap', ...args], { maxBuffer: 64 * 1024 ** 2 });
      await run('mv', [draft, debian]);
    }
    await buildah('from', '--name', 'base', 'scratch');
    await buildah('add', 'base', debian, '/');
    await buildah('commit', 'base', 'localhost/ocdl-base:1');
    // This machine's certificates: its package index may have its own authority.
    const certificates = ['--volume', '/etc/ssl/certs:/etc/ssl/certs:ro'];
    const arg = 'BASE_IMAGE=localhost/ocdl-base:1';
    await buildah('bud', '--isolation', 'chroot', ...certificates, '--build-arg', arg, '--tag', capsuleImage, capsule);
    await buildah('push', capsuleImage, `docker-archive:${join(folder, 'image.tar')}:${capsuleImage}`);
    await run('mv', [join(folder, 'image.tar'), `${archive}.draft`]);
    renameSync(`${archive}.draft`, archive);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
