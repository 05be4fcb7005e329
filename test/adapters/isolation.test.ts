// What a job's code cannot do: each attack fails in the sandbox, and succeeds without it, so that it is a real one.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { JobOutcome } from '../../activities/ports.ts';
import { eventually, pythonJob } from '../contracts/cluster.ts';
import { runJob } from '../contracts/run-job.ts';
import { openLocalCluster, processesWith, sandboxForTests, type LocalHarness } from './local-cluster.ts';

const hasSandbox = await sandboxForTests('that jobs are isolated from the platform, the network and one another');
const isolated = hasSandbox ? describe : describe.skip;

/** The targets of the attacks on this machine. */
interface Targets {
  readonly token: string;
  readonly tokenFile: string;
  readonly otherJob: string;
  readonly outside: string;
  readonly tcpPort: number;
  readonly httpPort: number;
  readonly abstractName: string;
  readonly pathSocket: string;
  readonly approvals: string[];
}

interface Attack {
  readonly name: string;
  /** Python; prints `SUCCEEDED` when it got through. */
  readonly code: (targets: Targets, harness: LocalHarness) => string;
  /** Whether the attack succeeded, as seen from outside; by default its output decides. */
  readonly got?: (targets: Targets, outcome: JobOutcome) => boolean;
}

const python = (value: unknown): string => JSON.stringify(value);

const attacks: readonly Attack[] = [
  {
    name: "reads the platform's token file",
    code: ({ tokenFile }) => `print(open(${python(tokenFile)}).read())`,
    got: ({ token }, outcome) => outcome.log.includes(token),
  },
  {
    name: "connects to the port of Temporal on this machine's loopback",
    code: ({ tcpPort }) =>
      `import socket\nwith socket.create_connection(("127.0.0.1", ${tcpPort}), 5) as s: print("SUCCEEDED" if s.recv(9) == b"temporal!" else "")`,
  },
  {
    name: 'sends an approval over HTTP',
    code: ({ httpPort }) =>
      `import urllib.request\nurllib.request.urlopen(urllib.request.Request("http://127.0.0.1:${httpPort}/approve", b"{}", method="POST"), timeout=5)`,
    got: ({ approvals }) => approvals.splice(0).length > 0,
  },
  {
    name: 'sees other processes in /proc',
    code: () => `import os
own = str(os.getpid())
lines = [open("/proc/%s/cmdline" % p).read() for p in os.listdir("/proc") if p.isdigit() and p != own]
print("SUCCEEDED" if any("jest" in line for line in lines) else "only its own")`,
  },
  {
    name: 'writes outside its output folder',
    code: ({ outside }) => `open(${python(join(outside, 'planted'))}, "w").write("x")`,
    got: ({ outside }) => {
      const path = join(outside, 'planted');
      const got = existsSync(path);
      rmSync(path, { force: true });
      return got;
    },
  },
  {
    name: 'changes its own inputs',
    code: () => `import os\nopen(os.environ["OCDL_INPUTS"] + "/planted", "w").write("x")\nprint("SUCCEEDED")`,
  },
  {
    name: "reads another job's folder",
    code: ({ otherJob }) => `import os\nprint("SUCCEEDED" if os.listdir(${python(otherJob)}) else "empty")`,
  },
  {
    name: 'talks to an abstract Unix socket of this machine',
    code: ({ abstractName }) =>
      `import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(b"\\0" + ${python(abstractName)}.encode())\nprint("SUCCEEDED")`,
  },
  {
    name: 'talks to a Unix socket in the file system',
    code: ({ pathSocket }) =>
      `import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(${python(pathSocket)})\nprint("SUCCEEDED")`,
  },
  {
    name: "reads the worker's environment",
    code: () => `import os
found = open("/proc/%d/environ" % os.getppid(), "rb").read()
print("SUCCEEDED" if ${python(`HOME=${homedir()}`)}.encode() in found else "nothing of the worker")`,
  },
  {
    name: "reads this machine's list of users",
    code: () => `print("SUCCEEDED" if "daemon:" in open("/etc/passwd").read() else "its own alone")`,
  },
  {
    name: 'creates a user namespace, in which it would be root',
    code: () => `${SYSCALLS}
print("SUCCEEDED" if libc.unshare(0x10000000) == 0 else "refused with %d" % ctypes.get_errno())`,
  },
  {
    name: 'creates a user namespace with a new process',
    code: () => `${SYSCALLS}
pid = libc.syscall(CLONE, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
print("SUCCEEDED" if pid > 0 else "refused with %d" % ctypes.get_errno())`,
  },
  {
    name: 'creates a user namespace with clone3, whose flags no filter can see',
    code: () => `${SYSCALLS}
arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
pid = libc.syscall(435, arguments, 88)
if pid == 0: os._exit(0)
print("SUCCEEDED" if pid > 0 else "refused with %d" % ctypes.get_errno())`,
  },
  {
    name: 'creates a user namespace with unshare',
    code: () => `import subprocess
print(subprocess.run(["unshare", "--user", "--map-root-user", "echo", "SUCCEEDED"], capture_output=True, text=True).stdout)`,
  },
  {
    name: 'keeps memory in an unnamed file that belongs to no process',
    code: () => `import os\nos.memfd_create("bomb")\nprint("SUCCEEDED")`,
  },
  {
    name: 'keeps memory in an unmapped shared segment',
    code: () => `${SYSCALLS}
segment = libc.shmget(0, 1 << 20, 0o1600)
if segment >= 0: libc.shmctl(segment, 0, None)
print("SUCCEEDED" if segment >= 0 else "refused with %d" % ctypes.get_errno())`,
  },
];

