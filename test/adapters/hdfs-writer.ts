// A process that writes an endless file into HDFS and prints each chunk; killed by the tests.
import { setTimeout as sleep } from 'node:timers/promises';
import { createHdfsStore } from '../../activities/adapters/hdfs.ts';
import type { StorePath } from '../../workflows/domain/names.ts';

const [url = '', root = '', path = ''] = process.argv.slice(2);
const store = await createHdfsStore({ url, user: 'ocdl', root, name: 'areas' });

async function* source(): AsyncGenerator<Uint8Array> {
  for (let n = 0; ; n += 1) {
    yield Buffer.alloc(100_000, n % 256);
    process.stdout.write(`${n}\n`);
    await sleep(5);
  }
}
await store.write(path as StorePath, source());
