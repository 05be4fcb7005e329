// Where a sandboxed service puts a link in place of its socket, the platform must not talk to what the link leads to.
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInferenceClient } from '../../activities/inference/client.ts';

describe('a service at a Unix socket', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-socket-'));
  const [socket, link, file] = ['socket', 'link', 'file'].map((name) => join(folder, name)) as [string, string, string];
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url);
    response.end();
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    symlinkSync(socket, link);
    writeFileSync(file, '');
  });
  afterAll(async () => {
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true });
  });
  const ready = (path: string): Promise<boolean> =>
    createInferenceClient({ address: `unix:${path}`, name: 'm' }).ready(AbortSignal.timeout(5_000));

  test.each([
    ['a link to the socket of another program', link],
    ['a file', file],
    ['nothing', join(folder, 'missing')],
  ])('is not found where there is %s', async (_, path) => {
    expect(await ready(path)).toBe(false);
    expect(asked).toEqual([]);
  });

  test('answers', async () => {
    expect(await ready(socket)).toBe(true);
    expect(asked).toEqual(['/v2/models/m/ready']);
  });
});