/** For attacks by system calls: `clone` has another number on each kind of processor. */
const SYSCALLS = `import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]`;

isolated('a job cannot do what it could without the sandbox:', () => {
  const opened: { inside?: LocalHarness; bare?: LocalHarness; targets?: Targets; close: (() => Promise<void>)[] } = {
    close: [],
  };
  const open = (): { inside: LocalHarness; bare: LocalHarness; targets: Targets } => {
    const { inside, bare, targets } = opened;
    if (!inside || !bare || !targets) throw new Error('the targets were not set up');
    return { inside, bare, targets };
  };
  const run = (harness: LocalHarness, code: string, more: readonly string[] = []): Promise<JobOutcome> => {
    const argv = ['python', 'in/code/main.py', ...more];
    return runJob(harness, pythonJob(harness.api, { code, argv }));
  };

  beforeAll(async () => {
    // Not below /tmp, which the sandbox covers with a folder of its own in any case.
    const parent = mkdtempSync('/var/tmp/ocdl-isolation-');
    opened.close.push(() => Promise.resolve(rmSync(parent, { recursive: true, force: true })));
    const inside = await openLocalCluster({ sandbox: 'bubblewrap', home: join(parent, 'home') });
    const bare = await openLocalCluster({ sandbox: 'none' });
    Object.assign(opened, { inside, bare });
    opened.close.push(inside.close, bare.close);
    opened.targets = await setUpTargets(inside, opened.close);
  });
  afterAll(async () => {
    for (const close of opened.close.reverse()) await close();
  });

  test.each(attacks)('$name', async ({ code, got }) => {
    const { inside, bare, targets } = open();
    const attempt = async (harness: LocalHarness): Promise<boolean> => {
      const outcome = await run(harness, code(targets, harness));
      // The attack itself must have run: a job that never started would prove nothing.
      expect(outcome).not.toMatchObject({ reason: 'environment' });
      expect(outcome).not.toMatchObject({ reason: 'fetch' });
      expect(outcome.log).not.toMatch(/SyntaxError|bwrap:|setpriv:|prlimit:|env:/);
      return got ? got(targets, outcome) : /^SUCCEEDED$/m.test(outcome.log);
    };
    expect(await attempt(bare)).toBe(true);
    expect(await attempt(inside)).toBe(false);
  });

  test('survives its cancellation by a double fork in its own session', async () => {
    const { inside, bare } = open();
    const code = `
import os, sys, time
if os.fork() == 0:
    os.setsid()
    between = os.getpid()
    if os.fork() == 0:
        # Until then it still descends from the job.
        while os.getppid() == between: time.sleep(0.01)
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2): os.dup2(null, number)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(120)", sys.argv[1] + "-escaped"])
    os._exit(0)
time.sleep(120)
`;
    const survives = async (harness: LocalHarness): Promise<boolean> => {
      const marker = `marker-${randomUUID()}`;
      const escaped = (): boolean => processesWith(`${marker}-escaped`).length > 0;
      const abort = new AbortController();
      const spec = pythonJob(harness.api, { code, argv: ['python', 'in/code/main.py', marker] });
      const ended = runJob(harness, spec, { signal: abort.signal }).catch(() => undefined);
      await eventually('the escaped process runs', () => Promise.resolve(escaped()));
      abort.abort(new Error('cancelled'));
      await ended;
      const survived = escaped();
      endMarked(`${marker}-escaped`);
      return survived;
    };
    expect(await survives(bare)).toBe(true);
    expect(await survives(inside)).toBe(false);
  });

  test('leaves a process behind when it ends normally', async () => {
    const { inside, bare } = open();
    const code = `
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", sys.argv[1] + "-left"], start_new_session=True,
  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
`;
    const leaves = async (harness: LocalHarness): Promise<boolean> => {
      const marker = `marker-${randomUUID()}`;
      expect(await run(harness, code, [marker])).toMatchObject({ status: 'succeeded' });
      const left = processesWith(`${marker}-left`).length > 0;
      endMarked(`${marker}-left`);
      return left;
    };
    expect(await leaves(bare)).toBe(true);
    expect(await leaves(inside)).toBe(false);
  });

  test('has no privileges: an unprivileged user, no capabilities, no way to gain any, no write access to the kernel', async () => {
    const { inside } = open();
    const code = `
import os
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print("uid", os.getuid(), "capabilities", status["CapEff"], status["CapPrm"], status["CapBnd"], "locked", status["NoNewPrivs"])
print("kernel writable", any(os.access(p, os.W_OK) for p in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys")))
print("root writable", os.access("/", os.W_OK), "dev writable", os.access("/dev", os.W_OK))
`;
    const { log } = await run(inside, code);
    expect(log).toMatch(/uid [1-9]\d* capabilities 0{16} 0{16} 0{16} locked 1/);
    expect(log).toMatch(/kernel writable False/);
    expect(log).toMatch(/root writable False dev writable False/);
  });

  test('a folder that contains the platform is never mounted', async () => {
    const careless = await openLocalCluster({
      sandbox: 'bubblewrap',
      environment: () => Promise.resolve({ python: '/usr/bin/python3', base: '/usr/bin/python3', folders: [tmpdir()] }),
    });
    try {
      const outcome = await run(careless, 'pass');
      expect(outcome).toMatchObject({ status: 'failed', reason: 'environment' });
      expect(outcome.log).toMatch(/the sandbox would expose .*OCDL_HOME/);
    } finally {
      await careless.close();
    }
  });
});

