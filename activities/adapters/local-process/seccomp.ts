// The system call filter of sandboxed programs: no memory that escapes the limits, no nested namespaces.
import { endianness } from 'node:os';

/** System call numbers from the kernel's tables (asm/unistd_64.h, asm-generic/unistd.h), and the audit name of the architecture. */
interface Machine {
  readonly audit: number;
  readonly calls: Readonly<Record<Call, number>>;
  /** Numbers from here on belong to another ABI (x32), which the table does not list. */
  readonly foreignFrom?: number;
}

type Call = (typeof unknownCalls)[number] | (typeof namespaceCalls)[number] | CheckedCall;
/** Refused always or depending on their arguments, each by a rule of its own. */
type CheckedCall = 'setns' | 'clone3' | 'setsockopt' | 'mmap' | 'socket' | 'socketpair' | 'fcntl';

/** Answered like an unknown system call (ENOSYS), so that libraries fall back. */
const unknownCalls = [
  // Memory that belongs to no process: written but not mapped, it is in no process's statistics.
  'memfd_create',
  'memfd_secret',
  'shmget',
  'msgget',
  'semget',
  'mq_open',
  // They move pages into pipes without a copy: a few bytes of a large page keep all of it.
  'splice',
  'tee',
  'vmsplice',
  // io_uring executes system calls that no filter sees.
  'io_uring_setup',
  // All processes of a user share key rings, across sandboxes.
  'add_key',
  'request_key',
  'keyctl',
  // Parts of the kernel that no job needs and that have had the most vulnerabilities.
  'bpf',
  'userfaultfd',
  'perf_event_open',
] as const;
/** Refused if their flags request a namespace. */
const namespaceCalls = ['clone', 'unshare'] as const;

const machines: Readonly<Record<string, Machine>> = {
  x64: {
    audit: 0xc000003e,
    foreignFrom: 0x40000000,
    calls: {
      memfd_create: 319,
      memfd_secret: 447,
      shmget: 29,
      msgget: 68,
      semget: 64,
      mq_open: 240,
      io_uring_setup: 425,
      add_key: 248,
      request_key: 249,
      keyctl: 250,
      bpf: 321,
      userfaultfd: 323,
      perf_event_open: 298,
      clone: 56,
      unshare: 272,
      setns: 308,
      clone3: 435,
      setsockopt: 54,
      mmap: 9,
      socket: 41,
      socketpair: 53,
      fcntl: 72,
      splice: 275,
      tee: 276,
      vmsplice: 278,
    },
  },
  arm64: {
    audit: 0xc00000b7,
    calls: {
      memfd_create: 279,
      memfd_secret: 447,
      shmget: 194,
      msgget: 186,
      semget: 190,
      mq_open: 180,
      io_uring_setup: 425,
      add_key: 217,
      request_key: 218,
      keyctl: 219,
      bpf: 280,
      userfaultfd: 282,
      perf_event_open: 241,
      clone: 220,
      unshare: 97,
      setns: 268,
      clone3: 435,
      setsockopt: 208,
      mmap: 222,
      socket: 198,
      socketpair: 199,
      fcntl: 25,
      splice: 76,
      tee: 77,
      vmsplice: 75,
    },
  },
};

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of linux/sched.h. */
const NAMESPACE_FLAGS = 0x7e020000;
/** Of asm-generic/socket.h. */
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
/** Set in SOCK_RDM, SOCK_SEQPACKET and SOCK_DCCP, not in SOCK_STREAM, SOCK_DGRAM and SOCK_RAW. */
const UNUSUAL_TYPE = 4;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
/** Of asm-generic/mman.h: the bit that MAP_SHARED and MAP_SHARED_VALIDATE have and MAP_PRIVATE has not. */
const MAP_SHARED = 1;
const MAP_ANONYMOUS = 0x20;
/** Of linux/fcntl.h. */
const F_SETPIPE_SZ = 1031;
const EPERM = 1;
const ENOSYS = 38;
const EPROTONOSUPPORT = 93;
const EAFNOSUPPORT = 97;

export interface FilterOptions {
  readonly architecture?: string;
  /** Allows anonymous shared memory, of which a process's statistics show only the part that it maps. */
  readonly sharedMemory?: boolean;
}

