// A process that writes an endless file and prints each chunk; killed by the tests, or refused when it runs as another user.
import { setTimeout as sleep } from 'node:timers/promises';
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import type { StorePath } from '../../workflows/domain/names.ts';

const [root = '', path = '', user] = process.argv.slice(2);
const store = await createLocalDisk({ root, name: 'areas' });
// Only root can change its user, and only root ignores file modes.
if (user !== undefined && process.getuid?.() === 0) process.setuid?.(Number(user));

async function* source(): AsyncGenerator<Uint8Array> {
  for (let n = 0; user === undefined || n < 3; n += 1) {
    yield Buffer.alloc(10_000, n % 256);
    process.stdout.write(`${n}\n`);
    await sleep(5);
  }
}
await store.write(path as StorePath, source());
