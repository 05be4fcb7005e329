// The demo on the real stack: the identical scenario over HTTP, and its results as seen by third-party clients.
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkBelonging, noteBelonging } from '../../api/cli/demo/stack.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { runProgram } from '../../deploy/local/run-program.ts';
import { endLeftovers } from '../../deploy/local/run-records.ts';
import { portTable } from '../../deploy/stack/ports.ts';
import { eventually, newHome, type TestHome } from '../local/homes.ts';
import { pythonEnvironment } from '../python.ts';
import { describeWith } from '../servers.ts';
import { consoleConsumer, curlS3, fsShell, stackVariables, type StackVariables } from './foreign-clients.ts';

const ocdl = fileURLToPath(new URL('../../api/cli/ocdl.js', import.meta.url));
/** Two minutes on an idle machine; a busy one takes many times as long, and a first run fetches and builds the servers. */
const DEMO_MS = 1_500_000;
/** Two or three third-party programs, each of which may take minutes on a busy machine. */
const CLIENTS_MS = 600_000;

describeWith(['kafka', 'hdfs', 'alluxio', 's3'], 'the demo on the stack', () => {
  let home: TestHome;
  let stackHome: string;
  let stack: StackVariables;
  let demo: { readonly process: ChildProcess; readonly output: () => string; readonly exit: Promise<unknown> };
  let env: Readonly<Record<string, string | undefined>>;

  beforeAll(async () => {
    await pythonEnvironment();
    home = await newHome();
    stackHome = join(home.home, '..', 'stack');
    const { PATH, HOME, OCDL_CACHE, OCDL_PYTHON } = process.env;
    const ports = await Promise.all(
      Object.values(portTable).map(async ({ variable }) => [variable, String(await anyFreePort('127.0.0.1'))] as const),
    );
    env = {
      PATH,
      HOME,
      OCDL_CACHE,
      OCDL_PYTHON,
      ...home.env,
      ...Object.fromEntries(ports),
      OCDL_STACK_HOME: stackHome,
    };
    // External servers in the environment, which the demo must not use.
    const foreign = { OCDL_S3_BUCKET: 'somebodys', OCDL_S3_REGION: 'eu-central-1', TEMPORAL_ADDRESS: '127.0.0.1:1' };
    const args = [ocdl, 'demo', '--stack', '--keep', '--home', home.home];
    const child = spawn(process.execPath, args, { env: { ...env, ...foreign }, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = { text: '' };
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said.text += text));
    const exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
    demo = { process: child, output: () => said.text, exit };
    const kept = 'Press Ctrl-C to stop it; all data is kept';
    const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
    await eventually(kept, () => said.text.includes(kept) || hasEnded(), DEMO_MS);
    expect(said.text).toContain(kept);
    stack = stackVariables(stackHome);
  }, DEMO_MS + 300_000);

  afterAll(async () => {
    if (demo.process.exitCode === null && demo.process.signalCode === null) demo.process.kill('SIGTERM');
    await demo.exit;
    await endLeftovers(join(stackHome, 'run'));
    await home.remove();
  }, 180_000);

  /** Sends a request to the API as one of the demo's people. */
  async function ask<T>(who: string, path: string): Promise<T> {
    const read = (file: string) => JSON.parse(readFileSync(join(home.home, file), 'utf8')) as Record<string, string>;
    const headers = { authorization: `Bearer ${read('demo-tokens.json')[who] ?? ''}` };
    const response = await fetch(new URL(path, read('platform.json')['apiUrl']), { headers });
    expect([path, response.status]).toEqual([path, 200]);
    return (await response.json()) as T;
  }

  type File = { readonly name: string; readonly sha256: string; readonly bytes: number };
  const release = () => ask<{ digest: string; files: readonly File[] }>('mia', '/v1/releases/code-vulnerability-1');

  test('completes over HTTP: the better model is live and its findings are labelled', async () => {
    const { rows } = await ask<{ rows: { submission: string; state: string }[] }>(
      'mia',
      '/v1/projects/vulnerability/versions',
    );
    expect(Object.fromEntries(rows.map(({ submission, state }) => [submission, state]))).toEqual({
      'random-forest-1': 'released',
      'svm-1': 'rejected',
    });
    expect(await ask('dev', '/v1/applications/code-scanner/types/code-vulnerability/live')).toMatchObject({
      ...{ release: 'code-vulnerability-1', generation: 1 },
    });
    const scan = await ask<{ findings: { vulnerable: boolean; label: unknown }[] }>(
      'eve',
      '/v1/projects/vulnerability/scans/scan-1',
    );
    const flagged = scan.findings.filter(({ vulnerable }) => vulnerable);
    expect(flagged.length).toBeGreaterThan(3);
    expect(scan.findings.filter(({ label }) => label)).toEqual(flagged);
  });

  test(
    'the doctor reaches every system of the stack and prints no secret',
    async () => {
      const options = { env: { ...env, ...stack }, timeoutMs: CLIENTS_MS };
      const { code, output } = await runProgram(process.execPath, [ocdl, 'doctor'], options);
      for (const name of ['Temporal', 'PostgreSQL', 'HDFS', 'Alluxio', 'S3', 'Kafka'])
        expect(output).toMatch(new RegExp(`^ok +${name} +(?!embedded)\\S`, 'm'));
      expect(output).not.toContain(stack['OCDL_S3_SECRET_ACCESS_KEY']);
      expect(output).not.toContain(new URL(stack['DATABASE_URL'] ?? '').password);
      expect(code).toBe(0);
    },
    CLIENTS_MS,
  );

  test(
    'Kafka’s own console consumer reads the release event',
    async () => {
      const [record = '', ...more] = await consoleConsumer(stack, 'code-vulnerability', 1);
      expect(more).toEqual([]);
      const [headers, key, value = ''] = record.split('\t');
      expect([headers, key]).toEqual([expect.stringContaining('application/cloudevents+json'), 'java-vulnerability']);
      const { digest, files } = await release();
      expect(JSON.parse(value)).toMatchObject({
        ...{ specversion: '1.0', id: 'code-vulnerability-1', type: 'io.ocdl.model.released.v1' },
        data: { release: 'code-vulnerability-1', digest, files },
      });
    },
    CLIENTS_MS,
  );

  test(
    'Hadoop’s own FsShell lists the areas with their owners, and HDFS holds people to their own',
    async () => {
      // HDFS permissions are updated asynchronously; the last update may still be running.
      const areas = { private: 'sam', common: 'ocdl', staging: 'ocdl' };
      const list = () => fsShell(stackHome, 'hdfs', '-ls', '-R', '/ocdl');
      const ownerOf = (listing: string, path: string) =>
        new RegExp(`^d\\S+ +- (\\S+) .* ${path}$`, 'm').exec(listing)?.[1];
      await eventually(
        'sam owns his area',
        async () => ownerOf(await list(), '/ocdl/private/vulnerability/sam') === 'sam',
        CLIENTS_MS / 2,
      );
      const listing = await list();
      for (const [area, owner] of Object.entries(areas)) {
        const folder = `/ocdl/${area}/vulnerability${area === 'private' ? '/sam' : ''}`;
        expect([folder, ownerOf(listing, folder)]).toEqual([folder, owner]);
      }
      expect(listing).toMatch(/\/ocdl\/private\/vulnerability\/sam\/runs\/random-forest-1-1\/model\.onnx$/m);
      expect(listing).toMatch(
        /\/ocdl\/staging\/vulnerability\/models\/java-vulnerability\/random-forest-1\/model\.onnx$/m,
      );
      // All members read the common area, but engineers do not write to it; only managers see the bytes in staging.
      const common = await fsShell(stackHome, 'hdfs', '-getfacl', '/ocdl/common/vulnerability');
      expect(common).toMatch(/^user:eve:r-x$/m);
      expect(common).toMatch(/^user:sam:rwx$/m);
      expect(await fsShell(stackHome, 'mia', '-ls', '/ocdl/staging/vulnerability')).toContain(
        '/ocdl/staging/vulnerability/models',
      );
      expect(await fsShell(stackHome, 'sam', '-ls', '/ocdl/staging/vulnerability')).toContain(
        'Permission denied: user=sam',
      );
      expect(await fsShell(stackHome, 'mia', '-ls', '/ocdl/private/vulnerability/sam')).toContain(
        'Permission denied: user=mia',
      );
    },
    CLIENTS_MS,
  );

  test(
    'curl downloads the released model from S3, with the approved digest',
    async () => {
      const { digest, files } = await release();
      expect(files.find(({ name }) => name === 'model.onnx')?.sha256).toBe(digest);
      for (const { name, sha256, bytes } of files) {
        const path = join(home.home, '..', name);
        await curlS3(stack, `releases/code-vulnerability/${sha256}/${name}`, path);
        const content = readFileSync(path);
        expect([name, content.byteLength, createHash('sha256').update(content).digest('hex')]).toEqual([
          name,
          bytes,
          sha256,
        ]);
      }
    },
    CLIENTS_MS,
  );

  test('stops the platform, then the stack that it started, and leaves no process running', async () => {
    demo.process.kill('SIGTERM');
    expect([await demo.exit, demo.output()]).toEqual([0, expect.stringContaining('The platform has stopped.')]);
    expect(await endLeftovers(join(stackHome, 'run'))).toEqual([]);
    expect(await endLeftovers(join(home.home, 'run'))).toEqual([]);
  }, 180_000);
});

test('reports which of the two related folders was removed, and what to do', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocdl-belonging-'));
  const [stackHome, home] = [join(folder, '.'), mkdtempSync(join(folder, 'home-'))];
  const tokens = join(home, 'demo-tokens.json');
  try {
    checkBelonging(stackHome, home);
    // The records belong to someone else, who was shown the administrator's token.
    expect(() => noteBelonging(stackHome, home, false)).toThrow(/already has an administrator.*OCDL_STACK_HOME/s);
    noteBelonging(stackHome, home, true);
    // Records of a demo whose tokens are gone.
    expect(() => checkBelonging(stackHome, home)).toThrow(/that folder was removed, so stop the stack/);
    writeFileSync(tokens, '{}');
    checkBelonging(stackHome, home);
    noteBelonging(stackHome, home, false);
    expect(() => checkBelonging(stackHome, join(folder, 'other'))).toThrow(
      new RegExp(`tokens are in ${home}: use it with --home`),
    );
    // The stack was recreated; the tokens are for the old one.
    rmSync(join(stackHome, 'demo-home'));
    expect(() => checkBelonging(stackHome, home)).toThrow(/was recreated since.*remove this folder/s);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
