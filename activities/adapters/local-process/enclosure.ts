// Defines what a job and a service see of the machine: the only place that lists their folders, variables and limits.
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import type { JobSpec } from '../../ports.ts';
import { refuseToShow, sandboxCommand, type Command, type Enclosure, type Mount, type Sandbox } from './sandbox.ts';

export interface Prepared extends Command {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly sandboxed: boolean;
}

/** Paths of a job's files on this machine. */
export interface JobPaths {
  readonly root: string;
  readonly in: string;
  readonly out: string;
  readonly scratch: string;
  readonly parameters: string;
  readonly passwd: string;
}

export const jobPaths = (root: string): JobPaths => ({
  root,
  in: join(root, 'in'),
  out: join(root, 'out'),
  scratch: join(root, 'scratch'),
  parameters: join(root, 'parameters.json'),
  passwd: join(root, 'passwd'),
});

/** Search path for system programs on all distributions. */
const PATH = '/usr/local/bin:/usr/bin:/bin';
/** Training libraries start a few threads per processor and worker; the limit stops a fork bomb. */
const JOB_PROCESSES = 512;
const SERVICE_PROCESSES = 256;
/** pip starts a few threads. */
const STEP_PROCESSES = 64;
/** What a model service may use together. */
export interface ServiceLimits {
  readonly memoryBytes: number;
  readonly diskBytes: number;
}
/** A model may need some gigabytes; a service needs no more, and writes only its socket. */
export const SERVICE_LIMITS: ServiceLimits = { memoryBytes: 8 * 1024 ** 3, diskBytes: 16 * 1024 ** 2 };
/** Of a file that a service writes. */
const SERVICE_FILE_BYTES = 1024 ** 2;

/** The command of a job's program. Without a sandbox, links create the same layout in the folder itself. */
export function prepareJob(given: {
  sandbox: Sandbox;
  spec: JobSpec;
  paths: JobPaths;
  capsule: string;
  home: string;
  environment: { python: string; folders: readonly string[] };
  uid: number;
}): Prepared {
  const { spec, paths } = given;
  const python = given.environment.python;
  const argv = spec.argv.map((word, index) =>
    index === 0 && (word === 'python' || word === 'python3') ? python : word,
  );
  if (given.sandbox.kind === 'none') {
    const env = jobVariables(spec, paths.scratch, paths, given.capsule);
    return { ...plain(argv), env, cwd: paths.scratch, sandboxed: false };
  }
  const inside = { in: '/job/in', out: '/job/out', parameters: '/job/parameters.json' };
  const env = jobVariables(spec, '/job', { ...inside }, '/capsule');
  return enclosed(given.sandbox, given.home, {
    readOnly: [
      ...withoutSystem(given.environment.folders).map(itself),
      { from: given.capsule, to: '/capsule' },
      { from: paths.passwd, to: '/etc/passwd' },
    ],
    writable: [
      { from: paths.scratch, to: '/job' },
      { from: paths.out, to: inside.out },
    ],
    readOnlyOver: [
      { from: paths.in, to: inside.in },
      { from: paths.parameters, to: inside.parameters },
    ],
    devices: (spec.resources.gpus ?? 0) > 0 ? graphicsDevices() : [],
    cwd: '/job',
    env,
    limits: {
      memoryBytes: spec.resources.memoryBytes,
      fileBytes: spec.resources.diskBytes,
      processes: JOB_PROCESSES,
    },
    uid: given.uid,
    argv,
  });
}

/** The command that serves a model on a Unix socket in `run`. */
export function prepareService(given: {
  sandbox: Sandbox;
  entry: string;
  checkout: string;
  home: string;
  model: string;
  run: string;
  version: string;
  sha256: string;
  passwd: string;
  uid: number;
  limits: ServiceLimits;
}): Prepared {
  const node = realpathSync(process.execPath);
  const argvFor = (model: string, run: string): string[] => [
    ...[node, '--import', 'tsx', given.entry, '--model', model, '--version', given.version],
    ...['--socket', join(run, 'socket'), '--sha256', given.sha256],
  ];
  const env = { PATH, HOME: '/tmp', TMPDIR: '/tmp', LANG: 'C.UTF-8', NODE_ENV: 'production' };
  // Runs in the platform's checkout, because `tsx` is resolved from its node_modules.
  if (given.sandbox.kind === 'none')
    return { ...plain(argvFor(given.model, given.run)), env, cwd: given.checkout, sandboxed: false };
  const code = ['node_modules', 'api', 'workflows', 'activities', 'package.json', 'tsconfig.json'];
  const shown = [...code.map((name) => join(given.checkout, name)).filter(existsSync), ...nodeFiles(node)];
  if (!shown.some((path) => given.entry.startsWith(path + sep))) shown.push(given.entry);
  return enclosed(given.sandbox, given.home, {
    readOnly: [
      ...shown.map(itself),
      { from: given.model, to: '/service/model' },
      { from: given.passwd, to: '/etc/passwd' },
    ],
    writable: [{ from: given.run, to: '/service/run' }],
    readOnlyOver: [],
    devices: [],
    cwd: given.checkout,
    env,
    limits: { memoryBytes: given.limits.memoryBytes, fileBytes: SERVICE_FILE_BYTES, processes: SERVICE_PROCESSES },
    uid: given.uid,
    argv: argvFor('/service/model', '/service/run'),
  });
}

