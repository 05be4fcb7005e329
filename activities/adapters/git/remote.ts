// Git against a remote: its address, who we are there, who it must be; and what its refusals mean.
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { failure, SystemUnavailable } from '../../failures.ts';
import { checkRepository } from './names.ts';
import { initRepository } from './repository.ts';
import type { Git, GitAnswer, GitCall } from './run-git.ts';

export interface RemoteOptions {
  /**
   * Address of the repositories: `https://host/group/{repository}.git` or `ssh://git@host/{repository}.git`. `{repository}`
   * stands for a name such as `vulnerability/code`, `{name}` for `vulnerability.code`, where a host has no groups in groups.
   */
  readonly remote: string;
  /** A private key without passphrase, and the file of the host keys that alone are taken (see ssh-keyscan). */
  readonly ssh?: { readonly keyFile: string; readonly knownHostsFile: string } | undefined;
  /** `tokenFile` holds the token or password, and is read anew for each call; `caFile` the authority, if not a public one. */
  readonly https?:
    { readonly username: string; readonly tokenFile: string; readonly caFile?: string | undefined } | undefined;
  /** Seconds without an answer after which the remote counts as away; 30 unless given. */
  readonly stallSeconds?: number | undefined;
}

export interface Remote {
  url(repository: string): string;
  /** Runs git with all that it needs to speak to the remote and nothing else. */
  ask(call: GitCall): Promise<GitAnswer>;
  /** What a refusal means: a `NotFound`, or an ordinary error that says what a person can do. */
  refusal(repository: string, complaint: string): Promise<Error>;
  check(): Promise<void>;
}

/** A busy host pauses; half a minute is more than that. */
const STALL_SECONDS = 30;
/** A first copy of a large repository takes minutes; nothing lawful takes longer. */
const CALL_LIMIT_MS = 600_000;
/** Much of what a remote says is a banner. */
const QUOTE_LIMIT = 500;
/** A name that no repository of the platform has. */
const NOBODYS = 'ocdl/check';

/** Opens nothing yet, but looks at the address and the files. `drafts` is a folder for temporary files. */
export async function createRemote(git: Git, drafts: string, options: RemoteOptions): Promise<Remote> {
  const { ssh, https, stallSeconds = STALL_SECONDS } = options;
  const protocol = checkTemplate(options);
  for (const file of [ssh?.keyFile, ssh?.knownHostsFile, https?.tokenFile, https?.caFile])
    if (file !== undefined) await access(file, constants.R_OK).catch(() => refuse(`the file ${file} cannot be read`));
  const { env, settings } =
    protocol === 'ssh' ? overSsh(ssh, stallSeconds) : await overHttps(drafts, https, stallSeconds);

  const url = (repository: string): string =>
    options.remote
      .replace('{repository}', checkRepository(repository).join('/'))
      .replace('{name}', checkRepository(repository).join('.'));

  const ask = (call: GitCall): Promise<GitAnswer> =>
    git.ask({
      limitMs: CALL_LIMIT_MS,
      ...call,
      settings: [...UNTRUSTED, ...settings],
      env: { GIT_ALLOW_PROTOCOL: protocol, ...env, ...call.env },
    });

  async function refusal(repository: string, complaint: string): Promise<Error> {
    const said = await quote(complaint, https);
    const where = `the Git remote ${url(repository)}`;
    if (MISSING.test(complaint))
      return failure(
        'NotFound',
        `${where}: there is no such repository, or it is not shown to us: make it by hand there, and give the platform's account write access`,
      );
    const found = remedies.find(({ is }) => is.test(complaint));
    return new SystemUnavailable({
      system: 'Git',
      reason: found?.reason ?? 'the remote cannot be reached or broke off',
      message: `${where}: ${found?.remedy(options) ?? 'it cannot be reached or broke off'}; it is tried again (${said})`,
      isFull: found?.isFull ?? false,
    });
  }

  async function check(): Promise<void> {
    const gitDir = join(drafts, `${randomUUID()}.git`);
    try {
      await initRepository(git, gitDir);
      const { status, complaint } = await ask({ gitDir, args: ['ls-remote', '--heads', url(NOBODYS)] });
      // "There is none" is an answer of the right host to the right account.
      if (status !== 0 && !MISSING.test(complaint)) throw await refusal(NOBODYS, complaint);
    } finally {
      await rm(gitDir, { recursive: true, force: true });
    }
  }

  return { url, ask, refusal, check };
}

