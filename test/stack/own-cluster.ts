// The stack's command line for tests of Kubernetes, when they run at all, and what pods leave on a machine.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { endLeftovers, readRunRecords } from '../../deploy/local/run-records.ts';
import { whyNoKubernetes } from '../../deploy/stack/kubernetes/kubernetes.ts';
import { mountsBelow } from '../../deploy/stack/kubernetes/leftovers.ts';
import { kubernetesPortTable, kwokPortTable } from '../../deploy/stack/kubernetes/ports.ts';
import { lacksGo } from '../../deploy/stack/kubernetes/programs.ts';
import { readStackSettings } from '../../deploy/stack/settings.ts';
import { freePort, programs } from '../servers.ts';

/** A first build of everything with one core. */
export const patience = 3_600_000;

/** Runs only where it was asked for. With CI=true it then fails where something is missing; elsewhere it is skipped with the reason. */
export function describeKubernetes(name: string, systems: readonly ('kubernetes' | 'kwok')[], suite: () => void): void {
  const title = `npm run stack -- up --only ${systems.join(' ')}: ${name}`;
  const needs = { node: systems.includes('kubernetes'), kwok: systems.includes('kwok') };
  const why =
    process.env.KUBERNETES === 'true'
      ? (whyNoKubernetes(systems, readStackSettings({}).kubernetes, process.env) ??
        (lacksGo(needs, programs) ? 'Go is missing, which builds Kubernetes.' : undefined))
      : 'It runs with KUBERNETES=true: it needs root and builds Kubernetes once.';
  if (why === undefined || (process.env.KUBERNETES === 'true' && process.env.CI === 'true')) {
    describe(title, suite);
    return;
  }
  process.stderr.write(`SKIPPED: ${title}. ${why}\n`);
  describe.skip(title, suite);
}

/** The stack's command line on a home with free ports; at the end it is stopped and removed. */
export function stackOn(home: string, variables: Readonly<Record<string, string>> = {}) {
  const own = { OCDL_STACK_HOME: home, OCDL_CACHE: programs.cache, ...variables };
  const env: Record<string, string | undefined> = { ...process.env, ...own };
  const stack = (...args: readonly string[]): Promise<{ readonly code: number | null; readonly said: string }> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['--import', 'tsx', 'deploy/stack/main.ts', ...args], {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const said = { text: '' };
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (data: Buffer) => (said.text += data.toString()));
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, said: said.text }));
    });
  beforeAll(async () => {
    for (const { variable } of [...Object.values(kubernetesPortTable), ...Object.values(kwokPortTable)])
      env[variable] = String(await freePort());
  });
  afterAll(async () => {
    await stack('down', '--yes');
    await endLeftovers(join(home, 'run'));
    // Never through a mount that was left.
    if (mountsBelow(home).length === 0) rmSync(home, { recursive: true, force: true, maxRetries: 5 });
  }, patience);
  return { stack, running: () => readRunRecords(join(home, 'run')) };
}

/** The limits of processes of all pods on this machine. */
export function pidLimits(): readonly string[] {
  const roots = ['/sys/fs/cgroup/pids/kubepods', '/sys/fs/cgroup/kubepods'].filter((path) => existsSync(path));
  return roots.flatMap((root) =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('/pids.max'))
      .map((path) => readFileSync(join(root, path), 'utf8').trim()),
  );
}

/** Processes with a folder in their command line, except this one. */
export function processesNaming(path: string): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const line = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return line.includes(path) ? [line] : [];
      } catch {
        return [];
      }
    });
}
