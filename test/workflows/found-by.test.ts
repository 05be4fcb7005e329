// What people find workflows by in Temporal: every type carries its project, model, type, application and state, until it ends.
import { jest } from '@jest/globals';
import type { Client } from '@temporalio/client';
import { taskQueues, workflowId, searchAttributes } from '../../workflows/messages.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import type { Finding } from '../../workflows/domain/model.ts';
import * as workflows from '../../workflows/index.ts';
import type { ImportWorld } from './import-world.ts';
import { openImportWorld, PATIENCE_MS } from './import-world.ts';
import { until } from './until.ts';
import type { World } from './world.ts';
import { openWorld } from './world.ts';

jest.setTimeout(2 * PATIENCE_MS);

type Type = keyof typeof workflows;
type Attributes = Readonly<Record<string, unknown>>;

let world: World;
let imports: ImportWorld;
beforeAll(async () => {
  [world, imports] = await Promise.all([openWorld(), openImportWorld()]);
}, 600_000);
afterAll(async () => {
  await world.close();
  await imports.close();
});
beforeEach(() => Object.assign(world.script, { train: 'succeed', evaluate: 'pass', service: 'golden' }));

const ours = new Set<string>(Object.values(searchAttributes).map(({ name }) => name));
async function attributesOf(client: Client, id: string): Promise<Attributes> {
  const { typedSearchAttributes } = await client.workflow.getHandle(id).describe();
  const all = typedSearchAttributes.getAll().filter(({ key }) => ours.has(key.name));
  return Object.fromEntries(all.map(({ key, value }) => [key.name, value]));
}
/** Waits until a workflow is in a state, and returns all that it is found by then. */
const foundAs = (client: Client, id: string, state: string): Promise<Attributes> =>
  until(`${id} to be found as ${state}`, async () => {
    const attributes = await attributesOf(client, id);
    return attributes['State'] === state && attributes;
  });

const finding = (name: string): Finding => ({
  ...{ finding: name, name, path: `src/${name}.c`, vulnerable: true, probability: 0.9 },
  ...{ source: 'a'.repeat(64) as Digest, label: null },
});
const base = { Project: 'p', Model: 'm', ModelType: 'kind' };
const done = (outcome: { readonly status: string }): void => expect(outcome).toMatchObject({ status: 'done' });

