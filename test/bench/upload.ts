// An upload through the API into HDFS, against the same pipeline without the API: the HDFS adapter, fed from the same file.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { storePath } from '../../workflows/domain/names.ts';
import type { Bench, Contender, Given } from './rounds.ts';
import { openHdfs, variable } from './systems.ts';

export const upload = (given: Given): Bench => ({
  title: `upload into HDFS, ${given.bytes / 1e6} MB`,
  module: 'upload',
  contenders: ['through the API', 'without the API'],
  peer: 'without the API',
  goals: { 'through the API': 0.85 },
  amount: given.bytes / 1e6,
  unit: 'MB',
});

const writtenSchema = z.object({ sha256: z.string(), bytes: z.number() });
/** As the API's store sees what `sam` uploads. */
const pathOf = (name: string) => storePath({ area: 'private', project: 'bench', user: 'sam', path: `${name}.bin` });

export const contenders: Readonly<Record<string, Contender>> = {
  async 'through the API'(given) {
    const store = await openHdfs(given);
    const address = `${variable(given, 'BENCH_API')}/v1/projects/bench/files/private/${given.name}.bin`;
    const headers = {
      authorization: `Bearer ${variable(given, 'BENCH_TOKEN')}`,
      'content-type': 'application/octet-stream',
      'content-length': given.bytes,
    };
    return async () => {
      const asked = request(address, { method: 'PUT', headers });
      const answered = once(asked, 'response') as Promise<[IncomingMessage]>;
      await pipeline(createReadStream(given.file, { highWaterMark: CHUNK }), asked);
      const [answer] = await answered;
      const said = await text(answer);
      assert.equal(answer.statusCode, 201, said);
      check(given, writtenSchema.parse(JSON.parse(said)));
      return async () => {
        await store.remove(store.uri(pathOf(given.name)));
        await store.close();
      };
    };
  },

  async 'without the API'(given) {
    const store = await openHdfs(given);
    return async () => {
      const path = pathOf(given.name);
      // The look that the API takes, to tell 200 from 201.
      assert.equal(await store.stat(store.uri(path)), undefined);
      const { signal } = new AbortController();
      check(given, await store.write(path, createReadStream(given.file, { highWaterMark: CHUNK }), { signal }));
      return async () => {
        await store.remove(store.uri(path));
        await store.close();
      };
    };
  },
};

/** What a socket gives at a time. */
const CHUNK = 64 * 1024;

function check(given: Given, written: z.infer<typeof writtenSchema>): void {
  assert.equal(written.sha256, given.sha256);
  assert.equal(written.bytes, given.bytes);
}
