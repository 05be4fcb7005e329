// Permissions in HDFS, enforced by the NameNode: people use their own clients under their own names.
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { CASE_TIMEOUT_MS, collect, freshName, rejectsAs } from '../contracts/cases.ts';
import { describeWith, hdfsServer } from '../servers.ts';
import { person, type Person } from './hdfs-people.ts';
import { wayTo } from './hdfs-way.ts';

describeWith(['hdfs'], 'people in HDFS', () => {
  const root = `/${freshName('access')}`;
  let url = '';
  let store: HdfsStore;
  let alice: Person, bob: Person, carol: Person, hdfs: Person;
  const path = (text: string): StorePath => text as StorePath;
  const put = (text: string, content = text) =>
    store.write(
      path(text),
      (async function* () {
        yield Buffer.from(content);
      })(),
      { ifExists: 'replace' },
    );
  const openBy = (url: string) => createHdfsStore({ url, user: 'ocdl', root, name: 'areas' });
  const aclOf = async (text: string): Promise<string> =>
    JSON.stringify(await hdfs.json(`${root}/${text}`, 'GETACLSTATUS'));
  const ownerOf = async (text: string): Promise<unknown> => {
    const answer = (await hdfs.json(`${root}/${text}`, 'GETFILESTATUS')) as { FileStatus: { owner: string } };
    return answer.FileStatus.owner;
  };

  beforeAll(async () => {
    ({ url } = await hdfsServer());
    [alice, bob, carol, hdfs] = [person(url, 'alice'), person(url, 'bob'), person(url, 'carol'), person(url, 'hdfs')];
    store = await openBy(url);
  }, CASE_TIMEOUT_MS);
  afterAll(() => store.close());

  it('hides everything outside admitted areas', async () => {
    await put('common/closed/deep/a');
    for (const each of [alice, bob, carol])
      for (const at of [root, `${root}/common`, `${root}/common/closed`, `${root}/.tmp`])
        assert.equal(await each.status('GET', at, 'LISTSTATUS'), 403, at);
    assert.equal(await alice.read(`${root}/common/closed/deep/a`), 403);
    assert.equal(await alice.write(`${root}/common/mine`, 'x'), 403);
    assert.equal(await alice.status('PUT', `${root}/private/mine`, 'MKDIRS'), 403);
  });

  it('opens a private area only to its owner', async () => {
    await put('private/p/alice/before/a', 'before');
    await store.admit(path('private/p/alice'), { owner: 'alice', readers: [], writers: [] });
    await put('private/p/alice/after/b', 'after');
    const home = `${root}/private/p/alice`;
    assert.equal(await alice.read(`${home}/before/a`), 'before');
    assert.equal(await alice.read(`${home}/after/b`), 'after');
    assert.equal(await alice.write(`${home}/after/own`, 'own'), 201);
    assert.equal(await alice.status('GET', `${home}/after`, 'LISTSTATUS'), 200);
    assert.equal((await collect(await store.read(store.uri(path('private/p/alice/after/own'))))).toString(), 'own');
    assert.equal(await ownerOf('private/p/alice'), 'alice');
    for (const each of [bob, carol]) {
      for (const at of [home, `${home}/before`, `${home}/after`])
        assert.equal(await each.status('GET', at, 'LISTSTATUS'), 403, at);
      for (const at of ['before/a', 'after/b', 'after/own']) assert.equal(await each.read(`${home}/${at}`), 403, at);
      assert.equal(await each.write(`${home}/x`, 'x'), 403);
      assert.equal(await each.status('DELETE', home, 'DELETE&recursive=true'), 403);
      assert.equal(await each.status('PUT', home, 'SETPERMISSION&permission=777'), 403);
    }
    assert.equal(await alice.status('DELETE', home, 'DELETE&recursive=true'), 403, 'the area itself is the platform’s');
  });

  it('lets writers write and readers read in a common area, including files of others', async () => {
    await put('common/team/old', 'old');
    await store.admit(path('common/team'), { readers: ['bob'], writers: ['alice'] });
    await put('common/team/sub/new', 'new');
    const team = `${root}/common/team`;
    // Whatever modes her client asks for, short of shutting others out.
    assert.equal(await alice.write(`${team}/hers`, 'hers', '&permission=664'), 201);
    assert.equal(await alice.status('PUT', `${team}/folder`, 'MKDIRS&permission=775'), 200);
    assert.equal(await alice.write(`${team}/folder/inner`, 'inner'), 201);
    for (const [at, text] of Object.entries({ old: 'old', 'sub/new': 'new', hers: 'hers', 'folder/inner': 'inner' })) {
      assert.equal(await bob.read(`${team}/${at}`), text, at);
      assert.equal(await alice.read(`${team}/${at}`), text, at);
      assert.equal(await carol.read(`${team}/${at}`), 403, at);
      assert.equal(await bob.write(`${team}/${at}`, 'x', '&overwrite=true'), 403, at);
      assert.equal(await bob.status('DELETE', `${team}/${at}`, 'DELETE'), 403, at);
    }
    assert.equal(await bob.write(`${team}/x`, 'x'), 403);
    assert.equal(await alice.write(`${team}/old`, 'changed', '&overwrite=true'), 201);
    assert.equal(await bob.read(`${team}/old`), 'changed');
    assert.equal(await ownerOf('common/team'), 'ocdl');
  });

  it('registered data sets are read-only: people cannot change, remove or move them', async () => {
    const team = `${root}/common/registry`;
    const admitted = { readers: ['bob'], writers: ['alice'] };
    // As it stands where an earlier version admitted people: what she made there and in the folder of data sets is hers.
    await put('common/registry/datasets/old/rows.csv', 'old rows');
    await hdfs.status('PUT', team, 'SETPERMISSION&permission=777');
    await hdfs.status('PUT', `${team}/datasets`, 'SETPERMISSION&permission=777');
    await hdfs.status('PUT', `${team}/datasets`, 'SETOWNER&owner=alice');
    assert.equal(await alice.write(`${team}/datasets/hers`, 'hers'), 201);
    await store.admit(path('common/registry'), admitted);
    await put('common/registry/datasets/new/deep/rows.csv', 'new rows');
    await put('common/registry/datasets/imported.im-1/files/a.tar', 'tar');
    const kept = {
      'datasets/old/rows.csv': 'old rows',
      'datasets/new/deep/rows.csv': 'new rows',
      'datasets/imported.im-1/files/a.tar': 'tar',
      'datasets/hers': 'hers',
    };
    for (const each of [alice, bob]) {
      for (const [at, text] of Object.entries(kept)) {
        assert.equal(await each.read(`${team}/${at}`), text, at);
        assert.equal(await each.write(`${team}/${at}`, 'x', '&overwrite=true'), 403, at);
        assert.equal(await each.status('DELETE', `${team}/${at}`, 'DELETE'), 403, at);
        assert.equal(await each.status('PUT', `${team}/${at}`, 'SETPERMISSION&permission=777'), 403, at);
        assert.equal(await ownerOf(`common/registry/${at}`), 'ocdl', at);
        const moved = encodeURIComponent(`${team}/moved`);
        assert.equal(await each.status('PUT', `${team}/${at}`, `RENAME&destination=${moved}`), 403, at);
      }
      for (const at of ['datasets', 'datasets/new', 'datasets/new/deep', 'datasets/imported.im-1']) {
        assert.equal(await each.write(`${team}/${at}/more`, 'x'), 403, at);
        assert.equal(await each.status('PUT', `${team}/${at}/more`, 'MKDIRS'), 403, at);
        assert.equal(await each.status('DELETE', `${team}/${at}`, 'DELETE&recursive=true'), 403, at);
        for (const option of ['NONE', 'OVERWRITE']) {
          const moved = `RENAME&renameoptions=${option}&destination=${encodeURIComponent(`${team}/moved`)}`;
          assert.equal(await each.status('PUT', `${team}/${at}`, moved), 403, at);
        }
      }
    }
    // Nor does something else take the folder's place.
    assert.equal(await alice.status('PUT', `${team}/own`, 'MKDIRS&permission=775'), 200);
    const over = `RENAME&renameoptions=OVERWRITE&destination=${encodeURIComponent(`${team}/datasets`)}`;
    assert.notEqual(await alice.status('PUT', `${team}/own`, over), 200);
    assert.equal(await alice.status('PUT', team, `RENAME&destination=${encodeURIComponent(`${root}/x`)}`), 403);
    // The rest of the area is hers to write; what she made at its top she removes, also when it was admitted again.
    await store.admit(path('common/registry'), admitted);
    assert.equal(await alice.write(`${team}/own/file`, 'text'), 201);
    assert.equal(await alice.status('DELETE', `${team}/own`, 'DELETE&recursive=true'), 200);
    assert.equal(await alice.write(`${team}/hers`, 'hers'), 201);
    await store.admit(path('common/registry'), { readers: ['alice', 'bob'], writers: [] });
    assert.equal(await ownerOf('common/registry/hers'), 'ocdl', 'she writes there no longer');
    assert.equal(await alice.write(`${team}/datasets/new/deep/rows.csv`, 'x', '&overwrite=true'), 403);
    for (const [at, text] of Object.entries(kept)) assert.equal(await bob.read(`${team}/${at}`), text, at);
    assert.equal(await carol.read(`${team}/datasets/old/rows.csv`), 403);
  });

  it('creates the folder of data sets before anyone may write next to it', async () => {
    await store.admit(path('common/fresh'), { readers: [], writers: ['alice'] });
    assert.equal(await ownerOf('common/fresh/datasets'), 'ocdl');
    assert.equal(await alice.write(`${root}/common/fresh/datasets/mine`, 'x'), 403);
    assert.equal(
      await alice.status('DELETE', `${root}/common/fresh/datasets`, 'DELETE'),
      403,
      'also while it is empty',
    );
    assert.equal(await alice.write(`${root}/common/fresh/mine`, 'x'), 201);
  });

  it('staging is read-only for managers and closed to all others', async () => {
    await put('staging/team/models/a', 'model');
    await store.admit(path('staging/team'), { readers: ['carol'], writers: [] });
    await put('staging/team/models/b', 'later');
    const staging = `${root}/staging/team`;
    assert.equal(await carol.read(`${staging}/models/a`), 'model');
    assert.equal(await carol.read(`${staging}/models/b`), 'later');
    assert.equal(await alice.read(`${staging}/models/a`), 403);
    for (const each of [alice, bob, carol]) {
      assert.equal(await each.write(`${staging}/models/x`, 'x'), 403);
      assert.equal(await each.write(`${staging}/models/a`, 'x', '&overwrite=true'), 403);
      assert.equal(await each.status('DELETE', `${staging}/models/a`, 'DELETE'), 403);
      assert.equal(
        await each.status('PUT', `${staging}/models/a`, 'SETACL&aclspec=user::rw-,group::rw-,other::rw-'),
        403,
      );
    }
  });

  it('revokes the access of removed people, also to existing files and their own', async () => {
    const area = `${root}/common/changing`;
    await store.admit(path('common/changing'), { readers: ['carol'], writers: ['alice', 'bob'] });
    await put('common/changing/x/y/file', 'kept');
    assert.equal(await bob.write(`${area}/x/his`, 'his'), 201);
    assert.equal(await bob.status('PUT', `${area}/x/his`, 'MODIFYACLENTRIES&aclspec=user:carol:rwx,user:dan:rwx'), 200);
    await store.admit(path('common/changing'), { readers: ['bob'], writers: ['carol'] });
    for (const at of ['x/y/file', 'x/his']) {
      assert.equal(await alice.read(`${area}/${at}`), 403, at);
      assert.notEqual(await bob.read(`${area}/${at}`), 403, at);
      assert.equal(await bob.write(`${area}/${at}`, 'x', '&overwrite=true'), 403, at);
      assert.equal(
        await bob.status('PUT', `${area}/${at}`, 'SETPERMISSION&permission=777'),
        403,
        'he owns it no longer',
      );
      assert.equal(await ownerOf(`common/changing/${at}`), 'ocdl');
    }
    assert.equal(await carol.write(`${area}/x/his`, 'hers', '&overwrite=true'), 201);
    await put('common/changing/x/y/file', 'new');
    assert.equal(await alice.read(`${area}/x/y/file`), 403);
    assert.equal(await bob.read(`${area}/x/y/file`), 'new');
    const entries = async (at: string): Promise<string> =>
      JSON.stringify(await hdfs.json(`${area}/${at}`, 'GETACLSTATUS'));
    for (const at of ['x', 'x/y', 'x/y/file']) assert.doesNotMatch(await entries(at), /alice|dan/, at);
    await store.admit(path('common/changing'), { readers: [], writers: [] });
    for (const each of [alice, bob, carol]) assert.equal(await each.read(`${area}/x/y/file`), 403);
  });

  it('gives a file the permissions of its folder, even if people change right before it appears', async () => {
    await store.admit(path('common/racing'), { readers: ['bob'], writers: [] });
    await put('common/racing/sub/first');
    const way = await wayTo(url, async (op, pass) => {
      if (op === 'RENAME') await store.admit(path('common/racing'), { readers: ['alice'], writers: [] });
      return pass();
    });
    const late = await openBy(way.url);
    try {
      await late.write(path('common/racing/sub/late'), Readable.from([Buffer.from('text')]));
    } finally {
      await late.close();
      way.close();
    }
    assert.equal(await alice.read(`${root}/common/racing/sub/late`), 'text');
    assert.equal(await bob.read(`${root}/common/racing/sub/late`), 403);
    // Not only because he may not pass the area's folder.
    const acl = JSON.stringify(await hdfs.json(`${root}/common/racing/sub/late`, 'GETACLSTATUS'));
    assert.match(acl, /user:alice:r--/);
    assert.doesNotMatch(acl, /bob/);
  });

  it('lists the owners of private areas in a project, including former members', async () => {
    await store.admit(path('private/kept/bob'), { owner: 'bob', readers: [], writers: [] });
    await store.admit(path('private/kept/alice'), { readers: [], writers: [] });
    assert.deepEqual(await store.people('kept'), ['alice', 'bob']);
    assert.deepEqual(await store.people('unknown'), []);
  });

  it('handles unusual names exactly, without affecting similar paths', async () => {
    const mine = 'private/odd/alice';
    const odd = [
      '%2e%2e',
      '..\\..\\x',
      '..\\..\\..\\staging\\odd',
      'a?b',
      'a#b',
      '50%',
      'a+b',
      'a b',
      'ä',
      '%252e',
      ';x',
    ];
    const at = (name: string): string => `${mine}/${encodeURIComponent(name)}`;
    await store.admit(path('private/odd/bob'), { owner: 'bob', readers: [], writers: [] });
    await store.admit(path('staging/odd'), { readers: ['carol'], writers: [] });
    await store.admit(path(mine), { owner: 'alice', readers: [], writers: [] });
    await put('staging/odd/x', 'x');
    for (const name of odd) assert.equal(await alice.status('PUT', `${root}/${at(name)}`, 'MKDIRS'), 200, name);
    const listed = (await hdfs.json(`${root}/${mine}`, 'LISTSTATUS')) as {
      FileStatuses: { FileStatus: { pathSuffix: string }[] };
    };
    const names = listed.FileStatuses.FileStatus.map(({ pathSuffix }) => pathSuffix);
    assert.deepEqual([...names].sort(), [...odd].sort(), 'HDFS holds these names');
    for (const name of odd) assert.equal(await alice.write(`${root}/${at(name)}/f`, 'x'), 201, name);
    const others = ['private', 'private/odd', 'private/odd/bob', 'staging', 'staging/odd', 'staging/odd/x'];
    const state = () => Promise.all(others.map(async (one) => [one, await aclOf(one), await ownerOf(one)]));
    const before = await state();
    await store.admit(path(mine), { owner: 'alice', readers: ['dan'], writers: [] });
    assert.deepEqual(await state(), before);
    for (const name of odd)
      for (const inner of ['', '/f']) assert.match(await aclOf(`${at(name)}${inner}`), /user:dan:r/, name + inner);
    assert.deepEqual((await store.list(path(mine))).files, []);
  });

  it('grants access only to areas, and only to people with valid HDFS names', async () => {
    const nobody = { readers: [], writers: [] };
    for (const folder of [
      'private',
      'private/p',
      'common',
      'common/p/sub',
      'private/p/alice/x',
      'elsewhere/p',
      '.tmp',
      '../x',
    ])
      await rejectsAs('InvalidInput', folder, store.admit(path(folder), nobody));
    for (const name of ['', 'Alice', 'a b', 'alice:rwx', 'alice,user:bob', '9lives', 'é', '*'])
      for (const access of [
        { ...nobody, owner: name },
        { ...nobody, readers: [name] },
        { ...nobody, writers: [name] },
      ])
        await rejectsAs('InvalidInput', name, store.admit(path('common/names'), access));
    const many = Array.from({ length: 29 }, (_, n) => `user-${n}`);
    await rejectsAs('InvalidInput', '29 people', store.admit(path('common/names'), { readers: many, writers: [] }));
    await store.admit(path('common/names'), { readers: many.slice(1), writers: ['user-1'] });
  });
});
