// Makes container images from folders, as docker-archive files, and imports them into the stack's containerd.
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { runProgram } from '../../local/run-program.ts';

export type ImageFolder = {
  /** Name and tag. A tag other than `latest` is not pulled again by default. */
  readonly name: string;
  /** The folder that becomes the image's root. All files get the owner root. */
  readonly folder: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: string;
  readonly workingFolder?: string;
  /** The archive to write. */
  readonly file: string;
};

/** 10 minutes: an image with an interpreter and its libraries has a gigabyte. */
const timeoutMs = 600_000;

/** Writes a folder as an image with one layer. The same folder gives the same archive. */
export async function archiveImage(image: ImageFolder): Promise<void> {
  const draft = join(dirname(image.file), `.image-${randomUUID()}`);
  mkdirSync(draft, { recursive: true, mode: 0o700 });
  const fixed = ['--numeric-owner', '--owner=0', '--group=0', '--sort=name', '--mtime=@0'];
  try {
    const layer = join(draft, 'layer.tar');
    await tar([...fixed, '-C', image.folder, '-cf', layer, '.']);
    const hash = createHash('sha256');
    await pipeline(createReadStream(layer), hash);
    writeFileSync(join(draft, 'config.json'), JSON.stringify(configOf(image, hash.digest('hex'))));
    const manifest = [{ Config: 'config.json', RepoTags: [image.name], Layers: ['layer.tar'] }];
    writeFileSync(join(draft, 'manifest.json'), JSON.stringify(manifest));
    await tar([...fixed, '-C', draft, '-cf', image.file, 'manifest.json', 'config.json', 'layer.tar']);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Imports an archive for the pods of the node whose containerd listens on this socket. */
export async function importImage(socket: string, file: string): Promise<void> {
  const args = ['-a', socket, '-n', 'k8s.io', 'images', 'import', file];
  const { code, output } = await runProgram('ctr', args, { timeoutMs });
  if (code !== 0) throw new Error(`containerd did not import ${file} (exit ${code}): ${output.slice(-2_000)}`);
}

function configOf(image: ImageFolder, layerDigest: string): object {
  const env = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...image.env };
  return {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    created: '1970-01-01T00:00:00Z',
    config: {
      Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
      Cmd: image.command,
      WorkingDir: image.workingFolder ?? '/',
      User: image.user ?? '',
    },
    rootfs: { type: 'layers', diff_ids: [`sha256:${layerDigest}`] },
    history: [{ created: '1970-01-01T00:00:00Z', created_by: 'OCDL stack' }],
  };
}

async function tar(args: readonly string[]): Promise<void> {
  const { code, output } = await runProgram('tar', args, { timeoutMs });
  if (code !== 0) throw new Error(`tar failed (exit ${code}): ${output.slice(-2_000)}`);
}
