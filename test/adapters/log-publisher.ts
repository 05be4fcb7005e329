// A process that publishes numbered events and prints the number of each once it is durable; killed by the tests.
import { createLocalLog } from '../../activities/adapters/local-log.ts';

const [root = '', topic = '', name = '', from = '0', to = '0'] = process.argv.slice(2);
const bus = await createLocalLog({ root });
for (let n = Number(from); n < Number(to); n += 1) {
  await bus.publish(topic, `${name}-${n % 3}`, {
    specversion: '1.0',
    id: `${name}-${n}`,
    source: 'ocdl/test',
    type: 'ocdl.test',
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    data: { n, filling: 'x'.repeat(n % 400) },
  });
  process.stdout.write(`${n}\n`);
}
await bus.close();
