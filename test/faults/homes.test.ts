// One installation: systems of another one are refused, further homes with the same keys are accepted, and one of two first starts wins.
import { randomUUID } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { belong } from '../../workers/installation.ts';
import { markedHome } from '../../workers/marked-systems.ts';
import { postgresServer, temporalServer } from '../servers.ts';
import { afterTwoDays, openDrill, type Servers } from './drill.ts';

const log = pino({ level: 'silent' });
const embedded = async (): Promise<Servers> => ({
  postgres: (await postgresServer()).url,
  temporal: (await temporalServer()).address,
  variables: {},
});

describe('one installation', () => {
  it('a home of another installation is refused by each system, with both ids and what to do', async () => {
    const drill = await afterTwoDays(await embedded());
    const other = await openDrill(await embedded());
    await (await other.start()).stop();
    const [ours, theirs] = [await drill.open(), await other.open()];
    const ids = [await ours.installation.home.owner(), await theirs.installation.home.owner()];
    // Another home with its own database and one system of the first installation at a time.
    for (const system of ours.installation.systems) {
      const systems = theirs.installation.systems.map((one) => (one.name === system.name ? system : one));
      const options = { log, checkpoints: false, onRefused: () => undefined };
      const refusal = belong({ ...theirs.installation, systems }, options);
      await expect(refusal).rejects.toThrow(
        `${system.where} belongs to installation ${ids[0]}, and the home ${other.home} to installation ${ids[1]}: configure`,
      );
    }
    await ours.close();
    await theirs.close();
    await other.close();
    await drill.close();
  });

  it('a second home is refused on the same stack, even a new one, and accepted with the keys of the first', async () => {
    const drill = await afterTwoDays(await embedded());
    const second = await mkdtemp(join(tmpdir(), 'ocdl-drill-second-'));
    try {
      const { stores, installation, close } = await drill.open();
      const options = { log, checkpoints: false, onRefused: () => undefined };
      const there = { ...installation, home: markedHome(second) };
      await expect(belong(there, options)).rejects.toThrow(/copy its folder keys into this home/);
      expect(await there.home.owner()).toBeUndefined();
      await cp(join(drill.home, 'keys'), join(second, 'keys'), { recursive: true });
      const [a, b] = await Promise.all([belong(there, options), belong(installation, options)]);
      expect([a.id, a.findings, b.id, b.findings]).toEqual([b.id, [], a.id, []]);
      expect(await stores.records.paused()).toBeUndefined();
      await a.stop();
      await b.stop();
      await close();
    } finally {
      await rm(second, { recursive: true, force: true });
      await drill.close();
    }
  });

  it('of two new homes that start concurrently on one database, one wins', async () => {
    const drill = await openDrill(await embedded());
    const homes = await Promise.all([1, 2].map(() => mkdtemp(join(tmpdir(), `ocdl-drill-${randomUUID()}-`))));
    const ends = await Promise.allSettled(homes.map((home) => drill.start(home)));
    const started = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []));
    const refused = ends.flatMap((end) => (end.status === 'rejected' ? [String(end.reason)] : []));
    expect([started.length, refused.length]).toEqual([1, 1]);
    expect(refused[0]).toMatch(/belongs to installation/);
    for (const one of started) await one.stop();
    for (const home of homes) await rm(home, { recursive: true, force: true });
    await drill.close();
  });
});
