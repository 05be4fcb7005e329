// The steps that create a Python environment, each a program in the sandbox: install pip, fetch wheels, unpack wheels.
import { execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import { prepareStep } from './enclosure.ts';
import { giveTo } from './folders.ts';
import { openProgramLog } from './program-log.ts';
import { startProgram } from './program.ts';
import type { Mount, Sandbox } from './sandbox.ts';
import { failure } from '../../failures.ts';
import { openIndexGateway } from './index-gateway.ts';
import type { Python } from './python.ts';

/** Inputs of the steps. */
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

const CAPSULE = fileURLToPath(new URL('../../../deploy/capsule/ocdl', import.meta.url));
/** Exit statuses of the steps' programs. */
const EXIT_FINAL = 7;
const EXIT_RETRY = 8;
/** pip holds an index page and a wheel's list of files; compiling a large module takes a few hundred megabytes. */
const STEP_MEMORY_BYTES = 2 * 1024 ** 3;
/** pip and setuptools take 20 MB. */
const PIP_BYTES = 256 * 1024 ** 2;
/** User ids of the steps when the platform runs as root: no distribution assigns them; they are below those of jobs. */
const FIRST_USER = 1_868_693_504;

/** Installs the platform's own pip from the wheel bundled with Python. */
export async function makePip(shop: Workshop, draft: string, final: string): Promise<void> {
  await inWorkFolder(shop, draft, async (work) => {
    await mkdir(draft, { mode: 0o755 });
    const argv = [shop.base.executable, '-I', '-m', 'venv', inPlace(shop, draft, final)];
    await runStep(shop, work, 'pip', { argv, at: [{ from: draft, to: final }], measured: [draft] });
    await takeBack(draft);
  });
}

/** Creates an environment with these requirements: wheels are fetched and unpacked; none of their code runs. */
export async function makeEnvironment(
  shop: Workshop,
  given: { draft: string; final: string; pip: string; requirements: string },
): Promise<void> {
  const { draft, final, pip, requirements } = given;
  await inWorkFolder(shop, draft, async (work) => {
    shop.onProgress(`creating the Python environment with Python ${shop.base.version}`);
    await writeFile(work.requirements, requirements);
    // The step reads the file as another user, whatever the platform's umask is.
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

/** In the sandbox the environment is mounted at its final path; without one it is created at its draft path. */
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

/** A temporary work folder next to the environment, on the same disk; removed at the end. */
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
  // Not in the work folder: the kernel limits a socket's path to 107 bytes.
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
            `the packages of the lock exceed the limit of ${shop.limitBytes} bytes (OCDL_ENVIRONMENT_LIMIT_BYTES)`,
          );
        const refused = [...gateway.refused].slice(0, 5).join(', ');
        if (refused !== '')
          return new Error(
            `the package index redirects to ${refused}, which is not an allowed host: if the index stores its files there, add it to OCDL_PIP_INDEX_HOSTS`,
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

/** Where distributions store public CA certificates, for a pip that was patched to look there. */
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

/** The package index from the platform's variables or this machine's pip configuration. */
export async function indexSettings(
  { index, indexHosts }: Pick<Workshop, 'index' | 'indexHosts'>,
  pip: string,
): Promise<IndexSettings> {
  const child = spawn(pip, ['-I', join(CAPSULE, 'index_settings.py')], { stdio: ['pipe', 'pipe', 'pipe'] });
  const said = { out: '', errors: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.errors += text));
  child.stdin.on('error', () => undefined);
  // Passed on standard input: every user of the machine can read arguments, and the address may contain a password.
  child.stdin.end(JSON.stringify({ index: index ?? null, hosts: indexHosts ?? [] }));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0)
    throw new Error(`pip's package index setting cannot be read (status ${code}): ${said.errors.trim().slice(-500)}`);
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

/** Runs one step to its end; throws the reason if it fails: one of our failures if it is non-retryable. */
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
    /** Folders with a size limit. */
    measured: readonly string[];
    /** A more precise reason than the program's output. */
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
  const program = startProgram({ ...prepared, log, signal: shop.signal, watch });
  const ended = await program.ended.finally(() => log.close());
  shop.signal.throwIfAborted();
  if (ended.code === 0) return;
  const better = step.why?.();
  if (better) throw better;
  const said = log.tail().trim().split('\n').slice(-KEPT_LINES).join('\n');
  const what = `the Python environment could not be created from the lock (${name}, status ${ended.code ?? 'none'}):\n${said}`;
  if (ended.exceeded !== undefined || ended.code === EXIT_FINAL) throw failure('InvalidInput', what);
  throw new Error(ended.code === EXIT_RETRY ? `the package index is unavailable or returns errors: ${what}` : what);
}

/** Enough of a program's last output to show why it failed. */
const KEPT_LINES = 12;

/** Gives a step's files to the platform's user, so that later steps with the same user id cannot change them. */
async function takeBack(folder: string): Promise<void> {
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  if (uid !== 0) return;
  await promisify(execFile)('chown', ['-hR', `${uid}:${gid}`, '--', folder]);
}
