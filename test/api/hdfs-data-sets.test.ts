// Registered data sets on real HDFS cannot be changed by their uploaders' own HDFS clients.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createHdfsStore, type HdfsStore } from '../../activities/adapters/hdfs.ts';
import { createApp } from '../../api/app.ts';
import { areasOf } from '../../workers/admission.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import { person } from '../adapters/hdfs-people.ts';
import { CASE_TIMEOUT_MS, freshName } from '../contracts/cases.ts';
import { describeWith, hdfsServer } from '../servers.ts';
import type { World } from './world.ts';
import { json, openWorld, PROJECT, sha256 } from './world.ts';

describeWith(['hdfs'], 'data sets in HDFS', () => {
  const root = `/${freshName('registered')}`;
  let world: World;
  let store: HdfsStore;
  let url = '';
  beforeAll(async () => {
    world = await openWorld();
    ({ url } = await hdfsServer());
    store = await createHdfsStore({ url, user: 'ocdl', root, name: 'areas' });
    for (const [folder, access] of areasOf(PROJECT, await world.deps.records.members(PROJECT)))
      await store.admit(folder, access);
  }, CASE_TIMEOUT_MS);
  afterAll(async () => {
    await store?.close();
    await world?.close();
  });

  const ask = async (who: string, method: string, path: string, body?: Buffer | object): Promise<Response> => {
    const isBytes = Buffer.isBuffer(body);
    return createApp({ ...world.deps, areas: store }).app.request(`http://localhost/v1/projects/${PROJECT}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${world.tokens[who] ?? ''}`,
        ...(body && { 'content-type': isBytes ? 'application/octet-stream' : 'application/json' }),
      },
      ...(body && { body: isBytes ? new Uint8Array(body) : JSON.stringify(body) }),
    });
  };

  test.each([
    ['training', 'sam', 'common'],
    ['test', 'mia', 'staging'],
  ])(
    'a %s set is read-only for %s, who registered it',
    async (kind, who, area) => {
      const [dataset, text] = [`set-${kind}`, '{"id":"a","inputs":{"x":1},"label":"YES"}\n'];
      await ask(who, 'PUT', '/files/private/rows.jsonl?replace=true', Buffer.from(text));
      const asked = { dataset, kind, files: [{ name: 'rows.jsonl', area: 'private', path: 'rows.jsonl' }] };
      const made = await ask(who, 'POST', '/datasets', asked);
      expect([made.status, await json(made)]).toEqual([
        201,
        expect.objectContaining({
          files: [{ name: 'rows.jsonl', sha256: sha256(text), bytes: text.length }],
        }) as unknown,
      ]);
      expect((await ask(who, 'POST', '/datasets', asked)).status).toBe(200);

      const own = person(url, who);
      const folder = `${root}/${area}/${PROJECT}/datasets`;
      const file = `${folder}/${dataset}/rows.jsonl`;
      expect(await own.read(file)).toBe(text);
      expect(await own.write(file, 'other', '&overwrite=true')).toBe(403);
      for (const at of [file, `${folder}/${dataset}`, folder]) {
        expect([at, await own.status('DELETE', at, 'DELETE&recursive=true')]).toEqual([at, 403]);
        const moved = encodeURIComponent(`${root}/private/${PROJECT}/${who}/moved`);
        expect([at, await own.status('PUT', at, `RENAME&destination=${moved}`)]).toEqual([at, 403]);
      }
      const got = await ask(who, 'GET', `/files/${area}/datasets/${dataset}/rows.jsonl`);
      expect([got.status, await got.text()]).toEqual([200, text]);
      // What they uploaded stays theirs.
      expect(await own.write(`${root}/private/${PROJECT}/${who}/rows.jsonl`, 'next', '&overwrite=true')).toBe(201);
      const next = await ask(who, 'GET', '/files/private/rows.jsonl');
      expect(await next.text()).toBe('next');
    },
    CASE_TIMEOUT_MS,
  );

  test(
    'an invalid test set leaves nothing',
    async () => {
      await ask('mia', 'PUT', '/files/private/bad.jsonl?replace=true', Buffer.from('{"id":"a","inputs":{"x":1}}'));
      const asked = {
        dataset: 'bad',
        kind: 'test',
        files: [{ name: 'bad.jsonl', area: 'private', path: 'bad.jsonl' }],
      };
      const refused = await ask('mia', 'POST', '/datasets', asked);
      expect([refused.status, (await json(refused))['detail']]).toEqual([
        400,
        expect.stringContaining('line 1 has no label'),
      ]);
      expect((await store.list(`staging/${PROJECT}/datasets/bad` as StorePath)).files).toEqual([]);
    },
    CASE_TIMEOUT_MS,
  );
});
