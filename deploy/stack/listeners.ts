// Reads from /proc which process listens on which TCP port (Linux only; elsewhere the lists are empty).
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

export type Listener = { readonly address: string; readonly port: number; readonly inode: string };

/** Lists the listening TCP sockets of this machine, IPv4 and IPv6; an address is written as the kernel prints it. */
export function listeners(): readonly Listener[] {
  return ['tcp', 'tcp6'].flatMap((table) =>
    (readText(`/proc/net/${table}`) ?? '')
      .split('\n')
      .slice(1)
      .flatMap((line) => {
        const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
        const [address = '', port = ''] = local.split(':');
        // 0A is TCP_LISTEN.
        return state === '0A' ? [{ address, port: Number.parseInt(port, 16), inode }] : [];
      }),
  );
}

/** Whether a listener accepts connections only from this machine. */
export function isLoopback({ address }: Listener): boolean {
  // Bytes are in host order, so 127.0.0.1 ends in 7F; then ::1, and 127.0.0.0/8 mapped into IPv6.
  return (
    /^[0-9A-F]{6}7F$/.test(address) ||
    address === '0'.repeat(24) + '01000000' ||
    /^0{16}F{4}0{4}[0-9A-F]{6}7F$/.test(address)
  );
}

/** Inodes of a process's open sockets; empty without permission to read them. */
export function socketsOf(pid: number, proc = '/proc'): ReadonlySet<string> {
  try {
    const links = readdirSync(`${proc}/${pid}/fd`).map((fd) => linkOf(`${proc}/${pid}/fd/${fd}`));
    return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
  } catch {
    return new Set();
  }
}

/** A process with a connection; `undefined` stands for the processes of a user that this one cannot look into. */
export type Client = { readonly pid: number | undefined; readonly description: string };

/** The local processes connected to one of the ports; undefined if that cannot be determined. */
export function clientsOf(ports: ReadonlySet<number>, proc = '/proc'): readonly Client[] | undefined {
  if (!existsSync(`${proc}/net/tcp`)) return undefined;
  /** Users by the inode of their connection. */
  const users = new Map(
    ['tcp', 'tcp6'].flatMap((table) =>
      (readText(`${proc}/net/${table}`) ?? '').split('\n').flatMap((line): [string, string][] => {
        const [, , remote = '', state, , , , user = '', , inode = '0'] = line.trim().split(/\s+/);
        // 01 is TCP_ESTABLISHED; a connection without an inode belongs to no process (yet).
        const isOne = state === '01' && inode !== '0' && ports.has(Number.parseInt(remote.split(':')[1] ?? '', 16));
        return isOne ? [[inode, user]] : [];
      }),
    ),
  );
  if (users.size === 0) return [];
  const seen = readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const pid = Number(name);
      const connections = [...socketsOf(pid, proc)].filter((inode) => users.has(inode));
      if (connections.length === 0) return [];
      const script = (readText(`${proc}/${pid}/cmdline`) ?? '').split('\0').find((part) => /\.[cm]?[jt]s$/.test(part));
      const program = script ?? (readText(`${proc}/${pid}/comm`) ?? '').trim();
      return [{ connections, client: { pid, description: `process ${pid} (${program})` } }];
    });
  for (const { connections } of seen) for (const inode of connections) users.delete(inode);
  const hidden = [...new Set(users.values())].map((user) => ({
    pid: undefined,
    description: `a process of user ${user}`,
  }));
  return [...seen.map(({ client }) => client), ...hidden];
}

/** Describes the process that listens on a port; undefined if it cannot be determined. */
export function whoListensOn(port: number): string | undefined {
  const inodes = listeners().flatMap((listener) => (listener.port === port ? [listener.inode] : []));
  if (inodes.length === 0) return undefined;
  const pid = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((candidate) => inodes.some((inode) => socketsOf(candidate).has(inode)));
  if (pid === undefined) return undefined;
  return `process ${pid} (${(readText(`/proc/${pid}/comm`) ?? '').trim()})`;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // The process or socket has ended.
    return '';
  }
}
