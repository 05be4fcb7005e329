// EventBus on a local disk: the contract, and cases with several processes and a damaged file.
import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLocalLog } from '../../activities/adapters/local-log.ts';
import { createLockOwner } from '../../activities/adapters/local-log/owner.ts';
import type { CloudEvent, EventBus } from '../../activities/ports.ts';
import { eventually, freshName, rejectsAs } from '../contracts/cases.ts';
import { eventBusContract } from '../contracts/event-bus.ts';
import { startProgram } from './child-program.ts';
import { scratchFolder } from './scratch-folder.ts';

eventBusContract('local log', async () => {
  const { path, remove } = await scratchFolder();
  const another = () => createLocalLog({ root: path, pollMs: 20 });
  const bus = await another();
  const close = async (): Promise<void> => {
    await bus.close();
    await remove();
  };
  return { bus, another, close };
});

describe('local log', () => {
  let root = '';
  let remove = async (): Promise<void> => undefined;
  const buses: EventBus[] = [];
  beforeEach(async () => ({ path: root, remove } = await scratchFolder()));
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()));
    await remove();
  });

  const open = async (): Promise<EventBus> => {
    const bus = await createLocalLog({ root, pollMs: 20 });
    buses.push(bus);
    return bus;
  };
  const event = (id: string, data: unknown = null): CloudEvent => ({
    specversion: '1.0',
    id,
    source: 'ocdl/test',
    type: 'ocdl.test',
    time: new Date().toISOString(),
    datacontenttype: 'application/json',
    data,
  });
  /** Everything in the topic, seen by a new group. */
  async function contents(topic: string): Promise<{ key: string; id: string }[]> {
    const bus = await open();
    await bus.publish(topic, 'end', event('end'));
    const seen: { key: string; id: string }[] = [];
    const subscription = await bus.subscribe({
      topic,
      group: freshName('all'),
      handle: async ({ key, value }) => void seen.push({ key, id: (value as CloudEvent).id }),
    });
    await eventually('the end', () => seen.at(-1)?.id === 'end');
    await subscription.stop();
    return seen.slice(0, -1);
  }
  const idsOf = (seen: readonly { id: string }[], name: string): string[] =>
    seen.map(({ id }) => id).filter((id) => id.startsWith(`${name}-`));
  const numbers = (name: string, from: number, to: number): string[] =>
    Array.from({ length: to - from }, (_, at) => `${name}-${from + at}`);

  it('keeps every event of two concurrently publishing processes, in order', async () => {
    const children = ['p', 'q'].map((name) => startProgram('log-publisher.ts', [root, 'releases', name, '0', '500']));
    await Promise.all(children.map(({ ended }) => ended));
    const seen = await contents('releases');
    assert.deepEqual(idsOf(seen, 'p'), numbers('p', 0, 500));
    assert.deepEqual(idsOf(seen, 'q'), numbers('q', 0, 500));
    assert.equal(seen.length, 1000);
    // They published concurrently, not one after the other.
    const firstOfQ = seen.findIndex(({ id }) => id.startsWith('q-'));
    const lastOfP = seen.findLastIndex(({ id }) => id.startsWith('p-'));
    assert.ok(firstOfQ < lastOfP && seen.findIndex(({ id }) => id.startsWith('p-')) < seen.length - 1);
  }, 600_000);

  it('loses no acknowledged event when publishers are killed', async () => {
    const other = startProgram('log-publisher.ts', [root, 'releases', 'q', '0', '500']);
    let next = 0;
    const resent: string[] = [];
    for (const until of [40, 120, 200]) {
      const child = startProgram('log-publisher.ts', [root, 'releases', 'p', String(next), '500']);
      await eventually(`${until} acknowledged`, () => Number(child.lines.at(-1) ?? -1) >= until);
      child.kill();
      await child.ended;
      next = Number(child.lines.at(-1)) + 1;
      resent.push(`p-${next}`);
    }
    await startProgram('log-publisher.ts', [root, 'releases', 'p', String(next), '500']).ended;
    await other.ended;
    const seen = await contents('releases');
    assert.deepEqual(idsOf(seen, 'q'), numbers('q', 0, 500));
    const ids = idsOf(seen, 'p');
    // The one in flight when its process died may be there twice, since it was never acknowledged and was sent again.
    const once = ids.filter((id, at) => ids.indexOf(id) === at);
    assert.deepEqual(once, numbers('p', 0, 500));
    const doubled = ids.filter((id, at) => ids.indexOf(id) !== at);
    assert.ok(
      doubled.every((id) => resent.includes(id)),
      `doubled: ${doubled.join(', ')}`,
    );
  }, 600_000);

  it('takes over from a killed consumer', async () => {
    const bus = await open();
    for (const id of numbers('a', 0, 20)) await bus.publish('findings', 'k', event(id));
    const child = startProgram('log-consumer.ts', [root, 'findings', 'group']);
    await eventually('20 events in the child', () => child.lines.length >= 20);
    const seen: string[] = [];
    await bus.subscribe({
      topic: 'findings',
      group: 'group',
      handle: async ({ value }) => void seen.push((value as CloudEvent).id),
    });
    for (const id of numbers('b', 0, 5)) await bus.publish('findings', 'k', event(id));
    await eventually('25 events in the child', () => child.lines.length >= 25);
    assert.equal(seen.length, 0, 'the standby got events while the other was alive');
    child.kill();
    await child.ended;
    for (const id of numbers('c', 0, 5)) await bus.publish('findings', 'k', event(id));
    await eventually('the rest', () => seen.includes('c-4'));
    // The last one before the kill may have been handled but not noted.
    assert.deepEqual(
      seen.filter((id) => id !== 'b-4'),
      numbers('c', 0, 5),
    );
  }, 600_000);

  it.each([
    ['half a record', (log: Buffer) => Buffer.concat([log, log.subarray(0, 40)])],
    ['a record without its newline', (log: Buffer) => Buffer.concat([log, log.subarray(0, log.indexOf(10))])],
    ['zeros', (log: Buffer) => Buffer.concat([log, Buffer.alloc(5000)])],
    ['damaged records', (log: Buffer) => Buffer.concat([log, Buffer.from('{"key":"k"}\n{"crc":"00000000"}\n')])],
    ['100 kB of damage', (log: Buffer) => Buffer.concat([log, Buffer.alloc(100_000, '{}\n')])],
  ])('truncates %s at the end and continues', async (_what, tear) => {
    const first = await open();
    for (const id of ['a', 'b']) await first.publish('torn', 'k', event(id));
    const file = join(root, 'torn', 'log.jsonl');
    const sound = await readFile(file);
    await writeFile(file, tear(sound));
    // A reader does not skip the damaged end; the next publisher of any process truncates it.
    const seen: string[] = [];
    const subscription = await first.subscribe({
      topic: 'torn',
      group: 'early',
      handle: async ({ value }) => void seen.push((value as CloudEvent).id),
    });
    await eventually('both sound events', () => seen.length >= 2);
    const { offset } = await first.publish('torn', 'k', event('c'));
    assert.equal(Number(offset), sound.byteLength);
    await eventually('the next event', () => seen.includes('c'));
    await subscription.stop();
    assert.deepEqual(seen, ['a', 'b', 'c']);
    assert.deepEqual(
      (await contents('torn')).map(({ id }) => id),
      ['a', 'b', 'c'],
    );
  });

  it('skips a damaged record in the middle, and reports it', async () => {
    const bus = await open();
    for (const id of ['a', 'b', 'c']) await bus.publish('rotten', 'k', event(id));
    const file = join(root, 'rotten', 'log.jsonl');
    const bytes = await readFile(file);
    await writeFile(file, Buffer.from(bytes.toString().replace('"id":"b"', '"id":"X"')));
    const errors: unknown[] = [];
    const seen: string[] = [];
    await bus.subscribe({
      topic: 'rotten',
      group: 'group',
      handle: async ({ value }) => void seen.push((value as CloudEvent).id),
      onError: (error) => errors.push(error),
    });
    await eventually('the event after the damage', () => seen.includes('c'));
    assert.deepEqual(seen, ['a', 'c']);
    assert.match(String(errors[0]), /damaged record/);
  });

  it('restarts at the oldest event if the log was replaced, and reports it', async () => {
    const bus = await open();
    const seen: string[] = [];
    const errors: unknown[] = [];
    const listen = () =>
      bus.subscribe({
        topic: 'moved',
        group: 'group',
        handle: async ({ value }) => void seen.push((value as CloudEvent).id),
        onError: (error) => errors.push(error),
      });
    for (const id of ['a', 'b']) await bus.publish('moved', 'k', event(id));
    const first = await listen();
    await eventually('both', () => seen.length >= 2);
    await first.stop();
    await rm(join(root, 'moved', 'log.jsonl'));
    await bus.publish('moved', 'k', event('new'));
    await listen();
    await eventually('the new one', () => seen.includes('new'));
    assert.match(String(errors[0]), /shorter than the stored offset/);
  });

  it('takes over the lock of a dead process, even if its pid was reused', async () => {
    await (await open()).publish('locked', 'k', event('a'));
    const lock = join(root, 'locked', 'publish.lock');
    // No process has an id this large; process 1 is alive, but did not start then; the last is what a power cut leaves.
    for (const owner of ['{"nonce":"n1","pid":999999999,"started":"x"}', '{"nonce":"n2","pid":1,"started":"x"}', '']) {
      await writeFile(lock, owner);
      const rivals = await Promise.all([open(), open(), open()]);
      await Promise.all(rivals.map((bus, n) => bus.publish('locked', 'k', event(`r${n}`))));
    }
    assert.equal((await contents('locked')).length, 10);
    assert.deepEqual([...(await readdir(join(root, 'locked')))].sort(), ['groups', 'log.jsonl']);
  });

  it('waits for a lock whose owner is alive', async () => {
    const [one, two] = await Promise.all(['a', 'b'].map(() => createLockOwner(join(root, '.owners'))));
    const path = join(root, 'some.lock');
    const held = await one?.tryLock(path);
    assert.ok(held);
    assert.equal(await two?.tryLock(path), undefined);
    await held.release();
    assert.ok(await two?.tryLock(path));
  });

  it('refuses an event that is too large, and accepts the largest', async () => {
    const bus = await open();
    await rejectsAs('InvalidInput', 'too large', bus.publish('large', 'k', event('a', 'x'.repeat(1_000_000))));
    const large = 'x'.repeat(999_000);
    await Promise.all(['b', 'c', 'd'].map((id) => bus.publish('large', 'k', event(id, large))));
    assert.deepEqual(
      (await contents('large')).map(({ id }) => id),
      ['b', 'c', 'd'],
    );
  });

  it('dead-letters even the largest event', async () => {
    const bus = await open();
    await bus.subscribe({
      topic: 'large',
      group: 'group',
      retries: 0,
      handle: async () => {
        throw new Error('planted');
      },
    });
    await bus.publish('large', 'k', event('a', 'x'.repeat(999_000)));
    const dead: unknown[] = [];
    await bus.subscribe({
      topic: 'large.dead',
      group: 'group',
      handle: async ({ value }) => void dead.push((value as CloudEvent).data),
    });
    await eventually('the dead letter', () => dead.length > 0);
    assert.equal((dead[0] as { value: CloudEvent }).value.id, 'a');
  });

  it('keeps its files private to its user', async () => {
    await (await open()).publish('modes', 'k', event('a'));
    for (const path of ['modes', '.owners']) assert.equal((await stat(join(root, path))).mode & 0o777, 0o700);
    assert.equal((await stat(join(root, 'modes', 'log.jsonl'))).mode & 0o777, 0o600);
  });
});
