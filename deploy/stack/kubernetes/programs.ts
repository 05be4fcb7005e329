// Builds the programs of Kubernetes with Go, once for each version of their sources: kubeall/, coredns/, kwok/ and pause/.
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { madeOnce } from '../../../activities/adapters/local-process/made-once.ts';
import { goSteps, runMaker } from '../../local/maker.ts';
import { findOnPath } from '../../local/temporal-binary.ts';
import { needed, type FetchOptions } from '../programs.ts';
import { archiveImage } from './images.ts';

/** The module that a program's version is taken from; `pause` has no modules. */
const modules = {
  kubeall: 'k8s.io/kubernetes',
  coredns: 'github.com/coredns/coredns',
  kwok: 'sigs.k8s.io/kwok',
  pause: undefined,
} as const;
export type KubernetesProgram = keyof typeof modules;

export type KubernetesPrograms = {
  /** All servers of Kubernetes in one program; beside it is a link `kubectl`. */
  readonly kubeall: string;
  readonly coredns: string;
  readonly kwok: string;
  /** A docker-archive of `pauseImage`. */
  readonly pauseArchive: string;
};

/** Name of the image that holds a pod's namespaces. */
export const pauseImage = 'localhost/ocdl-pause:1';

/** Which programs a start needs. */
export type KubernetesNeeds = { readonly node: boolean; readonly kwok: boolean };

/** Paths of all programs in a cache, whether they are built or not. */
export function programsIn(cache: string): KubernetesPrograms {
  const path = (program: KubernetesProgram): string => kubernetesCachePath(program, cache);
  return {
    kubeall: path('kubeall'),
    coredns: path('coredns'),
    kwok: path('kwok'),
    pauseArchive: `${dirname(path('pause'))}.tar`,
  };
}

/** Returns the programs; builds those that are needed and not in the cache, one after another. */
export async function fetchKubernetes(needs: KubernetesNeeds, options: FetchOptions): Promise<KubernetesPrograms> {
  const programs = programsIn(options.cache);
  for (const program of programsFor(needs)) await fetchProgram(program, options);
  if (needs.node) await makePauseArchive(dirname(kubernetesCachePath('pause', options.cache)), programs.pauseArchive);
  return programs;
}

/** Whether Go is missing for a program that is not in the cache yet. */
export function lacksGo(needs: KubernetesNeeds, { cache, env }: Pick<FetchOptions, 'cache' | 'env'>): boolean {
  const isMade = programsFor(needs).every((program) => existsSync(kubernetesCachePath(program, cache)));
  return !isMade && findOnPath('go', env.PATH) === undefined;
}

/** Path of a built program, by the version pinned in go.mod and a digest of its sources. */
export function kubernetesCachePath(program: KubernetesProgram, cache: string): string {
  return join(cache, `${program}-${kubernetesVersion(program)}-${digestOf(program)}`, program);
}

/** Version of a program as pinned in its go.mod. */
export function kubernetesVersion(program: KubernetesProgram): string {
  const module = modules[program];
  if (module === undefined) return '1';
  const path = new URL('go.mod', sourcesOf(program));
  const line = readFileSync(path, 'utf8')
    .split('\n')
    .map((text) => text.trim().replace(/^require /, ''))
    .find((text) => text.startsWith(`${module} v`));
  if (line === undefined) throw new Error(`${path.pathname} does not pin a version of ${module}.`);
  return line.slice(module.length + 2);
}

function programsFor({ node, kwok }: KubernetesNeeds): readonly KubernetesProgram[] {
  return ['kubeall', ...(node ? (['coredns', 'pause'] as const) : []), ...(kwok ? (['kwok'] as const) : [])];
}

async function fetchProgram(program: KubernetesProgram, options: FetchOptions): Promise<void> {
  const target = kubernetesCachePath(program, options.cache);
  await madeOnce(dirname(target), async (draft) => {
    const version = kubernetesVersion(program);
    const what = program === 'kubeall' ? `Kubernetes ${version}` : `${program} ${version}`;
    const go = needed('go', 'Go 1.24 or newer (go.dev/dl)', what, options.env);
    mkdirSync(draft, { mode: 0o700 });
    const flags = ['-mod=readonly', '-trimpath', '-buildvcs=false', '-ldflags', linkerFlags(program, version)];
    await runMaker(go, ['build', ...flags, '-v', '-o', join(draft, program), '.'], {
      ...options,
      env: { ...options.env, CGO_ENABLED: '0' },
      what,
      step: goSteps,
      cwd: sourcesOf(program),
    });
    if (program === 'kubeall') symlinkSync('kubeall', join(draft, 'kubectl'));
  });
}

/** Without these variables, Kubernetes reports itself as v0.0.0 and refuses to compare versions. */
function linkerFlags(program: KubernetesProgram, version: string): string {
  if (program !== 'kubeall') return '-s -w';
  const [major, minor] = version.split('.');
  const variables = {
    gitVersion: `v${version}`,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: 'clean',
    gitCommit: `v${version}`,
    // Fixed, so that the same sources give the same program.
    buildDate: '1970-01-01T00:00:00Z',
  };
  const settings = Object.entries(variables).map(
    ([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`,
  );
  return ['-s', '-w', ...settings].join(' ');
}

async function makePauseArchive(folder: string, target: string): Promise<void> {
  await madeOnce(target, async (file) => {
    // It becomes the root of every pod's first container, which may run as any user.
    chmodSync(folder, 0o755);
    await archiveImage({ name: pauseImage, folder, command: ['/pause'], file });
  });
}

function sourcesOf(program: KubernetesProgram): URL {
  return new URL(`./${program}/`, import.meta.url);
}

function digestOf(program: KubernetesProgram): string {
  const folder = sourcesOf(program);
  const hash = createHash('sha256');
  for (const name of readdirSync(folder).sort()) hash.update(`${name}\0`).update(readFileSync(new URL(name, folder)));
  return hash.digest('hex').slice(0, 12);
}