/**
 * The command of one step that builds an environment: it sees the interpreter and its inputs, and has no network.
 * All paths equal those of this machine, except for those in `at`.
 */
export function prepareStep(given: {
  sandbox: Sandbox;
  /** The platform's folder, which the step must not see. */
  home: string;
  uid: number;
  argv: readonly string[];
  /** Files and folders that the step reads. */
  reads: readonly string[];
  /** Folders that the step writes. */
  writes: readonly string[];
  at?: readonly Mount[];
  /** Its temporary folder; must be one of `writes`. */
  temporary: string;
  /** pip's configuration file; must be one of `reads`. */
  configuration?: string;
  memoryBytes: number;
  fileBytes: number;
}): Prepared {
  const env = {
    PATH,
    HOME: given.temporary,
    TMPDIR: given.temporary,
    LANG: 'C.UTF-8',
    PYTHONDONTWRITEBYTECODE: '1',
    ...(given.configuration !== undefined && { PIP_CONFIG_FILE: given.configuration }),
  };
  if (given.sandbox.kind === 'none') return { ...plain(given.argv), env, cwd: given.temporary, sandboxed: false };
  return enclosed(given.sandbox, given.home, {
    readOnly: withoutSystem(given.reads).map(itself),
    writable: [...given.writes.map(itself), ...(given.at ?? [])],
    readOnlyOver: [],
    devices: [],
    cwd: given.temporary,
    env,
    limits: { memoryBytes: given.memoryBytes, fileBytes: given.fileBytes, processes: STEP_PROCESSES },
    uid: given.uid,
    argv: given.argv,
  });
}

/** Device files of NVIDIA's driver; none without a GPU. */
export function graphicsDevices(): readonly string[] {
  return readdirSync('/dev')
    .filter((name) => /^nvidia(\d+|ctl|-uvm|-uvm-tools|-modeset)$/.test(name))
    .map((name) => join('/dev', name));
}

/** Number of this machine's GPUs. */
export const graphicsCards = (): number => graphicsDevices().filter((path) => /\d$/.test(path)).length;

function enclosed(sandbox: Exclude<Sandbox, { kind: 'none' }>, home: string, enclosure: Enclosure): Prepared {
  refuseToShow(enclosure.readOnly, home);
  // bubblewrap's own environment; it clears it for the program.
  return { ...sandboxCommand(sandbox, enclosure), env: { PATH }, cwd: '/', sandboxed: true };
}

function jobVariables(
  spec: JobSpec,
  home: string,
  places: { in: string; out: string; parameters: string },
  capsule: string,
): Record<string, string> {
  return {
    PATH,
    HOME: home,
    LANG: 'C.UTF-8',
    OCDL_INPUTS: places.in,
    OCDL_OUTPUTS: places.out,
    OCDL_PARAMETERS: places.parameters,
    PYTHONPATH: capsule,
    OMP_NUM_THREADS: String(Math.max(1, Math.floor(spec.resources.cpus))),
    // The same run always iterates sets in the same order, and progress is not buffered.
    PYTHONHASHSEED: '0',
    PYTHONUNBUFFERED: '1',
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

function plain(argv: readonly string[]): Command {
  const [program = '', ...args] = argv;
  return { program, args };
}

const itself = (path: string): Mount => ({ from: path, to: path });

/** Folders below /usr are visible anyway; a Python prefix of `/` or `/usr` means the system's Python. */
function withoutSystem(folders: readonly string[]): readonly string[] {
  return folders.filter((folder) => folder !== '/' && folder !== '/usr' && !folder.startsWith('/usr/'));
}

/** The Node binary and its shared library, if any. Never a whole prefix, which may be a home folder. */
function nodeFiles(node: string): readonly string[] {
  const library = join(dirname(dirname(node)), 'lib');
  const shared = existsSync(library) ? readdirSync(library).filter((name) => name.startsWith('libnode')) : [];
  return withoutSystem([node, ...shared.map((name) => join(library, name))]);
}
