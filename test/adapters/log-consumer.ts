// A process that consumes a topic and prints the id of each event; killed by the tests.
import { createLocalLog } from '../../activities/adapters/local-log.ts';

const [root = '', topic = '', group = ''] = process.argv.slice(2);
const bus = await createLocalLog({ root, pollMs: 20 });
await bus.subscribe({
  topic,
  group,
  handle: async ({ value }) => {
    process.stdout.write(`${(value as { id: string }).id}\n`);
  },
});
