// An application's consumer as a process for fault tests: it can kill itself before or after the wake-up for an event.
import { Client, Connection } from '@temporalio/client';
import { z } from 'zod';
import { workerConfig } from '../../workers/config.ts';
import { consumeReleases } from '../../workers/application.ts';
import { openBus, openStores } from '../../workers/wiring.ts';
import { wake } from '../../workflows/messages.ts';

const { KILL_AT } = z.object({ KILL_AT: z.enum(['', 'before', 'after']) }).parse(process.env);
const config = workerConfig();
const [stores, bus, connection] = await Promise.all([
  openStores(config),
  openBus(config),
  Connection.connect({ address: config.temporal.address }),
]);
const { workflow } = new Client({ connection, namespace: config.temporal.namespace });
const woken = { times: 0 };
await consumeReleases({
  records: stores.records,
  bus,
  async wakeUp(id) {
    // The first one comes with the subscription, before there is an event.
    const byEvent = (woken.times += 1) > 1;
    if (byEvent && KILL_AT === 'before') process.kill(process.pid, 'SIGKILL');
    await workflow.getHandle(id).signal(wake);
    if (byEvent && KILL_AT === 'after') process.kill(process.pid, 'SIGKILL');
    process.send?.('woken');
  },
  onError: () => undefined,
});
process.on('disconnect', () => process.exit(1));
process.send?.('ready');
