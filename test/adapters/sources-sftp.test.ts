// A private node: a real sshd with a pinned key, whose files are fetched, resumed and stored as a folder.
import { createHash, randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { download } from '../../activities/acquisition/download.ts';
import { createSources } from '../../activities/adapters/sources/sources.ts';
import { isFailure } from '../../activities/failures.ts';
import type { Node } from '../../workflows/domain/import.ts';
import type { Sshd } from './sshd.ts';
import { haveSshd, startSshd } from './sshd.ts';

const suite = haveSshd() ? describe : describe.skip;

suite('a private node', () => {
  const state: { folder: string; sshd?: Sshd } = { folder: '' };
  const sshd = (): Sshd => {
    if (!state.sshd) throw new Error('no sshd');
    return state.sshd;
  };
  const data = (name = ''): string => join(state.folder, 'data', name);
  beforeAll(async () => {
    state.folder = await mkdtemp(join(tmpdir(), 'ocdl-sftp-'));
    state.sshd = await startSshd(join(state.folder, 'sshd'));
    await mkdir(join(state.folder, 'secrets/p'), { recursive: true });
    await mkdir(join(state.folder, 'secrets/other'), { recursive: true });
    await copyFile(sshd().goodKey, join(state.folder, 'secrets/p/good'));
    await copyFile(sshd().badKey, join(state.folder, 'secrets/p/bad'));
    await copyFile(sshd().goodKey, join(state.folder, 'secrets/other/theirs'));
    await writeFile(join(state.folder, 'secrets/p/junk'), 'no key');
    await mkdir(data('deep/er'), { recursive: true });
    await writeFile(data('rows.csv'), 'a,b\n');
    await writeFile(data('deep/er/more.csv'), 'c,d\n');
    await writeFile(data('deep/.hidden'), 'h');
    await symlink('/etc/passwd', data('deep/link'));
  }, 120_000);
  afterAll(async () => {
    await state.sshd?.stop();
    await rm(state.folder, { recursive: true, force: true });
  });

  const node = (some: Partial<Extract<Node, { kind: 'sftp' }>> = {}): Node => ({
    ...{ kind: 'sftp', project: 'p', node: 'lab', host: '127.0.0.1', port: sshd().port },
    ...{ user: sshd().user, hostKey: sshd().hostKey, secret: 'good', ...some },
  });
  const abort = new AbortController();
  const open = (
    path: string,
    given = node(),
    options: { hosts?: string[]; entries?: number; signal?: AbortSignal } = {},
  ) => {
    const { hosts = [`127.0.0.1:${sshd().port}`], entries = 100, signal = abort.signal } = options;
    return createSources({
      guard: {},
      github: { apiUrl: 'https://api.github.test', downloadHosts: [] },
      maven: { url: 'https://maven.test' },
      https: { hosts: [] },
      sftp: { hosts, secrets: join(state.folder, 'secrets'), entries },
    }).connect({ kind: 'sftp', node: 'lab', path }, { project: 'p', nodes: [given], signal });
  };
  async function fetch(path: string, parts: string, onBytes: () => void = () => undefined) {
    const one = await open(path);
    try {
      const [file] = (await one.resolve()).files;
      if (!file) throw new Error('no file');
      return await download(one, file, parts, { expected: [], limit: 2 ** 30, signal: abort.signal, onBytes });
    } finally {
      await one.close();
    }
  }
  const refused = async (work: Promise<unknown>, type: Parameters<typeof isFailure>[1], text: RegExp) => {
    const error: unknown = await work.then(
      () => new Error('it succeeded'),
      (reason: unknown) => reason,
    );
    expect([isFailure(error, type), String(error)]).toEqual([true, expect.stringMatching(text)]);
  };

  it('fetches a file, and the regular files of a folder', async () => {
    const got = await fetch(data('rows.csv'), join(state.folder, 'parts-1'));
    expect(got.sha256).toBe(createHash('sha256').update('a,b\n').digest('hex'));
    const one = await open(data());
    const [folder] = (await one.resolve()).files;
    expect(folder).toMatchObject({ name: 'data', isFolder: true });
    const listed = folder && (await one.list(folder));
    expect(listed?.files.map(({ name, bytes }) => `${name} ${bytes}`).sort()).toEqual([
      'deep/er/more.csv 4',
      'rows.csv 4',
    ]);
    expect(listed?.leftOut.examples.map(({ path, why }) => [path, why]).sort()).toEqual([
      ['deep/.hidden', expect.stringContaining('not a valid path segment') as string],
      ['deep/link', 'a link'],
    ]);
    await one.close();
    const few = await open(data(), node(), { entries: 2 });
    await refused(folder ? few.list(folder) : Promise.resolve(), 'InvalidInput', /more than 2 files/);
    await few.close();
  });

  it('resumes after a lost connection, and starts over if the file has changed', async () => {
    const bytes = randomBytes(20_000_000);
    await writeFile(data('big.bin'), bytes);
    const parts = join(state.folder, 'parts-2');
    const seen = { first: 0, second: 0 };
    const cut = open(data('big.bin')).then(async (one) => {
      const [file] = (await one.resolve()).files;
      if (!file) throw new Error('no file');
      const onBytes = (count: number): void => {
        seen.first += count;
        if (seen.first > 2_000_000) sshd().cut();
      };
      return download(one, file, parts, { expected: [], limit: 2 ** 30, signal: abort.signal, onBytes });
    });
    await expect(cut).rejects.toThrow();
    expect(seen.first).toBeLessThan(bytes.length);
    const calls: number[] = [];
    const one = await open(data('big.bin'));
    const [file] = (await one.resolve()).files;
    if (!file) throw new Error('no file');
    const got = await download(one, file, parts, {
      ...{ expected: [], limit: 2 ** 30, signal: abort.signal },
      onBytes: (count) => calls.push(count),
    });
    await one.close();
    expect(got.sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
    // The first news is of the part that was there.
    expect(calls[0]).toBeGreaterThanOrEqual(2_000_000);
    expect(calls.reduce((sum, count) => sum + count, 0)).toBe(bytes.length);

    await rm(parts, { recursive: true });
    const half = await open(data('big.bin'));
    const state2 = { bytes: 0 };
    await expect(
      download(half, file, parts, {
        ...{ expected: [], limit: 2 ** 30, signal: abort.signal },
        onBytes: (count) => {
          state2.bytes += count;
          if (state2.bytes > 2_000_000) sshd().cut();
        },
      }),
    ).rejects.toThrow();
    await truncate(data('big.bin'), 1_000_000);
    await utimes(data('big.bin'), 1, 1);
    const again = await fetch(data('big.bin'), parts);
    expect(again.sha256).toBe(createHash('sha256').update(bytes.subarray(0, 1_000_000)).digest('hex'));
  });

  it('with a different host key is refused before authentication', async () => {
    const other = `SHA256:${createHash('sha256').update('other').digest('base64').replace('=', '')}`;
    await refused(
      open(data('rows.csv'), node({ hostKey: other })),
      'NotAuthorized',
      /presented the host key SHA256:.*pinned key is SHA256:/,
    );
  });

  it.each<[string, () => Partial<Extract<Node, { kind: 'sftp' }>>, Parameters<typeof isFailure>[1], RegExp]>([
    ['an unknown key', () => ({ secret: 'bad' }), 'NotAuthorized', /rejects the user \S+ with the key bad/],
    ['a missing secret', () => ({ secret: 'none' }), 'NotFound', /the key none does not exist/],
    ['another project’s secret', () => ({ secret: 'theirs' }), 'NotFound', /the key theirs does not exist/],
    [
      'a secret outside the secrets folder',
      () => ({ secret: '../other/theirs' }),
      'InvalidInput',
      /not a valid name of a secret/,
    ],
    ['a secret that is not a key', () => ({ secret: 'junk' }), 'InvalidInput', /cannot be used/],
    ['another node name', () => ({ node: 'barn' }), 'NotFound', /no SFTP node lab/],
  ])('with %s is refused', async (_, some, type, text) => {
    await refused(open(data('rows.csv'), node(some())), type, text);
  });

  it('on a host that no administrator has allowed is not contacted', async () => {
    await refused(
      open(data('rows.csv'), node(), { hosts: ['127.0.0.1'] }),
      'NotAuthorized',
      /not on the list of allowed SFTP hosts/,
    );
  });

  it('reports missing paths and paths that are not files', async () => {
    const missing = await open(data('none.csv'));
    await refused(missing.resolve(), 'NotFound', /none\.csv: no such file/);
    await missing.close();
    const device = await open('/dev/null');
    await refused(device.resolve(), 'InvalidInput', /neither a file nor a folder/);
    await device.close();
  });

  it('that is down is retryable, and a cancelled import releases its connection', async () => {
    const down: unknown = await open(data(), node({ port: 1 }), { hosts: ['127.0.0.1:1'] }).catch(
      (error: unknown) => error,
    );
    expect(String(down)).toMatch(/ECONNREFUSED/);
    expect(down).not.toHaveProperty('nonRetryable');
    const cancel = new AbortController();
    await writeFile(data('big.bin'), randomBytes(20_000_000));
    const one = await open(data('big.bin'), node(), { signal: cancel.signal });
    const [file] = (await one.resolve()).files;
    if (!file) throw new Error('no file');
    const work = download(one, file, join(state.folder, 'parts-3'), {
      ...{ expected: [], limit: 2 ** 30, signal: cancel.signal },
      onBytes: () => cancel.abort(new Error('cancelled')),
    });
    await expect(work).rejects.toThrow();
    await one.close();
  });
});
