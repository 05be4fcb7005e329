// Who is connected to the stack: also processes of other users, whose open files are hidden.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clientsOf } from '../../deploy/stack/listeners.ts';

describe('clients of a port', () => {
  const proc = mkdtempSync(join(tmpdir(), 'ocdl-proc-'));
  afterAll(() => rmSync(proc, { recursive: true }));

  /** A line of /proc/net/tcp: a connection to port 7233 (1C41). */
  const connection = (user: number, inode: number, state = '01', port = '1C41'): string =>
    `0: 0100007F:9C40 0100007F:${port} ${state} 00000000:00000000 00:00000000 00000000 ${user} 0 ${inode} 1 0 20 4 30 10 -1`;
  function shows(...lines: string[]): void {
    mkdirSync(join(proc, 'net'), { recursive: true });
    writeFileSync(join(proc, 'net', 'tcp'), ['sl local_address …', ...lines, ''].join('\n'));
  }
  mkdirSync(join(proc, '41', 'fd'), { recursive: true });
  symlinkSync('socket:[100]', join(proc, '41', 'fd', '3'));
  writeFileSync(join(proc, '41', 'cmdline'), ['node', '/srv/api/main.ts', ''].join('\0'));
  // Another user's process: visible, its open files are not.
  mkdirSync(join(proc, '42'), { recursive: true });

  const clients = () => clientsOf(new Set([7233]), proc);

  test('are none without an established connection to the port', () => {
    shows(connection(0, 100, '06'), connection(0, 101, '01', '1C42'), connection(0, 0));
    expect(clients()).toEqual([]);
  });

  test('are named by the program that they run', () => {
    shows(connection(0, 100));
    expect(clients()).toEqual([{ pid: 41, description: 'process 41 (/srv/api/main.ts)' }]);
  });

  test('of another user are named by the user', () => {
    shows(connection(0, 100), connection(1000, 200), connection(1000, 201));
    expect(clients()).toEqual([
      { pid: 41, description: 'process 41 (/srv/api/main.ts)' },
      { pid: undefined, description: 'a process of user 1000' },
    ]);
  });
});