/** The filter in bubblewrap's format; `undefined` for an architecture without a table. */
export function systemCallFilter(options: FilterOptions = {}): Buffer | undefined {
  const { architecture = process.arch, sharedMemory = false } = options;
  const machine = machines[architecture];
  if (machine === undefined || endianness() !== 'LE') return undefined;
  const { audit, calls, foreignFrom } = machine;
  const rules: Instruction[][] = [
    [load(AUDIT_AT)],
    // Calls of another architecture (32 bit) have different numbers: a program that makes one is killed.
    [{ ...JUMP_IF_EQUAL, k: audit, yes: 1, no: 0 }, answer(KILL_PROCESS)],
    [load(NUMBER_AT)],
    ...(foreignFrom === undefined ? [] : [[{ ...JUMP_IF_AT_LEAST, k: foreignFrom, yes: 0, no: 1 }, refuse(ENOSYS)]]),
    ...unknownCalls.map((call) => [{ ...JUMP_IF_EQUAL, k: calls[call], yes: 0, no: 1 }, refuse(ENOSYS)]),
    [{ ...JUMP_IF_EQUAL, k: calls.setns, yes: 0, no: 1 }, refuse(EPERM)],
    // Its flags are in memory, which a filter cannot read: with ENOSYS the C library falls back to clone.
    [{ ...JUMP_IF_EQUAL, k: calls.clone3, yes: 0, no: 1 }, refuse(ENOSYS)],
    ...namespaceCalls.map((call) => [
      { ...JUMP_IF_EQUAL, k: calls[call], yes: 0, no: 4 },
      load(argumentAt(0)),
      { ...JUMP_IF_ANY_BIT, k: NAMESPACE_FLAGS, yes: 0, no: 1 },
      refuse(EPERM),
      answer(ALLOW),
    ]),
    // A socket keeps the default size of its buffers, with which it counts as memory (process-tree.ts). As where the kernel
    // limits a size, the call succeeds.
    [
      { ...JUMP_IF_EQUAL, k: calls.setsockopt, yes: 0, no: 7 },
      load(argumentAt(1)),
      { ...JUMP_IF_EQUAL, k: SOL_SOCKET, yes: 0, no: 4 },
      load(argumentAt(2)),
      { ...JUMP_IF_EQUAL, k: SO_SNDBUF, yes: 1, no: 0 },
      { ...JUMP_IF_EQUAL, k: SO_RCVBUF, yes: 0, no: 1 },
      refuse(0),
      answer(ALLOW),
    ],
    ...(sharedMemory ? [] : [noSharedMemory(calls.mmap)]),
    ...sockets(calls),
    // A pipe keeps its default size, with which it counts as memory (process-tree.ts).
    [
      { ...JUMP_IF_EQUAL, k: calls.fcntl, yes: 0, no: 4 },
      load(argumentAt(1)),
      { ...JUMP_IF_EQUAL, k: F_SETPIPE_SZ, yes: 0, no: 1 },
      refuse(EPERM),
      answer(ALLOW),
    ],
    [answer(ALLOW)],
  ];
  return Buffer.concat(rules.flat().map(encode));
}

/** Its pages stay without a mapping (MADV_DONTNEED), and are then in no process's statistics. Files in /dev/shm are counted. */
function noSharedMemory(mmap: number): Instruction[] {
  return [
    { ...JUMP_IF_EQUAL, k: mmap, yes: 0, no: 5 },
    load(argumentAt(3)),
    { ...JUMP_IF_ANY_BIT, k: MAP_ANONYMOUS, yes: 0, no: 2 },
    { ...JUMP_IF_ANY_BIT, k: MAP_SHARED, yes: 0, no: 1 },
    refuse(EPERM),
    answer(ALLOW),
  ];
}

/** Only the kinds of sockets whose number and largest size the worker can read: Unix, netlink, TCP and UDP. */
function sockets(calls: Machine['calls']): Instruction[][] {
  return [
    [
      { ...JUMP_IF_EQUAL, k: calls.socket, yes: 0, no: 14 },
      load(argumentAt(0)),
      { ...JUMP_IF_EQUAL, k: AF_UNIX, yes: 11, no: 0 },
      { ...JUMP_IF_EQUAL, k: AF_NETLINK, yes: 10, no: 0 },
      { ...JUMP_IF_EQUAL, k: AF_INET, yes: 2, no: 0 },
      { ...JUMP_IF_EQUAL, k: AF_INET6, yes: 1, no: 0 },
      refuse(EAFNOSUPPORT),
      load(argumentAt(1)),
      { ...JUMP_IF_ANY_BIT, k: UNUSUAL_TYPE, yes: 4, no: 0 },
      load(argumentAt(2)),
      { ...JUMP_IF_EQUAL, k: 0, yes: 3, no: 0 },
      { ...JUMP_IF_EQUAL, k: IPPROTO_TCP, yes: 2, no: 0 },
      { ...JUMP_IF_EQUAL, k: IPPROTO_UDP, yes: 1, no: 0 },
      refuse(EPROTONOSUPPORT),
      answer(ALLOW),
    ],
    [
      { ...JUMP_IF_EQUAL, k: calls.socketpair, yes: 0, no: 4 },
      load(argumentAt(0)),
      { ...JUMP_IF_EQUAL, k: AF_UNIX, yes: 1, no: 0 },
      refuse(EAFNOSUPPORT),
      answer(ALLOW),
    ],
  ];
}

/** One instruction of classic BPF (linux/filter.h). */
interface Instruction {
  readonly code: number;
  readonly k: number;
  /** Number of instructions to skip. */
  readonly yes: number;
  readonly no: number;
}

/** Offsets in `struct seccomp_data`. */
const NUMBER_AT = 0;
const AUDIT_AT = 4;
/** The lower half of an argument, which contains all flags and every `int`. */
const argumentAt = (index: number): number => 16 + 8 * index;
/** Results of a filter (linux/seccomp.h). */
const ALLOW = 0x7fff0000;
const KILL_PROCESS = 0x80000000;
const ERROR = 0x00050000;

const JUMP_IF_EQUAL = { code: 0x15 } as const;
const JUMP_IF_AT_LEAST = { code: 0x35 } as const;
const JUMP_IF_ANY_BIT = { code: 0x45 } as const;
const load = (k: number): Instruction => ({ code: 0x20, k, yes: 0, no: 0 });
const answer = (k: number): Instruction => ({ code: 0x06, k, yes: 0, no: 0 });
const refuse = (error: number): Instruction => answer(ERROR | error);

function encode({ code, k, yes, no }: Instruction): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt8(yes, 2);
  bytes.writeUInt8(no, 3);
  bytes.writeUInt32LE(k, 4);
  return bytes;
}
