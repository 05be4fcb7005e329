// Evaluations, imports and scans that have ended, are running, or wait for people.
import type { ServerResponse } from 'node:http';
import { z } from 'zod';
import { serveFile } from '../adapters/web-server.ts';
import type { Person, Scene } from './scene.ts';
import { PATIENCE_MS } from './scene.ts';
import type { Thing } from './thing.ts';

const any = z.unknown();
const importSchema = z.object({ state: z.string(), detail: z.string() });
const scanSchema = z.object({
  revision: z.number(),
  commit: z.string().nullable(),
  findings: z.array(z.object({ finding: z.string(), label: z.unknown().nullable() })),
});
/** How long a source asks an import to wait: it waits into the new program's time. */
const AGAIN_AFTER_SECONDS = 60;

export function evaluationThings(scene: Scene): readonly Thing[] {
  const { startEvaluation, evaluation, reportOf } = scene;
  const thing = (id: string, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `evaluation ${id}`,
    state: async () => (await evaluation(id)).state,
    ...given,
  });
  return [
    thing('e-evaluated', { left: 'done', end: 'done' }),
    thing('e-running', {
      left: 'running',
      runs: 'evaluation/p/e-running',
      begin: () => startEvaluation('evaluating', 'many', 'e-running'),
      finish: () => reportOf('evaluating', 'e-running'),
      end: 'done',
    }),
    thing('e-queued', {
      left: 'running',
      begin: () => startEvaluation('evaluating-next', 'rows', 'e-queued'),
      finish: () => reportOf('evaluating-next', 'e-queued'),
      end: 'done',
    }),
    thing('e-just-started', {
      left: 'running',
      ask: () => startEvaluation('new', 'rows', 'e-just-started'),
      finish: () => reportOf('new', 'e-just-started'),
      end: 'done',
    }),
  ];
}

/** Imports from a web server of the proof's own. `between` lets it answer as a good one. */
export function importThings(scene: Scene): {
  readonly things: readonly Thing[];
  readonly between: () => Promise<void>;
} {
  const { site, remove } = scene;
  const mia = scene.as('mia');
  const bytes = Buffer.alloc(200_000, 'some data\n');
  const state = { open: false, waiting: new Set<ServerResponse>() };
  const served = serveFile(() => bytes);
  const cut = serveFile(() => bytes);
  cut.cutNext(bytes.length / 2);
  let cuts = 0;
  site.pages.set('localhost/good.bin', served.handler);
  // Half of it, then it asks to be left alone for a while.
  site.pages.set('localhost/cut.bin', (request, response) => {
    cuts += 1;
    if (cuts === 1 || state.open) return cut.handler(request, response);
    response.writeHead(503, { 'retry-after': String(AGAIN_AFTER_SECONDS) });
    response.end();
  });
  // Takes the request and says nothing, as long as `until` does not hold.
  const silent = (page: string, until: () => boolean): void =>
    void site.pages.set(`localhost${page}`, (request, response) => {
      if (until()) return served.handler(request, response);
      state.waiting.add(response);
    });
  silent('/silent.bin', () => state.open);
  silent('/cancelled.bin', () => false);

  const start = (id: string, page: string) => async (): Promise<void> => {
    const source = { kind: 'https', url: `https://localhost:${site.port}${page}` };
    await mia.post('/v1/projects/p/imports', { import: id, dataset: `set-${id}`, source }, any);
  };
  const look = (id: string) => mia.get(`/v1/projects/p/imports/${id}`, importSchema);
  const becomes = (id: string, states: readonly string[]) =>
    mia.until(
      `import ${id}`,
      () => look(id),
      ({ state: now }) => states.includes(now),
      PATIENCE_MS,
    );
  const ended = ['done', 'failed', 'cancelled'] as const;
  const thing = (id: string, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `import ${id}`,
    state: async () => (await look(id)).state,
    ...given,
  });
  const things: readonly Thing[] = [
    thing('done', {
      left: 'done',
      leave: async () => {
        await start('done', '/good.bin')();
        await becomes('done', ended);
      },
      end: 'done',
    }),
    thing('failed', {
      left: 'failed',
      leave: async () => {
        await start('failed', '/missing.bin')();
        await becomes('failed', ended);
      },
      end: 'failed',
    }),
    thing('cut', {
      left: 'fetching',
      // It waits for its source and so takes no slot.
      leave: async () => {
        await start('cut', '/cut.bin')();
        await mia.until(
          'the import to wait',
          () => look('cut'),
          ({ detail }) => /^waits/.test(detail),
          PATIENCE_MS,
        );
      },
      finish: () => becomes('cut', ended),
      end: 'done',
    }),
    thing('silent', {
      left: 'resolving',
      // It waits for a slot, which the training and the evaluation have.
      begin: start('silent', '/silent.bin'),
      finish: () => becomes('silent', ended),
      end: 'done',
    }),
    thing('cancellation-sent', {
      left: 'resolving',
      begin: start('cancellation-sent', '/cancelled.bin'),
      ask: () => remove('mia', '/v1/projects/p/imports/cancellation-sent'),
      finish: () => becomes('cancellation-sent', ended),
      end: 'cancelled',
    }),
    thing('just-started', {
      left: 'resolving',
      ask: start('just-started', '/good.bin'),
      finish: () => becomes('just-started', ended),
      end: 'done',
    }),
  ];
  return {
    things,
    between: async () => {
      state.open = true;
      for (const response of state.waiting) response.destroy();
    },
  };
}