async function setUpTargets(inside: LocalHarness, close: (() => Promise<void>)[]): Promise<Targets> {
  const outside = mkdtempSync('/var/tmp/ocdl-outside-');
  const token = `secret-${randomUUID()}`;
  const tokenFile = join(inside.home, 'token');
  writeFileSync(tokenFile, token);
  const otherJob = join(inside.home, 'jobs', 'other-job', 'in');
  mkdirSync(otherJob, { recursive: true });
  writeFileSync(join(otherJob, 'data.csv'), 'theirs');
  const approvals: string[] = [];
  const greet = (): Server => createServer((socket) => void socket.on('error', () => undefined).end('temporal!'));
  const tcp = greet();
  const http = createHttpServer((request, response) => {
    approvals.push(request.url ?? '');
    response.end();
  });
  // Python listens here: not every Node can on a name of this kind.
  const abstractName = `ocdl-test-${randomUUID()}`;
  const pathSocket = join(outside, 'socket');
  const servers: readonly [Server | HttpServer, string | undefined][] = [
    [tcp, undefined],
    [http, undefined],
    [greet(), pathSocket],
  ];
  for (const [server, path] of servers) {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      if (path === undefined) server.listen(0, '127.0.0.1', resolve);
      else server.listen(path, resolve);
    });
    close.push(() => new Promise((resolve) => server.close(() => resolve())));
  }
  // Open to every user: what is not seen must hold by itself, also where the worker is no root and its jobs are its own user.
  for (const path of [dirname(inside.home), inside.home, join(inside.home, 'jobs'), outside, pathSocket])
    chmodSync(path, 0o777);
  close.push(await listenOnAbstractName(abstractName));
  close.push(() => Promise.resolve(rmSync(outside, { recursive: true, force: true })));
  const port = (server: Server | HttpServer): number => (server.address() as AddressInfo).port;
  return {
    token,
    tokenFile,
    otherJob,
    outside,
    tcpPort: port(tcp),
    httpPort: port(http),
    abstractName,
    pathSocket,
    approvals,
  };
}

async function listenOnAbstractName(name: string): Promise<() => Promise<void>> {
  const code = `import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind(b"\\0" + ${python(name)}.encode())\ns.listen()
print("listening", flush=True)\nwhile True: s.accept()[0].close()`;
  const child = spawn('python3', ['-c', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return async () => {
    child.kill('SIGKILL');
    await once(child, 'close');
  };
}

/** Ends the process that a control left behind, found by its own unique mark. */
function endMarked(marker: string): void {
  for (const pid of processesWith(marker)) process.kill(pid, 'SIGKILL');
}
