// `npm run stack`: starts and stops the real servers as plain processes and shows their status.
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { stopOnSignals } from '../local/ctrl-c.ts';
import { fetchKubernetes, kubernetesCachePath } from './kubernetes/programs.ts';
import { fetchPrograms } from './servers.ts';
import { readStackSettings, type StackSettings } from './settings.ts';
import { defaultSelection, extraSystems, type StackSelection } from './selection.ts';
import { endStack, reasonToAsk, startStack } from './stack.ts';
import { stackStatus } from './status.ts';

const usage = `Runs Kafka, HDFS, Alluxio, S3, PostgreSQL and Temporal on this machine, reachable only from this machine.

  npm run stack -- up             start all servers; Ctrl-C stops them, a second one if a platform uses them
  npm run stack -- up --detach    start all servers and return when they answer
  npm run stack -- down           stop all servers; asks first if a platform uses them
  npm run stack -- status         show each server's state; fails if one does not answer
  npm run stack -- fetch          only fetch the programs

  --with kubernetes   (up, fetch) also a single-node Kubernetes; needs root, containerd, runc and network plugins
  --with kwok         (up, fetch) also a second Kubernetes, whose nodes and pods are simulated; does not need root
  --only NAME         (up, fetch) as --with, but without the other servers
  --verbose           (up) show every log line
  --yes               (down) stop the servers without asking
  --reset             (down) then delete the data of the Kubernetes clusters; keys and imported images are kept
  Folder: OCDL_STACK_HOME (.ocdl/stack). Ports: OCDL_STACK_*_PORT; \`status\` lists them.
  Kubernetes: OCDL_STACK_KUBERNETES_NODE=false starts only its control plane, without root; OCDL_STACK_KUBERNETES_GPUS=N
  simulates N GPUs on its node; OCDL_STACK_KWOK_NODES=N (4) sets the number of simulated nodes.`;

/** Messages of a detached stack to the process that started it. */
const messageSchema = z.union([z.object({ line: z.string() }), z.object({ ready: z.literal(true) })]);
type Message = z.infer<typeof messageSchema>;

async function main(argv: readonly string[]): Promise<number> {
  const [command, ...given] = argv;
  const isHelp = argv.length === 0 || argv.includes('--help');
  const { flags, selection } = selectionIn(given);
  const allowed: Readonly<Record<string, readonly string[]>> = {
    up: ['--detach', '--verbose'],
    down: ['--yes', '--reset'],
    status: [],
    fetch: [],
  };
  const known = allowed[command ?? ''];
  const isUnknown =
    known === undefined ||
    flags.some((flag) => !known.includes(flag)) ||
    (selection !== undefined && command !== 'up' && command !== 'fetch');
  if (isHelp || isUnknown) {
    console[isHelp ? 'log' : 'error'](isHelp ? usage : `Unknown command: ${argv.join(' ')}\n\n${usage}`);
    return isHelp ? 0 : 2;
  }
  const settings = readStackSettings();
  if (command === 'up')
    return await (flags.includes('--detach')
      ? upDetached(settings, given)
      : up(settings, flags.includes('--verbose'), selection));
  if (command === 'status') return await status(settings);
  if (command === 'down') return await down(settings, flags.includes('--yes'), flags.includes('--reset'));
  await fetchSelected(settings, selection ?? defaultSelection);
  return 0;
}

/** Separates `--with NAME` and `--only NAME` from the other flags; an unknown name stays among the flags, which refuse it. */
function selectionIn(given: readonly string[]): {
  readonly flags: readonly string[];
  readonly selection?: StackSelection;
} {
  const flags: string[] = [];
  const chosen = new Set<StackSelection['kubernetes'][number]>();
  let servers = true;
  for (let index = 0; index < given.length; index += 1) {
    const flag = given[index] ?? '';
    const system = extraSystems.find((name) => name === given[index + 1]);
    if ((flag !== '--with' && flag !== '--only') || system === undefined) {
      flags.push(flag);
      continue;
    }
    chosen.add(system);
    if (flag === '--only') servers = false;
    index += 1;
  }
  return chosen.size === 0 ? { flags } : { flags, selection: { servers, kubernetes: [...chosen] } };
}

async function fetchSelected({ cache, env }: StackSettings, selection: StackSelection): Promise<void> {
  const options = { cache, env, onProgress: (line: string) => console.log(line) };
  if (selection.servers) await fetchPrograms(options);
  if (selection.kubernetes.length === 0) return;
  const node = selection.kubernetes.includes('kubernetes');
  await fetchKubernetes({ node, kwok: selection.kubernetes.includes('kwok') }, options);
}