/** Each type on its way to an end: which workflow, and what it is found by when it is there. */
const ways: Record<Type, readonly (readonly [name: string, go: () => Promise<[id: string, found: Attributes]>])[]> = {
  modelLifecycle: [
    [
      'retired, with its version and tags',
      async () => {
        await world.released('f-1');
        done(await world.give('f-1', 'mia', 'tag', { tags: ['good'] }));
        done(await world.give('f-1', 'mia', 'retire'));
        const { version } = await world.untilState('f-1', 'retired');
        return [world.idOf('f-1'), { ...base, Author: 'sam', State: 'retired', ModelVersion: version, Tags: ['good'] }];
      },
    ],
    [
      'withdrawn before it had a version',
      async () => {
        await world.startLifecycle('f-2', world.run);
        await world.untilState('f-2', 'trained');
        done(await world.give('f-2', 'sam', 'withdraw'));
        return [world.idOf('f-2'), { ...base, Author: 'sam', State: 'withdrawn' }];
      },
    ],
  ],
  trainingRun: [
    [
      'trained',
      async () => {
        await world.startLifecycle('f-3', world.run);
        await world.untilState('f-3', 'trained');
        return ['run/p/m/f-3/1', { ...base, Author: 'sam', State: 'trained' }];
      },
    ],
    [
      'failed',
      async () => {
        world.script.train = 'crash';
        await world.startLifecycle('f-4', world.run);
        await world.untilState('f-4', 'failed');
        return ['run/p/m/f-4/1', { ...base, Author: 'sam', State: 'failed' }];
      },
    ],
    [
      'cancelled',
      async () => {
        world.script.train = 'hang';
        await world.startLifecycle('f-5', world.run);
        await until('the run to begin', async () => world.begunJobs.some((name) => name.includes('-f-5-1-')));
        await world.client.workflow.getHandle('run/p/m/f-5/1').cancel();
        await world.untilState('f-5', 'failed');
        return ['run/p/m/f-5/1', { ...base, Author: 'sam', State: 'cancelled' }];
      },
    ],
  ],
  evaluation: [
    [
      'done',
      async () => {
        await world.submitted('f-6');
        const id = await world.startEvaluation('e-done', { submission: 'f-6' });
        return [id, { ...base, Author: 'mia', State: 'done' }];
      },
    ],
    [
      'failed',
      async () => {
        await world.submitted('f-7');
        world.script.evaluate = 'crash';
        const id = await world.startEvaluation('e-failed', { submission: 'f-7' });
        return [id, { ...base, Author: 'mia', State: 'failed' }];
      },
    ],
    [
      'a private test, whose type nobody has said',
      async () => {
        await world.putSubmission('f-8', 'f-8');
        const id = await world.startEvaluation('e-private', { directory: 'f-8' }, { actor: 'sam' });
        const { state } = (await world.client.workflow.getHandle(id).result()) as { state: string };
        return [id, { Project: 'p', Model: 'm', Author: 'sam', State: state }];
      },
    ],
  ],
  release: [
    [
      'announced',
      async () => {
        const release = await world.released('f-9');
        return [workflowId.release({ release }), { ...base, State: 'announced' }];
      },
    ],
  ],
  application: [
    [
      'live, then empty',
      async () => {
        await world.addApplication('idle');
        const id = workflowId.application({ application: 'idle', type: 'kind' });
        const found = { Project: 'p', ModelType: 'kind', Application: 'idle' };
        await world.untilLive('idle', await world.released('f-10'));
        expect(await foundAs(world.client, id, 'live')).toEqual({ ...found, State: 'live' });
        done(await world.revert('idle', 'dev', undefined, { name: 'take-down', args: { reason: 'a test' } }));
        return [id, { ...found, State: 'empty' }];
      },
    ],
  ],
  delivery: [
    [
      'through its gates: the application does the rest',
      async () => {
        await world.addApplication('shop');
        const release = await world.released('f-11');
        await world.untilLive('shop', release);
        const id = workflowId.delivery({ application: 'shop', release });
        return [id, { ...base, Application: 'shop', State: 'deploying' }];
      },
    ],
    [
      'failed, and found by that',
      async () => {
        await world.addApplication('kiosk');
        world.script.service = 'wrong';
        const release = await world.released('f-12');
        const id = workflowId.delivery({ application: 'kiosk', release });
        await foundAs(world.client, id, 'failed');
        await until('a list to show it', async () => {
          const query = "WorkflowType='delivery' AND State='failed' AND Application='kiosk' AND Model='m'";
          for await (const one of world.client.workflow.list({ query })) if (one.workflowId === id) return true;
          return false;
        });
        return [id, { ...base, Application: 'kiosk', State: 'failed' }];
      },
    ],
  ],
  feedback: [
    [
      'open, then labelled',
      async () => {
        await world.addApplication('lab');
        const release = await world.released('f-13');
        await world.untilLive('lab', release);
        const id = await world.startFeedback({
          ...{ scan: 'scan-1', project: 'p', application: 'lab', type: 'kind', release, findings: [finding('one')] },
          ...{ state: 'open', revision: 0, commit: null, keyId: 'k1', updatedAt: new Date().toISOString() },
        });
        await foundAs(world.client, id, 'open');
        const command = { workflowId: id, name: 'confirm', actor: 'eve', revision: 0, args: { findings: ['one'] } };
        done(await world.send(world.signed(command)));
        return [id, { ...base, Application: 'lab', State: 'labelled' }];
      },
    ],
  ],
  dataImport: [
    [
      'done',
      async () => {
        imports.lay('/rows.csv', () => Buffer.from('a,b\n'));
        await imports.ended('done', imports.https('/rows.csv'));
        return ['import/p/done', { Project: 'p', Author: 'sam', State: 'done' }];
      },
    ],
    [
      'failed',
      async () => {
        await imports.ended('failed', imports.https('/none.csv'));
        return ['import/p/failed', { Project: 'p', Author: 'sam', State: 'failed' }];
      },
    ],
    [
      'cancelled',
      async () => {
        imports.lay('/slow.bin', () => Buffer.alloc(4_000_000), { paceMs: () => 500 });
        const handle = await imports.start('cancelled', imports.https('/slow.bin'));
        await until('bytes', async () => (await imports.rowOf('cancelled')).bytes > 100_000);
        await handle.cancel();
        return ['import/p/cancelled', { Project: 'p', Author: 'sam', State: 'cancelled' }];
      },
    ],
  ],
};

const clientOf = (type: Type): Client => (type === 'dataImport' ? imports : world).client;

it('knows every type of workflow', () => {
  expect(Object.keys(ways).sort()).toEqual(Object.keys(workflows).sort());
});

describe.each(Object.keys(ways) as Type[])('%s', (type) => {
  it.each(ways[type])('%s', async (_, go) => {
    const [id, found] = await go();
    expect(await foundAs(clientOf(type), id, String(found['State']))).toEqual(found);
  });

  it('is refused if it is started by hand', async () => {
    const id = `by-hand/${type}`;
    const client = clientOf(type);
    const input = { submission: 'none', source: { kind: 'https', url: 'https://data.example.org/rows.csv' } };
    const handle = await client.workflow.start(type, { workflowId: id, taskQueue: taskQueues.core, args: [input] });
    await expect(handle.result()).rejects.toThrow();
    expect(await foundAs(client, id, 'refused')).toEqual({ State: 'refused' });
  });
});
