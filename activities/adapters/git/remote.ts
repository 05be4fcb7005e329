// Runs git against a remote: its address, our credentials, its expected identity, and the meaning of its errors.
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
   * stands for a name such as `vulnerability/code`, `{name}` for `vulnerability.code` on hosts without nested groups.
   */
  readonly remote: string;
  /** A private key without passphrase, and the file of the accepted host keys (see ssh-keyscan). */
  readonly ssh?: { readonly keyFile: string; readonly knownHostsFile: string } | undefined;
  /** `tokenFile` contains the token or password and is read for each call; `caFile` is needed for a private authority. */
  readonly https?:
    { readonly username: string; readonly tokenFile: string; readonly caFile?: string | undefined } | undefined;
  /** Seconds without a response after which the remote counts as down; default 30. */
  readonly stallSeconds?: number | undefined;
}

export interface Remote {
  url(repository: string): string;
  /** Runs git with only the settings and credentials for this remote. */
  ask(call: GitCall): Promise<GitAnswer>;
  /** Translates a git error: a `NotFound`, or a retryable error with a remedy. */
  refusal(repository: string, complaint: string): Promise<Error>;
  check(): Promise<void>;
}

/** A busy host pauses for less than half a minute. */
const STALL_SECONDS = 30;
/** The first copy of a large repository takes minutes; no valid call takes longer. */
const CALL_LIMIT_MS = 600_000;
/** Most of a remote's output is a banner. */
const QUOTE_LIMIT = 500;
/** A name that no repository of the platform has. */
const NOBODYS = 'ocdl/check';

/** Validates the address and the files; opens no connection. `drafts` is a folder for temporary files. */
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
        `${where}: the repository does not exist or the platform's account cannot see it: create it there by hand, and give the platform's account write access`,
      );
    const found = remedies.find(({ is }) => is.test(complaint));
    return new SystemUnavailable({
      system: 'Git',
      reason: found?.reason ?? 'the remote cannot be reached or closed the connection',
      message: `${where}: ${found?.remedy(options) ?? 'it cannot be reached or closed the connection'}; will be retried (${said})`,
      isFull: found?.isFull ?? false,
    });
  }

  async function check(): Promise<void> {
    const gitDir = join(drafts, `${randomUUID()}.git`);
    try {
      await initRepository(git, gitDir);
      const { status, complaint } = await ask({ gitDir, args: ['ls-remote', '--heads', url(NOBODYS)] });
      // A "not found" response proves that host and account are correct.
      if (status !== 0 && !MISSING.test(complaint)) throw await refusal(NOBODYS, complaint);
    } finally {
      await rm(gitDir, { recursive: true, force: true });
    }
  }

  return { url, ask, refusal, check };
}

// Data from a remote is untrusted: objects are checked as GitLab does, except for three harmless flaws of old histories.
const UNTRUSTED = [
  'fetch.fsckObjects=true',
  ...['badTimezone', 'missingSpaceBeforeDate', 'zeroPaddedFilemode'].map((flaw) => `fetch.fsck.${flaw}=ignore`),
  'submodule.recurse=false',
  'transfer.bundleURI=false',
  // No credential helpers of the machine and no redirects: credentials go only to the configured host.
  'credential.helper=',
  'http.followRedirects=false',
];

type Means = { readonly env: Readonly<Record<string, string>>; readonly settings: readonly string[] };

function overSsh(ssh: RemoteOptions['ssh'], stallSeconds: number): Means {
  if (!ssh) return refuse('a remote over SSH needs a private key file and a file of host keys');
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
    // Three unanswered keepalives mean that the connection is dead.
    ServerAliveInterval: String(Math.ceil(stallSeconds / 3)),
    ServerAliveCountMax: '3',
  };
  const words = ['ssh', '-F', '/dev/null', '-i', ssh.keyFile];
  for (const [name, value] of Object.entries(options)) words.push('-o', `${name}=${value}`);
  // Git passes these words through a shell, and ssh expands some characters: allow only characters that both take literally.
  const odd = words.find((word) => !/^[A-Za-z0-9_./@+,=-]+$/.test(word));
  if (odd !== undefined)
    refuse(`"${odd}" cannot be used for SSH: a path may contain only letters, digits and _ . / @ + , = -`);
  return { env: { GIT_SSH_COMMAND: words.join(' '), GIT_SSH_VARIANT: 'ssh' }, settings: [] };
}

