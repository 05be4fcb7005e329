// The steps that make a Python environment, each a program in the sandbox: pip made, wheels fetched, wheels unpacked.
import { execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import { prepareStep } from '../../activities/adapters/local-process/enclosure.ts';
import { giveTo } from '../../activities/adapters/local-process/folders.ts';
import { openProgramLog } from '../../activities/adapters/local-process/program-log.ts';
import { startProgram } from '../../activities/adapters/local-process/program.ts';
import type { Mount, Sandbox } from '../../activities/adapters/local-process/sandbox.ts';
import { failure } from '../../activities/failures.ts';
import { openIndexGateway } from './index-gateway.ts';
import type { Python } from './python.ts';

/** What the steps work with. */
export type Workshop = {
  readonly base: Python;
  readonly sandbox: Sandbox;
  readonly home: string;
  readonly index?: string | undefined;
  readonly indexHosts?: readonly string[];
  readonly limitBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
};

const CAPSULE = fileURLToPath(new URL('../capsule/ocdl', import.meta.url));
/** Exit statuses of the steps' programs. */
const EXIT_FINAL = 7;
const EXIT_AGAIN = 8;
/** pip holds an index page and a wheel's list of files; compiling a large module takes a few hundred megabytes. */
const STEP_MEMORY_BYTES = 2 * 1024 ** 3;
/** pip and setuptools take 20 MB. */
const PIP_BYTES = 256 * 1024 ** 2;
/** Users of the steps when the platform is root: numbers that no distribution hands out, below those of jobs. */
const FIRST_USER = 1_868_693_504;

/** Makes the platform's own pip, from the wheel that Python brings along. */
export async function makePip(shop: Workshop, draft: string, final: string): Promise<void> {
  await inWorkFolder(shop, draft, async (work) => {
    await mkdir(draft, { mode: 0o755 });
    const argv = [shop.base.executable, '-I', '-m', 'venv', inPlace(shop, draft, final)];
    await runStep(shop, work, 'pip', { argv, at: [{ from: draft, to: final }], measured: [draft] });
    await takeBack(draft);
  });
}

/** Makes an environment of these requirements: its wheels are fetched and unpacked, and no code of them runs. */
export async function makeEnvironment(
  shop: Workshop,
  given: { draft: string; final: string; pip: string; requirements: string },
): Promise<void> {
  const { draft, final, pip, requirements } = given;
  await inWorkFolder(shop, draft, async (work) => {
    shop.onProgress(`making the Python environment with Python ${shop.base.version}`);
    await writeFile(work.requirements, requirements);
    // Read as another user, whatever the platform's umask.
    await chmod(work.requirements, 0o644);
    if (requirements !== '') await fetchWheels(shop, work, pip);
    await mkdir(draft, { mode: 0o755 });
    const [program, target] = [join(CAPSULE, 'install_wheels.py'), inPlace(shop, draft, final)];
    const paths = [target, final, work.wheels, work.requirements, String(shop.limitBytes)];
    await runStep(shop, work, 'install', {
      argv: [shop.base.executable, '-I', program, ...paths],
      reads: [CAPSULE, work.wheels, work.requirements],
      at: [{ from: draft, to: final }],
      measured: [draft],
    });
    await takeBack(draft);
  });
}

/** In the sandbox an environment lies where it will be used; without one it is made where it lies. */
const inPlace = ({ sandbox }: Workshop, draft: string, final: string): string =>
  sandbox.kind === 'none' ? draft : final;

type WorkFolder = {
  readonly root: string;
  readonly uid: number;
  readonly wheels: string;
  readonly temporary: string;
  readonly requirements: string;
  readonly configuration: string;
};

/** A folder for what is needed while an environment is made, beside it, on the same disk; removed at the end. */
async function inWorkFolder(shop: Workshop, draft: string, work: (folder: WorkFolder) => Promise<void>): Promise<void> {
  const root = `${draft}.work`;
  const folder = {
    root,
    uid: FIRST_USER + randomInt(65_536),
    wheels: join(root, 'wheels'),
    temporary: join(root, 'tmp'),
    requirements: join(root, 'requirements.txt'),
    configuration: join(root, 'pip.conf'),
  };
  await mkdir(root, { recursive: true, mode: 0o700 });
  try {
    for (const path of [folder.wheels, folder.temporary]) {
      await mkdir(path, { mode: 0o700 });
      if (shop.sandbox.kind === 'own-user') await giveTo(folder.uid, path);
    }
    await work(folder);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function fetchWheels(shop: Workshop, work: WorkFolder, pip: string): Promise<void> {
  const settings = await indexSettings(shop, pip);
  await writeFile(work.configuration, pipConfiguration(settings), { mode: 0o600 });
  if (shop.sandbox.kind === 'own-user') await giveTo(work.uid, work.configuration);
  // Not in the work folder: the kernel takes 107 bytes as a socket's path.
  const entrance = await mkdtemp(join(tmpdir(), 'ocdl-index-'));
  if (shop.sandbox.kind === 'own-user') await giveTo(work.uid, entrance);
  const socket = join(entrance, 'socket');
  const gateway = await openIndexGateway({ socket, hosts: settings.hosts, limitBytes: shop.limitBytes });
  const log = join(work.temporary, 'pip.log');
  try {
    await runStep(shop, work, 'fetch', {
      argv: [
        ...[shop.base.executable, '-I', join(CAPSULE, 'fetch_wheels.py')],
        ...[pip, socket, work.requirements, work.wheels, log],
      ],
      reads: [
        ...[CAPSULE, dirname(dirname(pip)), entrance, work.requirements, work.configuration],
        ...[...settings.folders, ...(settings.certificates ?? SYSTEM_CERTIFICATES)].filter((path) => existsSync(path)),
      ],
      writes: [work.wheels],
      configuration: work.configuration,
      measured: [work.wheels, work.temporary],
      why: () => {
        if (gateway.exceeded())
          return failure(
            'InvalidInput',
            `the packages of the lock are larger than ${shop.limitBytes} bytes (OCDL_ENVIRONMENT_LIMIT_BYTES)`,
          );
        const refused = [...gateway.refused].slice(0, 5).join(', ');
        if (refused !== '')
          return new Error(
            `the package index sends to ${refused}, which is not one of its hosts: if its files lie there, add it to OCDL_PIP_INDEX_HOSTS`,
          );
        const [unreachable] = gateway.unreachable;
        return unreachable && new Error(`the package index cannot be reached: ${unreachable[0]}: ${unreachable[1]}`);
      },
    });
  } finally {
    await gateway.close();
    await rm(entrance, { recursive: true, force: true });
  }
}

/** Where distributions have the certificates of public authorities, for a pip that was made to look there. */
const SYSTEM_CERTIFICATES = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt'];

const settingsSchema = z.object({
  index: z.string().nullable(),
  extra: z.array(z.string()),
  links: z.array(z.string()),
  folders: z.array(z.string()),
  certificates: z
    .string()
    .nullable()
    .transform((path) => (path === null ? null : [path])),
  trusted: z.array(z.string()),
  hosts: z.array(z.object({ host: z.string(), port: z.number(), proxy: z.string().nullable() })),
});
export type IndexSettings = z.infer<typeof settingsSchema>;

/** The package index, as this machine's pip is set to it and the platform's own variables say. */
export async function indexSettings(
  { index, indexHosts }: Pick<Workshop, 'index' | 'indexHosts'>,
  pip: string,
): Promise<IndexSettings> {
  const child = spawn(pip, ['-I', join(CAPSULE, 'index_settings.py')], { stdio: ['pipe', 'pipe', 'pipe'] });
  const said = { out: '', errors: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.errors += text));
  child.stdin.on('error', () => undefined);
  // Not among its arguments, which every user of the machine can read: the address may hold a password.
  child.stdin.end(JSON.stringify({ index: index ?? null, hosts: indexHosts ?? [] }));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new Error(
      `which package index pip is set to cannot be read (status ${code}): ${said.errors.trim().slice(-500)}`,
    );
  return settingsSchema.parse(JSON.parse(said.out));
}

function pipConfiguration({ index, extra, links, folders, certificates, trusted }: IndexSettings): string {
  const list = (name: string, values: readonly string[]): string[] =>
    values.length === 0 ? [] : [`${name} =`, ...values.map((value) => `    ${value}`)];
  const lines = [
    '[global]',
    index === null ? 'no-index = true' : `index-url = ${index}`,
    ...list('extra-index-url', extra),
    ...list('find-links', [...folders, ...links]),
    ...(certificates ?? []).map((path) => `cert = ${path}`),
    ...list('trusted-host', trusted),
  ];
  return `${lines.join('\n')}\n`;
}

/** Runs one step to its end; throws what it failed of: a failure of ours where trying again cannot help. */
async function runStep(
  shop: Workshop,
  work: WorkFolder,
  name: 'pip' | 'fetch' | 'install',
  step: {
    argv: readonly string[];
    reads?: readonly string[];
    writes?: readonly string[];
    at?: readonly Mount[];
    configuration?: string;
    /** Folders whose contents are limited. */
    measured: readonly string[];
    /** A better reason than what the program says. */
    why?: () => Error | undefined;
  },
): Promise<void> {
  shop.signal.throwIfAborted();
  const limitBytes = name === 'pip' ? PIP_BYTES : shop.limitBytes;
  if (shop.sandbox.kind === 'own-user') for (const { from } of step.at ?? []) await giveTo(work.uid, from);
  const prepared = prepareStep({
    ...step,
    sandbox: shop.sandbox,
    home: shop.home,
    uid: work.uid,
    reads: [shop.base.prefix, ...(step.reads ?? [])],
    writes: [...(step.writes ?? []), work.temporary],
    temporary: work.temporary,
    memoryBytes: STEP_MEMORY_BYTES,
    fileBytes: limitBytes,
  });
  const log = openProgramLog({ path: join(work.root, `${name}.log`), onLine: shop.onProgress });
  const watch = { memoryBytes: STEP_MEMORY_BYTES, diskBytes: limitBytes, folders: step.measured };
  const ended = await startProgram({ ...prepared, log, signal: shop.signal, watch }).ended;
  log.close();
  shop.signal.throwIfAborted();
  if (ended.code === 0) return;
  const better = step.why?.();
  if (better) throw better;
  const said = log.tail().trim().split('\n').slice(-KEPT_LINES).join('\n');
  const what = `the Python environment cannot be made from the lock (${name}, status ${ended.code ?? 'none'}):\n${said}`;
  if (ended.exceeded !== undefined || ended.code === EXIT_FINAL) throw failure('InvalidInput', what);
  throw new Error(ended.code === EXIT_AGAIN ? `the package index does not answer as it should: ${what}` : what);
}

/** Enough of a program's last words to tell why it failed. */
const KEPT_LINES = 12;

/** Makes the platform the owner of what a step has left: later ones with its user's number must have no say over it. */
async function takeBack(folder: string): Promise<void> {
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  if (uid !== 0) return;
  await promisify(execFile)('chown', ['-hR', `${uid}:${gid}`, '--', folder]);
}
