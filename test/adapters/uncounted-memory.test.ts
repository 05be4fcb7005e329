// Memory and disk space that are in no statistics of a process: sandboxed jobs cannot have them, or they count.
import { test } from '@jest/globals';
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { folderBytes, giveTo, removeFolder } from '../../activities/adapters/local-process/folders.ts';
import { NOBODY } from '../../activities/adapters/local-process/sandbox.ts';
import type { JobOutcome } from '../../activities/ports.ts';
import { pythonJob, type JobGiven } from '../contracts/cluster.ts';
import { runJob } from '../contracts/run-job.ts';
import { openLocalCluster, sandboxForTests, type LocalHarness } from './local-cluster.ts';

const MIB = 1024 ** 2;
const isolated = (await sandboxForTests('what sandboxed jobs hold in memory and on disk')) ? describe : describe.skip;

isolated('a sandboxed job', () => {
  const opened: { harness?: LocalHarness } = {};
  const harness = (): LocalHarness => opened.harness ?? assert.fail('the cluster did not open');
  const resources = { cpus: 1, memoryBytes: 256 * MIB, diskBytes: 16 * MIB };
  const run = (code: string, given: Partial<JobGiven> = {}): Promise<JobOutcome> =>
    runJob(harness(), pythonJob(harness().api, { code, resources, deadlineSeconds: 60, ...given }));

  beforeAll(async () => {
    opened.harness = await openLocalCluster({ sandbox: 'bubblewrap' });
  });
  afterAll(() => harness().close());

  test.each([
    ['anonymous', 'mmap.mmap(-1, 1 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)', 'refused with 1'],
    ['of /dev/zero', 'mmap.mmap(os.open("/dev/zero", os.O_RDWR), 1 << 20, flags=mmap.MAP_SHARED)', 'refused with 19'],
  ])('cannot have shared memory: %s', async (_, attempt, refused) => {
    const code = `
import mmap, os
try:
    held = ${attempt}
    held[0] = 7
    held.madvise(mmap.MADV_DONTNEED)
    print("keeps", held[0])
except OSError as error:
    print("refused with", error.errno)
`;
    expect((await run(code)).log).toContain(refused);
  });

  test('still has the shared memory of Python, private memory and zeros', async () => {
    const code = `
import mmap, multiprocessing, multiprocessing.shared_memory as shared
def work(number, block):
    number.value += 1
    block.buf[0] = 7
number = multiprocessing.Value("i", 41)
block = shared.SharedMemory(create=True, size=4096)
child = multiprocessing.Process(target=work, args=(number, block))
child.start(); child.join()
with multiprocessing.Pool(2) as pool: squares = pool.map(abs, [-1, -2])
private = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print("works", number.value, block.buf[0], squares, private[0], open("/dev/zero", "rb").read(3))
block.unlink()
`;
    expect((await run(code)).log).toContain(String.raw`works 42 7 [1, 2] 0 b'\x00\x00\x00'`);
  });

  test('pays for TCP sockets with the memory to which their buffers can grow', async () => {
    const code = `
import socket, time
server = socket.create_server(("127.0.0.1", 0))
held = []
for _ in range(100):
    held.append(socket.create_connection(server.getsockname()))
    held.append(server.accept()[0])
print("has 100 connections", flush=True)
time.sleep(30)
`;
    const outcome = await run(code);
    expect(outcome.log).toContain('has 100 connections');
    expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
  });

  test('has sockets of a few kinds only', async () => {
    const code = `
import socket
def attempt(name, *kind):
    try:
        socket.socket(*kind).close()
        print(name, "allowed")
    except OSError as error:
        print(name, "refused with", error.errno)
attempt("tcp", socket.AF_INET, socket.SOCK_STREAM)
attempt("tcp6", socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
attempt("udp", socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
attempt("unix", socket.AF_UNIX, socket.SOCK_SEQPACKET)
attempt("netlink", socket.AF_NETLINK, socket.SOCK_RAW, 0)
attempt("mptcp", socket.AF_INET, socket.SOCK_STREAM, 262)
attempt("sctp", socket.AF_INET, socket.SOCK_SEQPACKET, 0)
attempt("crypto", socket.AF_ALG, socket.SOCK_SEQPACKET, 0)
attempt("vsock", 40, socket.SOCK_STREAM, 0)
`;
    const { log } = await run(code);
    for (const name of ['tcp', 'tcp6', 'udp', 'unix', 'netlink']) expect(log).toContain(`${name} allowed`);
    for (const name of ['mptcp', 'sctp']) expect(log).toContain(`${name} refused with 93`);
    for (const name of ['crypto', 'vsock']) expect(log).toContain(`${name} refused with 97`);
  });

  test('cannot enlarge a pipe, nor put pages into it without a copy', async () => {
    const code = `
import ctypes, fcntl, os, platform
libc = ctypes.CDLL(None, use_errno=True)
reader, writer = os.pipe()
print("size before", fcntl.fcntl(writer, 1032))
try: print("enlarged", fcntl.fcntl(writer, 1031, 1 << 20))
except OSError as error: print("enlarging refused with", error.errno)
for call in {"x86_64": (275, 276, 278), "aarch64": (76, 77, 75)}[platform.machine()]:
    print("call", libc.syscall(call, -1, 0, -1, 0, 0, 0), ctypes.get_errno())
`;
    const { log } = await run(code);
    expect(log).toContain('enlarging refused with 1');
    expect(log.match(/call -1 38/g)).toHaveLength(3);
  });

  test('pays for pipes with the memory that they can hold', async () => {
    const code = `
import os, time
held = [os.pipe() for _ in range(1000)]
print("has 1000 pipes", flush=True)
time.sleep(30)
`;
    const outcome = await run(code, { resources: { ...resources, memoryBytes: 64 * MIB } });
    expect(outcome.log).toContain('has 1000 pipes');
    expect(outcome).toMatchObject({ status: 'failed', reason: 'memory', exitCode: null });
  });

  test('has a limited number of open files', async () => {
    const code = 'import resource\nprint("files", *resource.getrlimit(resource.RLIMIT_NOFILE))';
    const [, soft, hard] = /files (\d+) (\d+)/.exec((await run(code)).log) ?? [];
    expect(Number(soft)).toBeLessThanOrEqual(4_096);
    expect(hard).toBe(soft);
  });

  test('may have many open files that are no pipes', async () => {
    const code = `
import os, time
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(900)]
for _ in range(7):
    if os.fork() == 0: break
time.sleep(3)
`;
    expect(await run(code)).toMatchObject({ status: 'succeeded' });
  });

  test.each([
    [
      'in open files without a name',
      `
for number in range(8):
    held.append(open("part", "wb"))
    os.unlink("part")
    held[-1].write(b"x" * (4 << 20))
    held[-1].flush()`,
      '',
    ],
    [
      'below folders whose path is too long',
      `
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
for number in range(8): open("part%d" % number, "wb").write(b"x" * (4 << 20))`,
      'nested too deep',
    ],
  ])('cannot exceed its disk space %s', async (_, fill, why) => {
    const code = `
import os, time
held = []${fill}
print("wrote it all", flush=True)
time.sleep(30)
`;
    const outcome = await run(code);
    expect(outcome.log).toContain('wrote it all');
    expect(outcome).toMatchObject({ status: 'failed', reason: 'exit', exitCode: null });
    expect(outcome.log).toMatch(/resources\.diskBytes/);
    expect(outcome.log).toContain(why);
  });

  test('may have unlinked files in memory and small ones on disk', async () => {
    const code = `
import os, time
held = [open(folder + "part", "wb") for folder in ("/dev/shm/", "/tmp/", "")]
for file, size in zip(held, (30, 30, 4)):
    os.unlink(file.name)
    file.write(b"x" * (size << 20))
    file.flush()
time.sleep(3)
`;
    expect(await run(code, { resources: { ...resources, diskBytes: 32 * MIB } })).toMatchObject({
      status: 'succeeded',
    });
  });
});

test('folders that cannot be read have no limit to their size, until their program has ended', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-folders-'));
  const root = process.getuid?.() === 0;
  try {
    mkdirSync(join(folder, 'closed'));
    writeFileSync(join(folder, 'closed', 'part'), Buffer.alloc(MIB, 1));
    if (root) await giveTo(NOBODY, folder);
    chmodSync(join(folder, 'closed'), 0);
    // Root without privileges reads nothing of others either.
    if (root) process.seteuid?.(NOBODY);
    expect(await folderBytes([folder])).toBe(Infinity);
    const bytes = await folderBytes([folder], true);
    expect(bytes).toBeGreaterThanOrEqual(MIB);
    expect(bytes).toBeLessThan(2 * MIB);
    expect(await folderBytes([join(folder, 'missing')])).toBe(0);
  } finally {
    if (root) process.seteuid?.(0);
    await removeFolder(folder);
  }
});