/** Git asks a program for the token, which reads it from its file: the token is in no argument, variable or URL. */
async function overHttps(drafts: string, https: RemoteOptions['https'], stallSeconds: number): Promise<Means> {
  // Less than a kilobyte per second counts as stalled.
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

/** The protocol of a valid address template. */
function checkTemplate({ remote }: RemoteOptions): 'https' | 'ssh' | 'http' {
  const parts = remote.split(/\{(?:repository|name)\}/);
  const example = URL.canParse(parts.join('x')) ? new URL(parts.join('x')) : undefined;
  // The text is not shown until it is known to contain no password.
  if (!example || example.password !== '' || (example.protocol !== 'ssh:' && example.username !== ''))
    return refuse(
      'the remote must be like https://host/group/{repository}.git or ssh://git@host/{repository}.git, without a password',
    );
  const isPlain = /^[a-z]+:\/\/(?:\w[\w.-]*@)?(?:\w[\w.-]*|\[[0-9a-f:]+\])(?::\d+)?\/[\w./{}~-]+$/i.test(remote);
  if (parts.length !== 2 || !isPlain || /\{/.test(parts[0]?.split('/', 3).join('/') ?? ''))
    return refuse(
      `${remote} must contain {repository} or {name} exactly once, in its path, and no characters that need escaping`,
    );
  if (example.protocol === 'https:') return 'https';
  if (example.protocol === 'ssh:') return 'ssh';
  if (example.protocol === 'http:' && /^(localhost|127\.[\d.]+|\[::1\])$/.test(example.hostname)) return 'http';
  return refuse(`${remote} is not allowed: use https or ssh, because other protocols are not encrypted`);
}

/** What hosts report for a missing repository; most report the same for one that the account may not see. */
const MISSING =
  /does not appear to be a git repository|repository '[^']*' not found|ERROR: Repository not found|could not be found|fatal: '[^']*': no such repository/i;

/** Remedies for the operator, and reasons for API callers, without file names. The order matters: a changed host key also ends in "could not read". */
const remedies: readonly {
  readonly is: RegExp;
  readonly reason: string;
  readonly remedy: (options: RemoteOptions) => string;
  readonly isFull?: true;
}[] = [
  {
    is: /No space left on device|quota exceeded|exceeded .*(quota|storage limit)/i,
    reason: 'the remote has no space left',
    remedy: () => 'it has no space left: free space there, or raise its quota',
    isFull: true,
  },
  {
    is: /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|No .* host key is known/,
    reason: 'the host key of the remote is unknown',
    remedy: ({ ssh }) =>
      `its host key is not in ${ssh?.knownHostsFile}, so nothing was sent: if the host has a new key, compare it with the key that its owner publishes, then add it to the file`,
  },
  {
    is: /UNPROTECTED PRIVATE KEY|bad permissions/,
    reason: 'the private key is not protected',
    remedy: ({ ssh }) => `other users may read the key ${ssh?.keyFile}: set its mode to 600`,
  },
  {
    is: /Load key|error in libcrypto/,
    reason: 'the private key cannot be read',
    remedy: ({ ssh }) => `${ssh?.keyFile} is not a private key that ssh can read without a passphrase`,
  },
  {
    is: /Permission denied \(|denied to|not allowed to (push|upload)/,
    reason: 'the remote rejects the key of the platform',
    remedy: ({ ssh }) => `it rejects the key ${ssh?.keyFile}: add its public key there, with write access`,
  },
  {
    is: /Authentication failed|could not read (Username|Password)|unable to read askpass|returned error: 40[13]/,
    reason: 'the remote rejects the user or the token of the platform',
    remedy: ({ https }) =>
      https
        ? `it rejects the user or the token in ${https.tokenFile}: use a token with read and write access`
        : 'it requires a user and a token: configure a token file',
  },
  {
    is: /certificate|handshake/i,
    reason: 'the certificate of the remote is not trusted',
    remedy: ({ https }) =>
      `its certificate is not trusted: it must be issued for the host in the address, by an authority in ${https?.caFile ?? "this machine's trust store (no file is configured)"}`,
  },
  {
    is: /returned error: 30\d|unable to update url base/,
    reason: 'the remote has a new address',
    remedy: () => 'it redirects to another address: configure the new address',
  },
  {
    is: /remote rejected|hook declined/,
    reason: 'a rule of the remote rejects the commit',
    remedy: () => 'a rule there rejects the commit: allow the platform to push to this branch',
  },
  {
    is: /fsck|bad object|unpack/i,
    reason: 'the remote sent damaged objects',
    remedy: () => 'it sent objects that are damaged or unsafe to check out: repair the repository there',
  },
];

/** The complaint without control characters and without the token, in case the remote repeats it. */
async function quote(complaint: string, https: RemoteOptions['https']): Promise<string> {
  // Git uses only the first line of the token file.
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
