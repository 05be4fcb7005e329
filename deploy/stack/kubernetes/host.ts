// What a Kubernetes node changes on this machine outside of its folder: bridges, rules, settings, cgroups. All of it is undone.
import { existsSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { identifySelf, isAlive, processRecordSchema } from '../../local/process-identity.ts';
import { endLeftovers } from '../../local/run-records.ts';
import { runProgram } from '../../local/run-program.ts';
import { findOnPath } from '../../local/temporal-binary.ts';
import { podNetwork } from './control-plane.ts';
import { endPods, mountsBelow, podCgroups, removeCgroup, removeUnmounted } from './leftovers.ts';

/** The bridge that carries the node's address. Nothing is attached to it, so no other network is involved. */
export const nodeBridge = 'ocdl-node';
export const nodeAddress = '172.30.255.1';
/** The bridge of all pods. */
export const podBridge = 'ocdl-pods';

const ownTable = 'ocdl-kubernetes';
const bridgeSetting = 'net/bridge/bridge-nf-call-iptables';
/** Pods reach each other and the outside through these; the values from before are restored. */
const kernelSettings = ['net/ipv4/ip_forward', bridgeSetting];
/** Folders that containerd, kubelet and the network plugins use wherever their own data lies. */
const fixedFolders = ['/run/containerd', '/var/lib/kubelet', '/var/lib/cni', '/var/log/containers', '/var/log/pods'];

const claimPath = '/run/ocdl-kubernetes-node.json';
const claimSchema = z.object({
  home: z.string(),
  owner: processRecordSchema,
  settings: z.record(z.string(), z.string()),
  madeFolders: z.array(z.string()),
});
type Claim = z.infer<typeof claimSchema>;

const debianPackages: Readonly<Record<string, string>> = {
  containerd: 'containerd',
  ctr: 'containerd',
  runc: 'runc',
  nft: 'nftables',
  ip: 'iproute2',
  umount: 'mount',
};

/** Says why this machine cannot run a node, and what to do; undefined if it can. */
export function whyNoNode(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const instead = 'For a control plane without a node, set OCDL_STACK_KUBERNETES_NODE=false.';
  if (process.platform !== 'linux') return `A Kubernetes node needs Linux, and this is ${process.platform}. ${instead}`;
  if (process.getuid?.() !== 0)
    return `A Kubernetes node needs root, because it makes containers and networks, and this is user ${process.getuid?.()}. Run the command as root. ${instead}`;
  const absent = Object.keys(debianPackages).filter((program) => findOnPath(program, env.PATH) === undefined);
  const packages = new Set(absent.map((program) => debianPackages[program] ?? program));
  if (!existsSync('/usr/lib/cni/bridge')) {
    absent.push('/usr/lib/cni/bridge');
    packages.add('containernetworking-plugins');
  }
  if (absent.length === 0) return undefined;
  return `A Kubernetes node needs programs that are missing: ${absent.join(', ')}. Install them (Debian: apt-get install ${[...packages].join(' ')}). ${instead}`;
}

/** Prepares this machine for the node of a home. One machine runs one node at a time. */
export async function prepareHost(home: string): Promise<void> {
  await clearClaim();
  if (podCgroups().length > 0)
    throw new Error(
      `This machine already runs pods that this stack did not start (${podCgroups()[0]}). Stop that Kubernetes first, or set OCDL_STACK_KUBERNETES_NODE=false.`,
    );
  if (!existsSync(settingPath(bridgeSetting))) await runProgram('modprobe', ['br_netfilter']);
  const settings: Record<string, string> = {};
  for (const name of kernelSettings) {
    if (!existsSync(settingPath(name)))
      throw new Error(`The kernel has no setting ${name}, which pods need: load its module (modprobe br_netfilter).`);
    settings[name] = readFileSync(settingPath(name), 'utf8').trim();
  }
  const madeFolders = fixedFolders.filter((folder) => !existsSync(folder));
  // Written before anything is changed, so that a start that is killed can be undone.
  writeClaim({ home: realpathSync(home), owner: identifySelf(), settings, madeFolders });
  for (const name of kernelSettings) writeFileSync(settingPath(name), '1');
  await must('ip', ['link', 'add', nodeBridge, 'type', 'bridge']);
  await must('ip', ['address', 'add', `${nodeAddress}/32`, 'dev', nodeBridge]);
  await must('ip', ['link', 'set', nodeBridge, 'up']);
  await must('nft', ['-f', '-'], masqueradeRules);
}

/** Undoes everything that a node of this home left on this machine; does nothing if there was none. */
export async function restoreHost(home: string): Promise<void> {
  const claim = readClaim();
  if (claim === undefined || !existsSync(home) || claim.home !== realpathSync(home)) return;
  await undo(claim);
}

/** Undoes the node of a stack that was killed, on any home; refuses if that stack is still running. */
async function clearClaim(): Promise<void> {
  const claim = readClaim();
  if (claim === undefined) return;
  if (claim.owner.pid !== process.pid && isAlive(claim.owner))
    throw new Error(
      `A Kubernetes node of the stack on ${claim.home} (process ${claim.owner.pid}) is running, and one machine can run only one. ` +
        `Stop it first: OCDL_STACK_HOME=${claim.home} npm run stack -- down`,
    );
  await endLeftovers(join(claim.home, 'run'));
  await undo(claim);
}

async function undo(claim: Claim): Promise<void> {
  const folder = join(claim.home, 'kubernetes');
  await endPods(folder);
  for (const point of mountsBelow(folder)) await runProgram('umount', ['-l', point]);
  for (const bridge of [podBridge, nodeBridge])
    if (existsSync(`/sys/class/net/${bridge}`)) await must('ip', ['link', 'delete', bridge]);
  for (const cgroup of podCgroups()) removeCgroup(cgroup);
  for (const [family, table] of [
    ['ip', ownTable],
    ['ip', 'kube-proxy'],
    ['ip6', 'kube-proxy'],
  ] as const) {
    const { code } = await runProgram('nft', ['list', 'table', family, table]);
    if (code === 0) await must('nft', ['delete', 'table', family, table]);
  }
  for (const [name, value] of Object.entries(claim.settings))
    if (kernelSettings.includes(name)) writeFileSync(settingPath(name), value);
  for (const path of claim.madeFolders) if (fixedFolders.includes(path)) rmSync(path, { recursive: true, force: true });
  // No pod is left to own an address or a container.
  for (const name of ['pod-addresses', 'containerd-run', 'runc']) removeUnmounted(join(folder, name));
  rmSync(claimPath, { force: true });
}

const masqueradeRules = `table ip ${ownTable} {
  chain postrouting {
    type nat hook postrouting priority 100;
    ip saddr ${podNetwork} ip daddr != ${podNetwork} masquerade
  }
}
`;

async function must(program: string, args: readonly string[], input?: string): Promise<void> {
  const { code, output } = await runProgram(program, args, input === undefined ? {} : { input });
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} failed (exit ${code}): ${output.slice(-1_000)}`);
}

function readClaim(): Claim | undefined {
  const text = readText(claimPath);
  return text === undefined ? undefined : claimSchema.parse(JSON.parse(text));
}

/** Fails if another start was faster. Readable by everybody, so that `down` of another user sees that it is not theirs. */
function writeClaim(claim: Claim): void {
  writeFileSync(claimPath, JSON.stringify(claim), { mode: 0o644, flag: 'wx' });
}

function settingPath(name: string): string {
  return join('/proc/sys', name);
}

function readText(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}
