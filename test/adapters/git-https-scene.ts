// A Git remote over HTTPS with one repository, the platform's hosts over it, and a person who works there too.
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createGitRemote } from '../../activities/adapters/git.ts';
import { makeCertificates } from './git-certificates.ts';
import { httpsRemote } from './git-remotes.ts';
import { scratchFolder } from './scratch-folder.ts';

/** Some tenths of a second for each call of git on a slow machine, and many calls in a test. */
export const GIT_TIMEOUT_MS = 180_000;
/** The repository that is there, with its first commit. */
export const repository = 'vulnerability/code';

export type HttpsScene = Awaited<ReturnType<typeof httpsScene>>;
type Host = Awaited<ReturnType<typeof createGitRemote>>;
const run = promisify(execFile);

export async function httpsScene() {
  const { path: folder, remove } = await scratchFolder();
  await mkdir(join(folder, 'tls'));
  const right = await makeCertificates(join(folder, 'tls'), 'right');
  const wrong = await makeCertificates(join(folder, 'tls'), 'wrong');
  const server = await httpsRemote(folder, right);
  const tokenFile = join(folder, 'token');
  let roots = 0;

  /** Another host with its own mirrors, as on another machine. */
  async function open(some: Partial<Parameters<typeof createGitRemote>[0]> = {}): Promise<Host> {
    roots += 1;
    const https = { username: server.username, tokenFile, caFile: right.caFile };
    return createGitRemote({ root: join(folder, `mirrors-${roots}`), remote: server.remote, https, ...some });
  }

  /** What a person's git does at the host itself, straight in its repository. */
  async function git(...args: string[]): Promise<string> {
    const who = ['-c', 'user.name=Pat', '-c', 'user.email=pat@example.org', '--git-dir', server.folderOf(repository)];
    return (await run('git', [...who, ...args])).stdout.trim();
  }

  /** A person adds a file on main. */
  async function personPushes(path: string, content: string): Promise<string> {
    const file = join(folder, 'content');
    await writeFile(file, content);
    const blob = await git('hash-object', '-w', file);
    const index = join(folder, 'index');
    const env = { ...process.env, GIT_INDEX_FILE: index, GIT_DIR: server.folderOf(repository) };
    await run('git', ['read-tree', 'main'], { env });
    await run('git', ['update-index', '--add', '--cacheinfo', `100644,${blob},${path}`], { env });
    const tree = (await run('git', ['write-tree'], { env })).stdout.trim();
    const commit = await git('commit-tree', tree, '-p', 'main', '-m', 'By a person');
    await git('update-ref', 'refs/heads/main', commit);
    return commit;
  }

  /** Runs something once, as soon as a request of this kind comes, and counts those. */
  function onceBefore(method: string, part: string, work: () => Promise<unknown>): { readonly count: () => number } {
    const seen = { count: 0 };
    server.before = async (request) => {
      if (request.method !== method || !request.url?.includes(part)) return;
      seen.count += 1;
      if (seen.count === 1) await work();
    };
    return { count: () => seen.count };
  }

  async function reset(): Promise<void> {
    server.before = async () => undefined;
    await writeFile(tokenFile, `${server.token}\n`);
  }

  await reset();
  await server.create(repository);
  await (await open()).ensure(repository);
  return {
    folder,
    right,
    wrong,
    server,
    tokenFile,
    open,
    git,
    personPushes,
    onceBefore,
    /** Before each test: the server accepts the token, and the file contains it. */
    reset,
    async change(host: Host, files: Record<string, string>, branch = 'main', signal?: AbortSignal): Promise<string> {
      const message = 'By the platform';
      return (await host.commit({ repository, branch, files, message, author: 'sam', signal })).commit;
    },
    async textAt(host: Host, path: string): Promise<string> {
      return Buffer.from((await host.read(repository, 'main', path)) ?? 'missing').toString();
    },
    async close() {
      await server.close();
      await remove();
    },
  };
}
