// Keys, certificates, tokens and kubeconfigs of one control plane, made at random in its folder when it first starts.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { madeOnce } from '../../../activities/adapters/local-process/made-once.ts';
import { runProgram } from '../../local/run-program.ts';

/** Every identity with its user and group, in the names that Kubernetes' own roles refer to. */
const identityTable = {
  admin: { user: 'admin', group: 'system:masters' },
  controllers: { user: 'system:kube-controller-manager', group: '' },
  scheduler: { user: 'system:kube-scheduler', group: '' },
  proxy: { user: 'system:kube-proxy', group: '' },
  kubelet: { user: 'system:node:ocdl-node', group: 'system:nodes' },
  coredns: { user: 'system:coredns', group: '' },
  kwok: { user: 'kwok', group: 'system:masters' },
} as const;
export type Identity = keyof typeof identityTable;

/** The user of the API server at the kubelet. */
export const kubeletClientUser = 'kube-apiserver-kubelet-client';

const identities = Object.keys(identityTable) as readonly Identity[];
const tokensSchema = z.record(z.enum(identities), z.string().min(1));

export type ClusterPlace = {
  /** Name of the cluster and of its context. */
  readonly name: string;
  /** The folder with all data of the cluster. */
  readonly folder: string;
  /** Address of the API server. */
  readonly url: string;
};

/** Path of a file of keys or certificates. */
export function keyFile(folder: string, name: string): string {
  return join(folder, 'keys', name);
}

/** Path of an identity's kubeconfig. */
export function kubeconfigOf(folder: string, identity: Identity): string {
  return join(folder, `${identity}.kubeconfig`);
}

/** The token of an identity. */
export function tokenOf(folder: string, identity: Identity): string {
  return tokensSchema.parse(JSON.parse(readFileSync(keyFile(folder, 'tokens.json'), 'utf8')))[identity];
}

/** Makes the keys of a cluster if its folder has none, and writes its kubeconfigs. */
export async function prepareIdentities(place: ClusterPlace, addresses: readonly string[]): Promise<void> {
  const { name, folder, url } = place;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  await madeOnce(join(folder, 'keys'), (draft) => makeKeys(draft, name, addresses));
  const ca = readFileSync(keyFile(folder, 'ca.crt')).toString('base64');
  for (const identity of identities) {
    // Two clusters' files can be combined in KUBECONFIG, so all names differ.
    const user = `${name}-${identity}`;
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name, cluster: { server: url, 'certificate-authority-data': ca } }],
      users: [{ name: user, user: { token: tokenOf(folder, identity) } }],
      contexts: [{ name, context: { cluster: name, user } }],
      'current-context': name,
    };
    writeIfDifferent(kubeconfigOf(folder, identity), `${JSON.stringify(config, null, 2)}\n`);
  }
}

/** Writes a file only if its content differs: kube-proxy ends when its configuration file is written. */
export function writeIfDifferent(path: string, text: string): void {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return;
  writeFileSync(path, text, { mode: 0o600 });
}

async function makeKeys(folder: string, name: string, addresses: readonly string[]): Promise<void> {
  mkdirSync(folder, { mode: 0o700 });
  const service = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  const names = ['localhost', ...service, 'kubernetes.default.svc.cluster.local'].map((host) => `DNS:${host}`);
  const local = ['127.0.0.1', ...addresses].map((address) => `IP:${address}`);
  await openssl(folder, [
    ...['req', '-x509', ...newKey, '-days', '3650', '-subj', `/CN=ocdl-${name}`],
    ...['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
    ...['-keyout', 'ca.key', '-out', 'ca.crt'],
  ]);
  await certificate(folder, 'apiserver', 'kube-apiserver', 'serverAuth', [...names, ...local]);
  await certificate(folder, 'server', 'localhost', 'serverAuth', ['DNS:localhost', ...local]);
  await certificate(folder, 'kubelet-client', kubeletClientUser, 'clientAuth', []);
  // A CA of its own: certificates of the cluster's CA do not open etcd.
  await openssl(folder, [
    ...['req', '-x509', ...newKey, '-days', '3650', '-subj', `/CN=ocdl-${name}-etcd`],
    ...['-addext', `subjectAltName=IP:127.0.0.1`, '-keyout', 'etcd.key', '-out', 'etcd.crt'],
  ]);
  const account = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const write = (file: string, text: string): void => writeFileSync(join(folder, file), text, { mode: 0o600 });
  write('accounts.key', account.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  write('accounts.pub', account.publicKey.export({ type: 'spki', format: 'pem' }).toString());
  const tokens = Object.fromEntries(identities.map((identity) => [identity, randomBytes(32).toString('hex')]));
  write('tokens.json', JSON.stringify(tokens));
  const lines = identities.map((identity) => {
    const { user, group } = identityTable[identity];
    return `${tokens[identity]},${user},${user},"${group}"\n`;
  });
  write('tokens.csv', lines.join(''));
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

async function certificate(
  folder: string,
  file: string,
  commonName: string,
  use: 'serverAuth' | 'clientAuth',
  alternatives: readonly string[],
): Promise<void> {
  const extensions = [
    `extendedKeyUsage=${use}`,
    ...(alternatives.length > 0 ? [`subjectAltName=${alternatives.join(',')}`] : []),
  ];
  writeFileSync(join(folder, `${file}.ext`), `${extensions.join('\n')}\n`);
  const subject = ['-subj', `/CN=${commonName}`];
  await openssl(folder, ['req', ...newKey, ...subject, '-keyout', `${file}.key`, '-out', `${file}.csr`]);
  await openssl(folder, [
    ...['x509', '-req', '-in', `${file}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
    ...['-days', '3650', '-extfile', `${file}.ext`, '-out', `${file}.crt`],
  ]);
}

async function openssl(folder: string, args: readonly string[]): Promise<void> {
  const { code, output } = await runProgram('openssl', args, { cwd: folder });
  if (code !== 0) throw new Error(`openssl ${args[0]} failed (exit ${code}): ${output.slice(-2_000)}`);
}