/** What comes from a remote is untrusted: objects are checked, as GitLab does, but for three harmless flaws of old histories. */
const UNTRUSTED = [
  'fetch.fsckObjects=true',
  ...['badTimezone', 'missingSpaceBeforeDate', 'zeroPaddedFilemode'].map((flaw) => `fetch.fsck.${flaw}=ignore`),
  'submodule.recurse=false',
  'transfer.bundleURI=false',
  // No helper that the machine knows, and no redirect: what we send is for the host that was named.
  'credential.helper=',
  'http.followRedirects=false',
];

type Means = { readonly env: Readonly<Record<string, string>>; readonly settings: readonly string[] };

function overSsh(ssh: RemoteOptions['ssh'], stallSeconds: number): Means {
  if (!ssh) return refuse('a remote over SSH needs the file of a private key and the file of the host keys');
  const options = {
    BatchMode: 'yes',
    StrictHostKeyChecking: 'yes',
    UserKnownHostsFile: ssh.knownHostsFile,
    GlobalKnownHostsFile: '/dev/null',
    UpdateHostKeys: 'no',
    IdentitiesOnly: 'yes',
    IdentityAgent: 'none',
    PreferredAuthentications: 'publickey',
    ClearAllForwardings: 'yes',
    LogLevel: 'ERROR',
    ConnectTimeout: String(stallSeconds),
    // Three unanswered questions make a stall.
    ServerAliveInterval: String(Math.ceil(stallSeconds / 3)),
    ServerAliveCountMax: '3',
  };
  const words = ['ssh', '-F', '/dev/null', '-i', ssh.keyFile];
  for (const [name, value] of Object.entries(options)) words.push('-o', `${name}=${value}`);
  // Git has a shell read these words, and ssh puts meaning into others: only what means itself to both.
  const odd = words.find((word) => !/^[A-Za-z0-9_./@+,=-]+$/.test(word));
  if (odd !== undefined)
    refuse(`"${odd}" will not do for SSH: a path there has letters, digits and _ . / @ + , = - only`);
  return { env: { GIT_SSH_COMMAND: words.join(' '), GIT_SSH_VARIANT: 'ssh' }, settings: [] };
}

/** The token goes from its file into git by a program that git asks; it is in no argument, no variable and no address. */
async function overHttps(drafts: string, https: RemoteOptions['https'], stallSeconds: number): Promise<Means> {
  // Less than a kilobyte a second is no transfer.
  const settings = ['http.sslVerify=true', 'http.lowSpeedLimit=1000', `http.lowSpeedTime=${stallSeconds}`];
  if (!https) return { env: {}, settings };
  const askpass = join(drafts, 'askpass');
  const draft = `${askpass}.${randomUUID()}`;
  await writeFile(draft, '#!/bin/sh\nexec cat "$OCDL_GIT_TOKEN_FILE"\n', { mode: 0o700 });
  await rename(draft, askpass);
  if (https.caFile !== undefined) settings.push(`http.sslCAInfo=${https.caFile}`);
  settings.push(`credential.username=${https.username}`);
  return { env: { GIT_ASKPASS: askpass, OCDL_GIT_TOKEN_FILE: https.tokenFile }, settings };
}

