// A process that consumes a topic of Kafka, prints the id of each event and never finishes the one named `stuck`; killed by the tests.
import { createKafkaBus } from '../../activities/adapters/kafka.ts';

const [broker = '', topic = '', group = ''] = process.argv.slice(2);
const bus = await createKafkaBus({ brokers: [broker] });
await bus.subscribe({
  topic,
  group,
  handle: async ({ value }) => {
    const { id } = value as { id: string };
    process.stdout.write(`${id}\n`);
    if (id === 'stuck') await new Promise(() => undefined);
  },
});
