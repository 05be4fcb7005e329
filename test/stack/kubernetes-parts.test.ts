// Parts of the stack's Kubernetes that need neither root nor a cluster: builds with a stand-in for Go, keys, images, settings, messages.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { X509Certificate } from 'node:crypto';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { whyNoNode } from '../../deploy/stack/kubernetes/host.ts';
import { keyFile, kubeconfigOf, prepareIdentities, tokenOf } from '../../deploy/stack/kubernetes/identities.ts';
import { archiveImage } from '../../deploy/stack/kubernetes/images.ts';
import { kubernetesPortTable, kwokPortTable } from '../../deploy/stack/kubernetes/ports.ts';
import {
  fetchKubernetes,
  kubernetesCachePath,
  kubernetesVersion,
  lacksGo,
} from '../../deploy/stack/kubernetes/programs.ts';
import { portTable, type PortTable } from '../../deploy/stack/ports.ts';
import { defaultSelection, readSelection, writeSelection } from '../../deploy/stack/selection.ts';
import { readStackSettings } from '../../deploy/stack/settings.ts';

let folder: string;
const lines: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ocdl-kubernetes-parts-'));
  lines.length = 0;
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('programs', () => {
  /** A PATH with a stand-in for Go that writes its arguments and environment to the program it is asked for. */
  function withGo(script = 'while [ "$1" != -o ]; do shift; done; echo "CGO_ENABLED=$CGO_ENABLED" > "$2"') {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'go'), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, 'go'), 0o755);
    return { cache: join(folder, 'cache'), env: { PATH: bin }, onProgress: (line: string) => void lines.push(line) };
  }

  test('are built once, and only those that are needed', async () => {
    const options = withGo();
    const { kubeall, kwok } = await fetchKubernetes({ node: false, kwok: true }, options);
    expect(readFileSync(kubeall, 'utf8')).toBe('CGO_ENABLED=0\n');
    expect([basename(kwok), readdirSync(options.cache).length]).toEqual(['kwok', 2]);
    expect(readdirSync(dirname(kubeall)).sort()).toEqual(['kubeall', 'kubectl']);
    expect(lines.filter((line) => line.startsWith('Fetching Kubernetes'))).toHaveLength(1);
    lines.length = 0;
    await fetchKubernetes({ node: false, kwok: true }, options);
    expect(lines).toEqual([]);
  });

  test('have the version in their path, and a message that says what to install', async () => {
    for (const program of ['kubeall', 'coredns', 'kwok'] as const) {
      expect(kubernetesVersion(program)).toMatch(/^\d+\.\d+\.\d+$/);
      expect(kubernetesCachePath(program, '/c')).toContain(`/c/${program}-${kubernetesVersion(program)}-`);
    }
    const bare = { cache: join(folder, 'cache'), env: { PATH: folder }, onProgress: () => undefined };
    expect(lacksGo({ node: false, kwok: false }, bare)).toBe(true);
    await expect(fetchKubernetes({ node: false, kwok: false }, bare)).rejects.toThrow(
      /`go` is not on the PATH.*Kubernetes/,
    );
  });

  test('leave nothing that looks built when a build fails', async () => {
    const options = withGo('echo "no such module"; exit 1');
    await expect(fetchKubernetes({ node: false, kwok: false }, options)).rejects.toThrow(
      /failed.*exit 1[^]*no such module/,
    );
    expect(readdirSync(options.cache)).toEqual([]);
  });
});