/** The protocol of a lawful template. */
function checkTemplate({ remote }: RemoteOptions): 'https' | 'ssh' | 'http' {
  const parts = remote.split(/\{(?:repository|name)\}/);
  const example = URL.canParse(parts.join('x')) ? new URL(parts.join('x')) : undefined;
  // The text is not shown before it is known to hold no password.
  if (!example || example.password !== '' || (example.protocol !== 'ssh:' && example.username !== ''))
    return refuse(
      'the remote must be like https://host/group/{repository}.git or ssh://git@host/{repository}.git, without a password',
    );
  const isPlain = /^[a-z]+:\/\/(?:\w[\w.-]*@)?(?:\w[\w.-]*|\[[0-9a-f:]+\])(?::\d+)?\/[\w./{}~-]+$/i.test(remote);
  if (parts.length !== 2 || !isPlain || /\{/.test(parts[0]?.split('/', 3).join('/') ?? ''))
    return refuse(`${remote} must have {repository} or {name} once, in its path, and no characters that need escapes`);
  if (example.protocol === 'https:') return 'https';
  if (example.protocol === 'ssh:') return 'ssh';
  if (example.protocol === 'http:' && /^(localhost|127\.[\d.]+|\[::1\])$/.test(example.hostname)) return 'http';
  return refuse(
    `${remote} is not taken: over https or ssh only, or what is said there could be heard and changed on its way`,
  );
}

/** What hosts say when a repository is missing; most say the same when it may not be seen. */
const MISSING =
  /does not appear to be a git repository|repository '[^']*' not found|ERROR: Repository not found|could not be found|fatal: '[^']*': no such repository/i;

/** What a person can do, and the same for whoever asked, without names of files. The order decides: a changed host key also ends in "could not read". */
const remedies: readonly {
  readonly is: RegExp;
  readonly reason: string;
  readonly remedy: (options: RemoteOptions) => string;
  readonly isFull?: true;
}[] = [
  {
    is: /No space left on device|quota exceeded|exceeded .*(quota|storage limit)/i,
    reason: 'the remote has no space left',
    remedy: () => 'it has no space left: free some there, or raise its quota',
    isFull: true,
  },
  {
    is: /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|No .* host key is known/,
    reason: 'the host key of the remote is not a known one',
    remedy: ({ ssh }) =>
      `its host key is not one of those in ${ssh?.knownHostsFile}, and nothing was sent: if the host has a new key, compare it with what its owner publishes, then write it there`,
  },
  {
    is: /UNPROTECTED PRIVATE KEY|bad permissions/,
    reason: 'the private key is not protected',
    remedy: ({ ssh }) => `others may read the key ${ssh?.keyFile}: chmod 600`,
  },
  {
    is: /Load key|error in libcrypto/,
    reason: 'the private key cannot be read',
    remedy: ({ ssh }) => `${ssh?.keyFile} is no private key that ssh can read without a passphrase`,
  },
  {
    is: /Permission denied \(|denied to|not allowed to (push|upload)/,
    reason: 'the remote refuses the key of the platform',
    remedy: ({ ssh }) => `it refuses the key ${ssh?.keyFile}: add its public half there, with write access`,
  },
  {
    is: /Authentication failed|could not read (Username|Password)|unable to read askpass|returned error: 40[13]/,
    reason: 'the remote refuses the user or the token of the platform',
    remedy: ({ https }) =>
      https
        ? `it refuses the user or the token in ${https.tokenFile}: give one that may read and write`
        : 'it asks for a user and a token: give the file of one',
  },
  {
    is: /certificate|handshake/i,
    reason: 'the certificate of the remote is not trusted',
    remedy: ({ https }) =>
      `it did not prove who it is: its certificate must be of the host in its address, and of an authority in ${https?.caFile ?? 'this machine (none was given)'}`,
  },
  {
    is: /returned error: 30\d|unable to update url base/,
    reason: 'the remote has another address now',
    remedy: () => 'it sends us elsewhere: give the new address',
  },
  {
    is: /remote rejected|hook declined/,
    reason: 'a rule of the remote refuses the commit',
    remedy: () => 'a rule there refuses the commit: let the platform move this branch',
  },
  {
    is: /fsck|bad object|unpack/i,
    reason: 'the remote sent damaged objects',
    remedy: () => 'it sent objects that are damaged, or could harm whoever checks them out',
  },
];

/** What was said, without control characters and without the token, should a remote repeat it. */
async function quote(complaint: string, https: RemoteOptions['https']): Promise<string> {
  // Git takes the first line.
  const [token = ''] = https ? (await readFile(https.tokenFile, 'utf8').catch(() => '')).trim().split(/\r?\n/) : [];
  const basic = Buffer.from(`${https?.username}:${token}`).toString('base64');
  const shown = token === '' ? complaint : complaint.replaceAll(token, '***').replaceAll(basic, '***');
  return shown
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, QUOTE_LIMIT);
}

function refuse(problem: string): never {
  throw failure('InvalidInput', `Git: ${problem}`);
}
