// Connects to a Unix socket that a sandboxed program made: without following a link that it may have put there.
import { constants } from 'node:fs';
import { lstat, open } from 'node:fs/promises';

/** Linux: opens the file itself, whatever it is, without access to its content (open(2), O_PATH). */
const O_PATH = 0o10000000;

/**
 * Calls `use` with a path that leads to the socket at `path` and to nothing else. A link in its place is refused: it could
 * lead to the socket of another program, which would answer to the platform's rights.
 */
export async function withSocketAt<R>(path: string, use: (socketPath: string) => Promise<R>): Promise<R> {
  if (process.platform !== 'linux') {
    // Without O_PATH, the file could still be replaced before it is used.
    if (!(await lstat(path)).isSocket()) throw notASocket(path);
    return use(path);
  }
  const socket = await open(path, O_PATH | constants.O_NOFOLLOW);
  try {
    if (!(await socket.stat()).isSocket()) throw notASocket(path);
    return await use(`/proc/self/fd/${socket.fd}`);
  } finally {
    await socket.close();
  }
}

const notASocket = (path: string): Error => new Error(`${path} is not a socket`);
