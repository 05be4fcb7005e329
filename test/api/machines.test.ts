// Bytes for machines: releases for the applications they are meant for, inputs and outputs for jobs.
import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { MODEL_BYTES } from './passage.ts';
import { json, PROJECT, reprDigest, TYPE } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world, machines } = worldOfThisFile();

const files = `/v1/projects/${PROJECT}/files`;
const bytesOf = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer());

describe('a release', () => {
  test('is read by its application, byte for byte, but not before it is announced', async () => {
    const path = `/v1/releases/${TYPE}-1/files/model.onnx`;
    const got = await world().ask(machines().scanner, 'GET', path);
    expect((await bytesOf(got)).equals(MODEL_BYTES)).toBe(true);
    expect((await world().ask(machines().probe, 'GET', path)).status).toBe(404);
    const { records } = world().deps;
    const first = await records.release(`${TYPE}-1`);
    if (!first) throw new Error('no release');
    const { release: _, sequence: __, state: ___, ...again } = first;
    const next = await records.allotRelease('command-release-2', again);
    expect((await world().ask(machines().scanner, 'GET', `/v1/releases/${next.release}`)).status).toBe(404);
    expect((await world().ask('mia', 'GET', `/v1/releases/${next.release}`)).status).toBe(200);
    const rows = async (who: string, query = '') =>
      ((await json(world().ask(who, 'GET', `/v1/types/${TYPE}/releases${query}`)))['rows'] as unknown[]).length;
    expect([await rows(machines().scanner), await rows('mia'), await rows('mia', '?after=1')]).toEqual([1, 2, 1]);
  });
});

describe("a job's data", () => {
  const output = '/v1/jobs/job-1/outputs/model.onnx';
  const put = (who: string, body: Uint8Array, digest: string | null = reprDigest(body), path = output) =>
    world().ask(who, 'PUT', path, body, digest === null ? {} : { 'repr-digest': digest });

  test('is limited to what its token lists', async () => {
    const { jobOne, jobTwo } = machines();
    const got = await world().ask(jobOne, 'GET', '/v1/jobs/job-1/inputs/model.onnx');
    expect((await bytesOf(got)).equals(MODEL_BYTES)).toBe(true);
    expect((await world().ask(jobOne, 'GET', '/v1/jobs/job-1/inputs/other.bin')).status).toBe(404);
    expect((await world().ask(jobTwo, 'GET', '/v1/jobs/job-1/inputs/model.onnx')).status).toBe(404);
    expect((await world().ask('mia', 'GET', '/v1/jobs/job-1/inputs/model.onnx')).status).toBe(403);
    expect((await put(jobOne, MODEL_BYTES, undefined, '/v1/jobs/job-1/outputs/else.bin')).status).toBe(404);
    for (const path of ['/v1/me', `/v1/projects/${PROJECT}`, `${files}/common/notes.txt`])
      expect([403, 404]).toContain((await world().ask(jobOne, 'GET', path)).status);
  });

  test('is uploaded with its digest, within its limit, replaced by a later attempt, and recorded', async () => {
    const { jobOne } = machines();
    expect((await put(jobOne, MODEL_BYTES, null)).status).toBe(400);
    expect((await put(jobOne, MODEL_BYTES, reprDigest('other'))).status).toBe(400);
    expect((await put(jobOne, randomBytes(1_001))).status).toBe(413);
    expect((await put(jobOne, Buffer.from('first'))).status).toBe(200);
    expect((await put(jobOne, Buffer.from('second'))).status).toBe(200);
    const stored = await world().ask('mia', 'GET', `${files}/staging/jobs/job-1/model.onnx`);
    expect((await bytesOf(stored)).toString()).toBe('second');
    const recorded = await world().deps.records.step(`run/${PROJECT}/m/job-1/1`, 'output/model.onnx');
    expect(recorded).toEqual({ sha256: createHash('sha256').update('second').digest('hex'), bytes: 6 });
  });
});
