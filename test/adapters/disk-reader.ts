// A process that reads a file of a store as another user without permission.
import { createLocalDisk } from '../../activities/adapters/local-disk.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { collect } from '../contracts/cases.ts';

const [root = '', path = '', user = ''] = process.argv.slice(2);
const store = await createLocalDisk({ root, name: 'areas' });
// Only root can change its user, and only root ignores file modes.
if (process.getuid?.() === 0) process.setuid?.(Number(user));
await collect(await store.read(store.uri(path as StorePath)));
