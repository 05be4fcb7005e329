// The images as users build them (deploy/capsule/Dockerfile, deploy/Dockerfile), on Debian bases made here, for the stack's containerd.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { importImage } from '../../deploy/stack/kubernetes/images.ts';
import { programs } from '../servers.ts';

const run = promisify(execFile);
const checkout = resolve(import.meta.dirname, '../..');
const suite = 'bookworm';
/** This machine's certificates: its package indexes may have their own authority. */
const certificates = '/etc/ssl/certs';

type Buildah = (...args: readonly string[]) => Promise<unknown>;

interface Image {
  /** Name and tag. */
  readonly tag: string;
  readonly context: string;
  readonly dockerfile: string;
  /** Files and folders of the context that tests depend on: an image is built again when one of them changes. */
  readonly parts: readonly string[];
  /** Debian's packages in the base. */
  readonly packages: string;
  /** Completes the base, the container `base`. */
  readonly complete?: (buildah: Buildah) => Promise<void>;
  /** More mounts while building. */
  readonly volumes?: (folder: string) => readonly string[];
}

const capsule: Image = {
  tag: 'localhost/ocdl-capsule:1',
  context: join(checkout, 'deploy/capsule'),
  dockerfile: 'Dockerfile',
  parts: ['Dockerfile', 'requirements.lock', 'ocdl'],
  packages: 'python3,python3-venv',
};

const platform: Image = {
  tag: 'localhost/ocdl-platform:1',
  context: checkout,
  dockerfile: 'deploy/Dockerfile',
  // Of the platform's own code, tests run only the model service in this image: building it takes minutes.
  parts: [
    ...['.dockerignore', 'package.json', 'package-lock.json', '.npmrc', 'tsconfig.json', 'deploy/Dockerfile'],
    ...['api/inference', 'activities/inference', 'activities/model-format', 'activities/model-format.ts'],
  ],
  packages: 'ca-certificates,git,libstdc++6,openssh-client',
  // Debian's own Node is too old: this machine's, with its npm.
  complete: async (buildah) => {
    const npm = dirname(dirname(realpathSync((await run('which', ['npm'])).stdout.trim())));
    await buildah('add', 'base', realpathSync(process.execPath), '/usr/local/bin/node');
    await buildah('add', 'base', npm, '/usr/local/lib/node_modules/npm');
    const link = ['ln', '-s', '../lib/node_modules/npm/bin/npm-cli.js', '/usr/local/bin/npm'];
    await buildah('run', '--isolation', 'chroot', 'base', '--', ...link);
  },
  volumes: (folder) => {
    const settings = join(folder, 'npmrc');
    writeFileSync(settings, `cafile=${certificates}/ca-certificates.crt\ncache=/npm\n`);
    const cache = join(programs.cache, 'npm');
    mkdirSync(cache, { recursive: true });
    return [`${settings}:/root/.npmrc:ro`, `${cache}:/npm`];
  },
};

/** Their names on the cluster tell their content, so that each is imported once. */
const nameOf = (image: Image): string => image.tag.replace(/:.*$/, `:${keyOf(image)}`);
export const capsuleImage = nameOf(capsule);
export const platformImage = nameOf(platform);
/** The version of Debian's Python. */
export const capsulePython = '3.11';

/** Builds both images, each once for the same files, and imports them. Needs root, mmdebstrap and buildah. */
export async function importImages(socket: string): Promise<void> {
  const images = (...args: readonly string[]) => run('ctr', ['-a', socket, '-n', 'k8s.io', 'images', ...args]);
  for (const image of [capsule, platform]) {
    const { stdout } = await images('ls', '--quiet');
    if (stdout.split('\n').includes(nameOf(image))) continue;
    await importImage(socket, await builtImage(image));
    await images('tag', '--force', image.tag, nameOf(image));
  }
}

/** The image's archive. */
async function builtImage(image: Image): Promise<string> {
  const name = image.tag.replace(/^localhost\/ocdl-|:.*$/g, '');
  const archive = join(programs.cache, `${name}-image-${keyOf(image)}.tar`);
  if (!existsSync(archive)) await build(image, archive);
  return archive;
}

function keyOf({ context, parts, packages }: Image): string {
  const hash = createHash('sha256').update(JSON.stringify([suite, packages, process.version]));
  for (const file of parts.flatMap((part) => filesOf(join(context, part))))
    hash.update(`${relative(context, file)}\0`).update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

function filesOf(path: string): readonly string[] {
  if (statSync(path).isFile()) return [path];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('__pycache__'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

async function build(image: Image, archive: string): Promise<void> {
  mkdirSync(programs.cache, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-image-'));
  const buildah: Buildah = (...args) => {
    const stores = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    return run('nice', ['-n', '10', 'buildah', ...stores, ...args], { maxBuffer: 64 * 1024 ** 2 });
  };
  try {
    await buildah('from', '--name', 'base', 'scratch');
    await buildah('add', 'base', await debian(image.packages, folder), '/');
    await image.complete?.(buildah);
    await buildah('commit', 'base', 'localhost/ocdl-base:1');
    const volumes = [`${certificates}:${certificates}:ro`, ...(image.volumes?.(folder) ?? [])];
    await buildah(
      ...['bud', '--isolation', 'chroot', ...volumes.flatMap((volume) => ['--volume', volume])],
      ...['--build-arg', 'BASE_IMAGE=localhost/ocdl-base:1', '--file', join(image.context, image.dockerfile)],
      ...['--tag', image.tag, image.context],
    );
    await buildah('push', image.tag, `docker-archive:${join(folder, 'image.tar')}:${image.tag}`);
    await run('mv', [join(folder, 'image.tar'), `${archive}.draft`]);
    renameSync(`${archive}.draft`, archive);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A minimal Debian with these packages, as an archive. */
async function debian(packages: string, folder: string): Promise<string> {
  const digest = createHash('sha256').update(packages).digest('hex').slice(0, 8);
  const archive = join(programs.cache, `debian-${suite}-${digest}.tar`);
  if (existsSync(archive)) return archive;
  const draft = join(folder, 'debian.tar');
  const args = ['--variant=minbase', `--include=${packages}`, suite, draft];
  await run('nice', ['-n', '10', 'mmdebstrap', ...args], { maxBuffer: 64 * 1024 ** 2 });
  await run('mv', [draft, archive]);
  return archive;
}