describe('identities', () => {
  const place = (name: string) => ({ name, folder: join(folder, name), url: 'https://127.0.0.1:1' });

  test('are random for each cluster, made once, and readable only by their owner', async () => {
    const [one, two] = [place('one'), place('two')];
    await Promise.all([prepareIdentities(one, ['172.30.255.1']), prepareIdentities(two, [])]);
    const tokens = (['admin', 'kubelet', 'scheduler'] as const).flatMap((identity) => [
      tokenOf(one.folder, identity),
      tokenOf(two.folder, identity),
    ]);
    expect(new Set(tokens).size).toBe(6);
    expect(tokens.filter((token) => !/^[0-9a-f]{64}$/.test(token))).toEqual([]);
    const before = tokenOf(one.folder, 'admin');
    await prepareIdentities({ ...one, url: 'https://127.0.0.1:2' }, []);
    expect(tokenOf(one.folder, 'admin')).toBe(before);
    const kubeconfig = kubeconfigOf(one.folder, 'admin');
    expect(statSync(kubeconfig).mode & 0o777).toBe(0o600);
    expect(readFileSync(kubeconfig, 'utf8')).toContain('https://127.0.0.1:2');
    expect(statSync(keyFile(one.folder, 'tokens.csv')).mode & 0o077).toBe(0);
    expect(statSync(one.folder).mode & 0o077).toBe(0);
  });

  test('certificates are of the cluster’s own authority, and etcd’s is not', async () => {
    const one = place('one');
    await prepareIdentities(one, ['172.30.255.1']);
    const read = (name: string) => new X509Certificate(readFileSync(keyFile(one.folder, name)));
    const ca = read('ca.crt');
    for (const name of ['apiserver.crt', 'server.crt', 'kubelet-client.crt'])
      expect([name, read(name).verify(ca.publicKey)]).toEqual([name, true]);
    expect(read('etcd.crt').verify(ca.publicKey)).toBe(false);
    expect(read('apiserver.crt').checkIP('172.30.255.1')).toBe('172.30.255.1');
    expect(read('apiserver.crt').checkHost('kubernetes.default.svc')).toBe('kubernetes.default.svc');
  });
});

test('the same folder gives the same image, with the command and the owner root', async () => {
  const root = join(folder, 'root');
  mkdirSync(join(root, 'bin'), { recursive: true });
  writeFileSync(join(root, 'bin', 'tool'), 'x', { mode: 0o755 });
  const image = {
    name: 'localhost/a:1',
    folder: root,
    command: ['/bin/tool', 'with space'],
    env: { A: 'b' },
    user: '1000',
  };
  const files = [join(folder, 'one.tar'), join(folder, 'two.tar')] as const;
  for (const file of files) await archiveImage({ ...image, file });
  expect(readFileSync(files[0]).equals(readFileSync(files[1]))).toBe(true);
  const extract = (name: string): Buffer => execFileSync('tar', ['-xOf', files[0], name]);
  expect(JSON.parse(extract('manifest.json').toString())).toEqual([
    { Config: 'config.json', RepoTags: ['localhost/a:1'], Layers: ['layer.tar'] },
  ]);
  expect(JSON.parse(extract('config.json').toString())).toMatchObject({
    os: 'linux',
    config: { Cmd: ['/bin/tool', 'with space'], User: '1000', Env: expect.arrayContaining(['A=b']) as unknown },
  });
  expect(execFileSync('tar', ['-tvf', '-'], { input: extract('layer.tar') }).toString()).toMatch(
    /^-rwxr-xr-x 0\/0 .*tool$/m,
  );
  // No draft is left.
  expect(readdirSync(folder).sort()).toEqual(['one.tar', 'root', 'two.tar']);
});

test('what a node lacks is named with what to install and the way without it', () => {
  const why = whyNoNode({ PATH: folder });
  expect(why).toContain('OCDL_STACK_KUBERNETES_NODE=false');
  expect(why).toMatch(
    process.getuid?.() === 0
      ? /containerd.*apt-get install containerd runc nftables/
      : /needs root.*Run the command as root/,
  );
});

test('invalid settings are reported together; no two servers share a variable or a default port', () => {
  const env = { OCDL_STACK_KUBERNETES_NODE: 'no', OCDL_STACK_KUBERNETES_GPUS: '-1', OCDL_STACK_KUBERNETES_PORT: 'x' };
  expect(() => readStackSettings(env)).toThrow(/_PORT.*_NODE must be `true` or `false`.*_GPUS|_NODE.*_GPUS.*_PORT/);
  expect(readStackSettings({}).kubernetes).toMatchObject({ node: true, gpus: 0, kwokNodes: 4 });
  const tables: readonly PortTable<string>[] = [portTable, kubernetesPortTable, kwokPortTable];
  const all = tables.flatMap((table) => Object.values(table));
  expect(new Set(all.map(({ variable }) => variable)).size).toBe(all.length);
  expect(new Set(all.map(({ preferred }) => preferred)).size).toBe(all.length);
});

test('a home remembers what it consists of', () => {
  expect(readSelection(folder)).toMatchObject(defaultSelection);
  const selection = { servers: false, kubernetes: ['kubernetes' as const], node: true, gpus: 2 };
  writeSelection(folder, selection);
  expect(readSelection(folder)).toEqual(selection);
});