async function up(
  settings: StackSettings,
  verbose: boolean,
  selection: StackSelection = defaultSelection,
): Promise<number> {
  const tell = (message: Message): void => void (process.connected && process.send?.(message));
  const say = (line: string): void => {
    console.log(line);
    tell({ line });
  };
  const { stop, force } = stopOnSignals(say, () => {
    const reason = reasonToAsk(settings);
    return reason && sentence(reason);
  });
  const began = Date.now();
  say(`Starting the stack on ${settings.home}; logs in ${join(settings.home, 'logs')}.`);
  const stack = await startStack({ settings, selection, say, verbose, stop, force }).catch((error: unknown) => {
    if (stop.aborted) return undefined;
    throw error;
  });
  if (stack !== undefined) {
    say(`\nThe stack is ready after ${((Date.now() - began) / 1000).toFixed(1)} s.`);
    const variables = `set -a; . '${shown(stack.started.envFile)}'; set +a`;
    if (selection.servers) say(`To start the platform on it:\n\n  ${variables}; npm start\n`);
    if (selection.kubernetes.length > 0) {
      const kubectl = join(dirname(kubernetesCachePath('kubeall', settings.cache)), 'kubectl');
      say(`To look into the clusters:\n\n  ${variables}; ${kubectl} get pods --all-namespaces\n`);
    }
    tell({ ready: true });
    const { error } = await stack.ended;
    if (error !== undefined) throw error;
  }
  say('The stack has stopped; its data is kept.');
  return force.aborted ? 130 : 0;
}

/** Starts `up` as a separate process and waits until it is ready or has failed. */
async function upDetached(settings: StackSettings, given: readonly string[]): Promise<number> {
  const logs = join(settings.home, 'logs');
  mkdirSync(logs, { recursive: true, mode: 0o700 });
  const log = openSync(join(logs, 'stack.log'), 'a', 0o600);
  const args = ['--import', 'tsx', fileURLToPath(import.meta.url), 'up'];
  args.push(...given.filter((flag) => flag !== '--detach'));
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', log, log, 'ipc'] });
  closeSync(log);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill('SIGTERM'));
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
    child.on('message', (given) => {
      const message = messageSchema.parse(given);
      if ('line' in message) console.log(message.line);
      else {
        console.log('The stack keeps running in the background; `npm run stack -- down` stops it.');
        child.disconnect();
        child.unref();
        resolve(0);
      }
    });
  });
}

/** Stops the stack. A platform that uses it would fail, so a person must confirm first. */
async function down(settings: StackSettings, isSure: boolean, dropClusters: boolean): Promise<number> {
  const reason = isSure ? undefined : reasonToAsk(settings);
  if (reason !== undefined && !(await confirmed(reason))) return 1;
  console.log(await endStack(settings, dropClusters));
  return 0;
}

async function confirmed(reason: string): Promise<boolean> {
  const why = `${sentence(reason)}.`;
  if (!process.stdin.isTTY) {
    console.error(
      `${why} Nothing was stopped. Stop the platform first, or confirm with --yes: npm run stack -- down --yes`,
    );
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = await terminal.question(`${why} Stop the servers anyway? [y/N] `);
    if (/^y(es)?$/i.test(answer.trim())) return true;
    console.log('Nothing was stopped.');
    return false;
  } finally {
    terminal.close();
  }
}

const sentence = (text: string): string => `${text[0]?.toUpperCase()}${text.slice(1)}`;

async function status(settings: StackSettings): Promise<number> {
  const all = await stackStatus(settings);
  for (const { name, state, pid, port, log } of all) {
    const columns = [
      name.padEnd(17),
      state.padEnd(14),
      `pid ${pid ?? '-'}`.padEnd(12),
      `port ${port ?? '-'}`.padEnd(11),
    ];
    console.log([...columns, shown(log)].join(' '));
  }
  return all.every(({ state }) => state === 'running') ? 0 : 1;
}

/** A path as a person would type it in this folder. */
function shown(path: string): string {
  const near = relative('.', path);
  return near.startsWith('..') ? path : near;
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    console.error(message);
    if (process.connected) process.send?.({ line: message } satisfies Message, () => process.exit(1));
    else process.exit(1);
  },
);
