// The API process: reads the configuration, opens the stores, listens, and shuts down cleanly when stopped.
import type { Server } from 'node:http';
import { join } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { Client, Connection } from '@temporalio/client';
import { keepAdmitted } from '../workers/admission.ts';
import { keepLinked } from '../workers/chainer.ts';
import { belong } from '../workers/installation.ts';
import { databaseOf, markedHome, markedNamespace, markedStores } from '../workers/marked-systems.ts';
import { createLog, closeParentChannel, onEnd, refused, run, tellReady } from '../workers/process.ts';
import { openStores } from '../workers/wiring.ts';
import { registeredSigner } from '../activities/signing.ts';
import { createApp, createDataApp, type Api } from './app.ts';
import { sweepDataSets } from './data-set-files.ts';
import type { ApiConfig } from './config.ts';
import { apiConfig, apiUrlOf } from './config.ts';
import { firstAdmin } from './first-start.ts';
import { keepSweeping } from './sweep.ts';
import { createWorkflowGateway } from './temporal.ts';

/** Time for running requests at shutdown: less than the platform waits for this process (deploy/local/processes.ts). */
const DRAIN_MS = 2_000;
/** Enough to upload the largest file over a slow line. */
const REQUEST_MS = 3_600_000;

async function main(): Promise<void> {
  const config = apiConfig();
  const log = createLog('api', config.logLevel);
  const stores = await openStores(config, log);
  // Lazy, so that the API answers and reports that it is not ready while the workflow server is unavailable.
  const connection = Connection.lazy(config.temporal.connection);
  try {
    const belonging = await belong(
      {
        ...stores,
        database: databaseOf(config.databaseUrl),
        home: markedHome(config.home),
        systems: [markedNamespace(connection, config.temporal), ...markedStores(config, stores)],
        signs: true,
      },
      { log, checkpoints: false, onRefused: refused(log) },
    );
    if (!config.isLoopback && (await stores.records.users()).length === 0)
      throw new Error(
        `OCDL_API_HOST is ${config.host}: a platform without users does not listen on a network. ` +
          'Start it once without OCDL_API_HOST, store the administrator token that is shown, then start it with OCDL_API_HOST again.',
      );
    const adminToken = await firstAdmin(stores.records);
    const signer = await registeredSigner(join(config.home, 'keys'), stores.records);
    const workflows = createWorkflowGateway(new Client({ connection, namespace: config.temporal.namespace }));
    const onWarn = (message: string): void => log.warn(message);
    const { admission: store } = stores;
    const admission = store && keepAdmitted({ records: stores.records, store, onWarn });
    const records = admission?.records ?? stores.records;
    const areas = stores.cachedAreas;
    const chainer = keepLinked({ records: stores.records, onWarn });
    const deps = { ...stores, records, areas, counters: stores.counters, workflows, signer, log };
    const server = serverOf(createApp({ ...deps, limits: config.limits }));
    const servers = [server];
    const url = await listen(server, config);
    if (config.data) {
      const forPods = serverOf(createDataApp({ ...deps, limits: config.data.limits }));
      servers.push(forPods);
      log.info({ url: await listen(forPods, config.data) }, 'listening for the data of jobs');
    }
    const sweeping = keepSweeping({ records, workflows, log });
    onEnd(log, async () => {
      await Promise.all(servers.map(drain));
      await belonging.stop();
      await sweeping.stop();
      await admission?.stop();
      await chainer.stop();
      await connection.close();
      await stores.close();
      closeParentChannel();
    });
    log.info({ url }, 'listening');
    void sweepDataSets({ records, areas, log });
    tellReady({ url, ...(adminToken !== undefined && { adminToken }) });
    if (adminToken !== undefined && !process.send)
      process.stderr.write(`The administrator's token, shown only once: ${adminToken}\n`);
  } catch (error) {
    await connection.close();
    await stores.close();
    throw error;
  }
}

const serverOf = ({ app }: Api): Server =>
  createAdaptorServer({ fetch: app.fetch, serverOptions: { requestTimeout: REQUEST_MS } }) as Server;

function listen(server: Server, { host, port }: Pick<ApiConfig, 'host' | 'port'>): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      const address = server.address();
      resolve(apiUrlOf(host, typeof address === 'object' && address ? address.port : port));
    });
  });
}

/** Accepts no new connections and lets running requests finish. */
async function drain(server: Server): Promise<void> {
  const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearTimeout(cut);
}

await run('api', main);
