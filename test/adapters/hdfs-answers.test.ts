// HDFS with lost, late, refused or empty answers: visible files have their permissions, and errors are reported once.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { CASE_TIMEOUT_MS, freshName } from '../contracts/cases.ts';
import { describeWith, hdfsServer } from '../servers.ts';
import { person, type Person } from './hdfs-people.ts';
import { refusalBy, wayTo, type Interfere } from './hdfs-way.ts';

describeWith(['hdfs'], 'lost and late answers of HDFS', () => {
  const root = `/${freshName('answers')}`;
  let url = '';
  let store: HdfsStore;
  let alice: Person, hdfs: Person;
  const opened: HdfsStore[] = [];
  const openBy = async (url: string): Promise<HdfsStore> => {
    const one = await createHdfsStore({ url, user: 'ocdl', root, name: 'areas' });
    opened.push(one);
    return one;
  };
  const path = (text: string): StorePath => text as StorePath;
  const text = () => Readable.from([Buffer.from('text')]);
  const aclOf = async (text: string): Promise<string> =>
    JSON.stringify(await hdfs.json(`${root}/${text}`, 'GETACLSTATUS'));

  beforeAll(async () => {
    ({ url } = await hdfsServer());
    [alice, hdfs] = [person(url, 'alice'), person(url, 'hdfs')];
    store = await openBy(url);
  }, CASE_TIMEOUT_MS);
  afterAll(() => Promise.all(opened.map((one) => one.close())));

  it.each<[string, readonly ('lost' | 'direct')[]]>([
    ['a second attempt of the writer', ['lost']],
    ['the same request at another NameNode', ['lost', 'direct']],
  ])('gives a file the permissions of its folder if the answer to its rename is lost: %s', async (_, ways) => {
    const area = `common/lost-${ways.length}`;
    await store.admit(path(area), { readers: ['bob'], writers: [] });
    let renames = 0;
    const lose: Interfere = async (op, pass) => {
      const answer = await pass();
      if (op !== 'RENAME' || (renames += 1) > 1) return answer;
      await store.admit(path(area), { readers: ['alice'], writers: [] });
      // As a rename does that was asked for before and happens after: the file keeps what it had.
      const ours = 'user::rw-,user:bob:r--,group::---,mask::rw-,other::---';
      await hdfs.status('PUT', `${root}/${area}/file`, `SETACL&aclspec=${ours}`);
      return undefined;
    };
    const way = await wayTo(url, lose);
    const late = await openBy(ways.map((one) => (one === 'lost' ? way.url : url)).join(','));
    const write = () => late.write(path(`${area}/file`), text());
    try {
      if (ways.length === 1) await assert.rejects(write(), { code: 'NAMENODE_UNAVAILABLE' });
      await write();
    } finally {
      await late.close();
      way.close();
    }
    assert.equal(renames > 0, true, 'no answer was lost');
    assert.equal(await alice.read(`${root}/${area}/file`), 'text');
    assert.doesNotMatch(await aclOf(`${area}/file`), /bob/);
  });

  it('does not fail a write on abort once its file is visible', async () => {
    await store.admit(path('common/late'), { readers: ['bob'], writers: [] });
    const controller = new AbortController();
    const way = await wayTo(url, async (op, pass) => {
      const answer = await pass();
      if (op === 'RENAME') {
        await store.admit(path('common/late'), { readers: ['alice'], writers: [] });
        const ours = 'user::rw-,user:bob:r--,group::---,mask::rw-,other::---';
        await hdfs.status('PUT', `${root}/common/late/file`, `SETACL&aclspec=${ours}`);
        controller.abort();
      }
      return answer;
    });
    const late = await openBy(way.url);
    try {
      const source = text();
      await late.write(path('common/late/file'), source, { signal: controller.signal });
    } finally {
      await late.close();
      way.close();
    }
    assert.equal(await alice.read(`${root}/common/late/file`), 'text');
    assert.doesNotMatch(await aclOf('common/late/file'), /bob/);
  });

  it('stops granting access when the signal is aborted', async () => {
    await store.write(path('common/ending/a/b/c'), text());
    const controller = new AbortController();
    const way = await wayTo(url, async (op, pass) => {
      if (op === 'LISTSTATUS_BATCH' && controller.signal.aborted) return new Promise(() => undefined);
      const answer = await pass();
      if (op === 'SETOWNER') controller.abort(new Error('planted: ended'));
      return answer;
    });
    const ending = await openBy(way.url);
    const work = ending.admit(path('common/ending'), { readers: ['bob'], writers: [] }, controller.signal);
    try {
      await assert.rejects(work, /planted: ended/);
    } finally {
      await ending.close();
      way.close();
    }
  });

  it('reports the retry once', async () => {
    const { uri } = await store.write(path('common/p/once'), text());
    const way = await wayTo(url, async (op, pass) =>
      op === 'OPEN' ? refusalBy('StandbyException', 'Operation category READ is not supported') : pass(),
    );
    try {
      const error = String(await (await openBy(way.url)).digest(uri).catch((reason: unknown) => reason));
      assert.match(error, /standby/);
      assert.equal(error.match(/will be retried/g)?.length, 1, error);
    } finally {
      way.close();
    }
  });

  it('its check detects that HDFS returns no bytes', async () => {
    const empty = createServer((_, response) => response.writeHead(200).end());
    await new Promise<void>((resolve) => empty.listen(0, '127.0.0.1', resolve));
    const body = JSON.stringify({ Location: `http://127.0.0.1:${(empty.address() as AddressInfo).port}/` });
    const way = await wayTo(url, async (op, pass) => (op === 'OPEN' ? { status: 200, body } : pass()));
    try {
      await assert.rejects((await openBy(way.url)).check(), /returned different bytes/);
    } finally {
      for (const each of [way, empty]) each.close();
    }
  });
});
