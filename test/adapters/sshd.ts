// Debian's own sshd with SFTP only, on a loopback port, with new keys: the private node of the tests.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { anyFreePort } from '../../deploy/local/ports.ts';

const PROGRAM = '/usr/sbin/sshd';

export interface Sshd {
  readonly port: number;
  readonly user: string;
  /** `SHA256:…` of its only host key, as `ssh-keygen -l` prints it. */
  readonly hostKey: string;
  /** The line of its public host key. */
  readonly hostKeyLine: string;
  /** File of a private key that it lets in, and of one that it does not. */
  readonly goodKey: string;
  readonly badKey: string;
  /** Ends every session, like a lost connection; new sessions are possible. */
  cut(): void;
  stop(): Promise<void>;
}

/** Whether sshd is installed. Without it the tests fail with `CI=true`; elsewhere they are skipped, with a notice. */
export function haveSshd(): boolean {
  if (existsSync(PROGRAM)) return true;
  if (process.env.CI === 'true') throw new Error(`${PROGRAM} is missing: install openssh-server`);
  process.stderr.write(`SKIPPED: the SFTP tests, because ${PROGRAM} is missing (Debian: install openssh-server)\n`);
  return false;
}

/** Starts one with its files in `folder`. It runs as the user of the test and accepts only that user. */
export async function startSshd(folder: string): Promise<Sshd> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const key = (name: string): string => {
    const file = join(folder, name);
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file]);
    return file;
  };
  const [host, goodKey, badKey] = [key('host'), key('good'), key('bad')];
  await copyFile(`${goodKey}.pub`, join(folder, 'authorized'));
  await chmod(join(folder, 'authorized'), 0o600);
  const port = await anyFreePort('127.0.0.1');
  const { username: user } = userInfo();
  const config = join(folder, 'sshd_config');
  const lines = [
    ...['ListenAddress 127.0.0.1', `Port ${port}`, `HostKey ${host}`, `PidFile ${join(folder, 'pid')}`],
    ...[`AuthorizedKeysFile ${join(folder, 'authorized')}`, 'StrictModes no', 'UsePAM no', 'PermitRootLogin yes'],
    ...['PasswordAuthentication no', 'KbdInteractiveAuthentication no', 'Subsystem sftp internal-sftp'],
    ...['ForceCommand internal-sftp', 'AllowTcpForwarding no', 'X11Forwarding no', `AllowUsers ${user}`],
  ];
  await writeFile(config, `${lines.join('\n')}\n`);
  // As root it wants its folder for separated privileges, which only a boot makes.
  if (userInfo().uid === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  const server = spawn(PROGRAM, ['-D', '-e', '-f', config], { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const said: string[] = [];
  server.stderr.on('data', (text: Buffer) => said.push(text.toString()));
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  for (const until = Date.now() + 60_000; !(await answers(port));) {
    if (Date.now() > until || server.exitCode !== null) throw new Error(`sshd did not come up: ${said.join('')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const fingerprint = execFileSync('ssh-keygen', ['-l', '-f', `${host}.pub`], { encoding: 'utf8' }).split(' ')[1] ?? '';
  return {
    ...{ port, user, hostKey: fingerprint, goodKey, badKey },
    hostKeyLine: (await readFile(`${host}.pub`, 'utf8')).trim(),
    // Its sessions are its children, and theirs.
    cut: () => end(descendants(server.pid ?? 0)),
    async stop() {
      const sessions = descendants(server.pid ?? 0);
      server.kill('SIGKILL');
      end(sessions);
      await ended;
    },
  };
}

/** Children and theirs, as long as there are any. */
function descendants(pid: number): number[] {
  const { stdout } = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' });
  const children = stdout.split(/\s+/).filter(Boolean).map(Number);
  return children.flatMap((child) => [...descendants(child), child]);
}

/** Ends processes; one that has gone with its parent is fine. */
function end(pids: readonly number[]): void {
  for (const pid of pids)
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Gone already.
    }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.once('data', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}