export function scanThings(scene: Scene): readonly Thing[] {
  const eve = scene.as('eve');
  const sent = { address: '' };
  const pathOf = (scan: string): string => `/v1/projects/p/scans/${scan}`;
  const look = (scan: string) => eve.get(pathOf(scan), scanSchema);
  const report = async (scan: string): Promise<void> => {
    const finding = (id: string) => ({
      ...{ finding: id, name: 'flaw', path: `src/${id}.java`, vulnerable: true, probability: 0.9 },
      source: 'a'.repeat(64),
    });
    const body = { scan, type: 't', release: 't-1', findings: ['f1', 'f2', 'f3'].map(finding) };
    await scene.scanner.post('/v1/applications/scanner/scans', body, any);
  };
  const label = async (scan: string, name: 'confirm' | 'deny', findings: readonly string[]): Promise<string> => {
    const { revision } = await look(scan);
    return eve.command(`${pathOf(scan)}/commands`, { name, revision, args: { findings } });
  };
  const thing = (scan: string, given: Omit<Thing, 'name' | 'state'>): Thing => ({
    name: `scan ${scan}`,
    state: async () => {
      const { findings, commit } = await look(scan);
      const labelled = findings.filter((one) => one.label !== null).length;
      return `${labelled} of ${findings.length} labelled${commit === null ? '' : ', committed'}`;
    },
    ...given,
  });
  const by: Person = 'eve';
  return [
    thing('unlabelled', {
      left: '0 of 3 labelled',
      leave: () => report('unlabelled'),
      finish: async () => {
        await label('unlabelled', 'confirm', ['f1', 'f2']);
        await label('unlabelled', 'deny', ['f3']);
      },
      end: '3 of 3 labelled, committed',
    }),
    thing('half-labelled', {
      left: '1 of 3 labelled, committed',
      leave: async () => {
        await report('half-labelled');
        await label('half-labelled', 'confirm', ['f1']);
      },
      finish: () => label('half-labelled', 'deny', ['f2', 'f3']),
      end: '3 of 3 labelled, committed',
    }),
    thing('label-sent', {
      left: '0 of 3 labelled',
      leave: () => report('label-sent'),
      ask: async () => {
        const { revision } = await look('label-sent');
        const command = { name: 'deny', revision, args: { findings: ['f2'] } };
        sent.address = await scene.send(by, `${pathOf('label-sent')}/commands`, command);
      },
      finish: () => scene.outcomeOf(by, sent.address),
      end: '1 of 3 labelled, committed',
    }),
    thing('just-reported', {
      left: '0 of 3 labelled',
      ask: () => report('just-reported'),
      finish: () => label('just-reported', 'confirm', ['f1']),
      end: '1 of 3 labelled, committed',
    }),
  ];
}
