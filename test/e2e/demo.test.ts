// The demo from the command line: a complete run on a new home, the control with shuffled labels, Ctrl-C, and a second run.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, newHome, type TestHome } from '../local/homes.ts';
import { pythonEnvironment } from '../python.ts';

const root = new URL('../../', import.meta.url);
/** A minute on an idle machine; a busy one takes several times as long. */
const DEMO_MS = 300_000;

type Demo = { readonly process: ChildProcess; readonly output: () => string; readonly exit: Promise<unknown> };

const started: Demo[] = [];
let home: TestHome;

beforeAll(async () => {
  await pythonEnvironment();
  home = await newHome();
}, 300_000);

afterAll(async () => {
  for (const { process: child, exit } of started) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await exit;
  }
  await home.remove();
}, 600_000);

function runDemo(...flags: string[]): Demo {
  const { PATH, HOME, OCDL_CACHE, OCDL_PYTHON } = process.env;
  // External servers in the environment, which the demo must not use.
  const foreign = { TEMPORAL_ADDRESS: '127.0.0.1:1', DATABASE_URL: 'postgresql://nobody@127.0.0.1:1/nothing' };
  const env = { PATH, HOME, OCDL_CACHE, OCDL_PYTHON, ...home.env, OCDL_HOME: '', ...foreign };
  const args = ['api/cli/ocdl.js', 'demo', '--home', home.home, ...flags];
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { text: '' };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (said.text += text));
  const exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve(signal ?? code)));
  const demo = { process: child, output: () => said.text, exit };
  started.push(demo);
  return demo;
}

/** Waits for a text in the demo's output; if the demo ends first, fails with its output. */
async function says(demo: Demo, words: string): Promise<void> {
  const ended = () => demo.process.exitCode !== null || demo.process.signalCode !== null;
  await eventually(words, () => demo.output().includes(words) || ended(), DEMO_MS);
  expect(demo.output()).toContain(words);
}

/** Sends a request to the API as one of the demo's people; with a body, a POST. */
async function ask<T>(
  who: string,
  path: string,
  body?: unknown,
): Promise<{ readonly status: number; readonly body: T }> {
  const tokens = JSON.parse(readFileSync(join(home.home, 'demo-tokens.json'), 'utf8')) as Record<string, string>;
  const { apiUrl } = JSON.parse(readFileSync(join(home.home, 'platform.json'), 'utf8')) as { apiUrl: string };
  const authorization = `Bearer ${tokens[who] ?? ''}`;
  const post = {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { authorization, 'content-type': 'application/json' },
  };
  const response = await fetch(new URL(path, apiUrl), body === undefined ? { headers: { authorization } } : post);
  return { status: response.status, body: (await response.json()) as T };
}

async function states(): Promise<Readonly<Record<string, string>>> {
  type Rows = { rows: { submission: string; state: string }[] };
  const { body } = await ask<Rows>('mia', '/v1/projects/vulnerability/versions');
  return Object.fromEntries(body.rows.map(({ submission, state }) => [submission, state]));
}

const livePath = '/v1/applications/code-scanner/types/code-vulnerability/live';
const git = (...args: string[]): string =>
  execFileSync('git', ['-C', join(home.home, 'git', 'vulnerability', 'labels.git'), ...args], { encoding: 'utf8' });

/** The model's verdicts and the engineer's labels in a scan's CSV in Git, by path. */
function labelsOf(
  scan: string,
): readonly { readonly path: string; readonly predicted: string; readonly label: string }[] {
  const [header = '', ...rows] = git('show', `main:labels/code-scanner/${scan}.csv`).trim().split('\r\n');
  const columns = header.split(',');
  const cell = (row: string, name: string): string => row.split(',')[columns.indexOf(name)] ?? '';
  return rows.map((row) => ({ path: cell(row, 'path'), predicted: cell(row, 'predicted'), label: cell(row, 'label') }));
}

function analysersFindings(): ReadonlySet<string> {
  const text = readFileSync(new URL('deploy/examples/vulnerability/sample/labels.csv', root), 'utf8');
  const rows = text
    .trim()
    .split(/\r?\n/)
    .slice(1)
    .map((row) => row.split(','));
  return new Set(rows.filter((row) => row[3] === '1').map((row) => `${row[0] ?? ''}/${row[1] ?? ''}`));
}

let kept: Demo;

test(
  'takes the better model from training to labels in Git, and --keep leaves the platform running',
  async () => {
    kept = runDemo('--keep');
    await says(kept, 'Press Ctrl-C to stop it; all data is kept');
    expect(await states()).toEqual({ 'random-forest-1': 'released', 'svm-1': 'rejected' });
    expect((await ask('dev', livePath)).body).toMatchObject({ release: 'code-vulnerability-1', generation: 1 });

    type Found = {
      findings: { path: string; vulnerable: boolean; label: { verdict: string } | null }[];
      commit: string;
    };
    const { body: scan } = await ask<Found>('eve', '/v1/projects/vulnerability/scans/scan-1');
    const flagged = scan.findings.filter(({ vulnerable }) => vulnerable);
    expect(scan.findings).toHaveLength(60);
    expect(flagged.length).toBeGreaterThan(3);
    expect(scan.findings.filter(({ label }) => label)).toEqual(flagged);
    // The labels in Git are the truth about each flagged file, not the model's verdict.
    const truth = analysersFindings();
    const labels = labelsOf('scan-1');
    expect(labels.map(({ path }) => path).sort()).toEqual(flagged.map(({ path }) => path).sort());
    for (const { path, predicted, label } of labels)
      expect({ path, predicted, label }).toEqual({ path, predicted: 'YES', label: truth.has(path) ? 'YES' : 'NO' });
    expect(new Set(labels.map(({ label }) => label))).toEqual(new Set(['YES', 'NO']));
    expect(git('rev-parse', 'main').trim()).toBe(scan.commit);

    // Every scanned file is in the table with its reported verdict.
    for (const { path, vulnerable } of scan.findings)
      expect(kept.output()).toMatch(new RegExp(`^ +${vulnerable ? 'YES' : 'NO'} +[01]\\.\\d{3} +\\S+ +${path}$`, 'm'));
    const { apiUrl, uiUrl } = JSON.parse(readFileSync(join(home.home, 'platform.json'), 'utf8')) as Record<
      string,
      string
    >;
    expect(kept.output()).toMatch(new RegExp(`API +${apiUrl ?? '-'}\n +Temporal Web UI +${uiUrl ?? '-'}\n`));
    expect(statSync(join(home.home, 'demo-tokens.json')).mode & 0o777).toBe(0o600);
  },
  DEMO_MS,
);

test('only the manager can read the held-out rows', async () => {
  const rows = '/v1/projects/vulnerability/files/staging?folder=datasets/held-out-projects';
  expect((await ask<{ rows: unknown[] }>('mia', rows)).body.rows).toHaveLength(1);
  expect((await ask('sam', rows)).status).toBe(403);
  const { body } = await ask<{ run: never; version: { run: { inputs: { name: string }[] } } }>(
    'sam',
    '/v1/projects/vulnerability/models/java-vulnerability/submissions/svm-1',
  );
  expect(body.version.run.inputs.map(({ name }) => name).sort()).toEqual(['code.tar', 'train.npz']);
});

test(
  'a run repeated only from its record gives the same model and metrics',
  async () => {
    type Run = {
      spec: { code: { commit: string } } & Record<string, unknown>;
      environment: string;
      metrics: Record<string, number>;
      outputs: { name: string; sha256: string }[];
    };
    type Shown = { version: { type: string; state: string; run: Run | null } };
    const of = (submission: string): string =>
      `/v1/projects/vulnerability/models/java-vulnerability/submissions/${submission}`;
    const { version: first } = (await ask<Shown>('sam', of('svm-1'))).body;
    const { code, ...spec } = first.run?.spec ?? { code: { commit: '' } };
    const again = { submission: 'again', type: first.type, from: { run: { ...spec, commit: code.commit } } };
    const started = await ask('sam', '/v1/projects/vulnerability/models/java-vulnerability/submissions', again);
    expect(started).toMatchObject({ status: 201 });
    const trained = async (): Promise<Run | null> => {
      const { version } = (await ask<Shown>('sam', of('again'))).body;
      expect(version.state).not.toBe('failed');
      return version.state === 'trained' ? version.run : null;
    };
    await eventually('the run again', async () => (await trained()) !== null, 120_000);
    const second = await trained();
    const digests = (run: Run | null) => run?.outputs.map(({ name, sha256 }) => `${name} ${sha256}`).sort();
    expect(second?.metrics).toEqual(first.run?.metrics);
    expect(second?.environment).toBe(first.run?.environment);
    expect(digests(second)).toEqual(digests(first.run));
  },
  DEMO_MS,
);

test(
  'with shuffled labels, on the running platform, no version is approved or released',
  async () => {
    const shuffled = runDemo('--shuffle-labels');
    expect([await shuffled.exit, shuffled.output()]).toEqual([0, expect.stringContaining('no version was approved')]);
    expect(shuffled.output()).toContain('the demo uses it and leaves it running');
    expect(await states()).toMatchObject({ 'random-forest-2': 'rejected', 'svm-2': 'rejected' });
    expect((await ask('dev', livePath)).body).toMatchObject({ release: 'code-vulnerability-1', generation: 1 });
  },
  DEMO_MS,
);

test(
  'the running platform stops on a signal, and Ctrl-C stops a run without orphaned processes',
  async () => {
    kept.process.kill('SIGTERM');
    expect([await kept.exit, kept.output()]).toEqual([0, expect.stringContaining('The platform has stopped.')]);
    expect(existsSync(join(home.home, 'platform.json'))).toBe(false);

    const interrupted = runDemo();
    await says(interrupted, 'commits the training code');
    interrupted.process.kill('SIGINT');
    expect([await interrupted.exit, interrupted.output()]).toEqual([130, expect.stringContaining('has stopped.')]);
    expect(interrupted.output()).not.toContain('Summary');
    expect(existsSync(join(home.home, 'platform.json'))).toBe(false);
  },
  DEMO_MS,
);

test(
  'a second run on the same home succeeds after an interrupted one and makes its model live',
  async () => {
    const second = runDemo();
    expect([await second.exit, second.output()]).toEqual([
      0,
      expect.stringContaining('code-vulnerability-2 in code-scanner'),
    ]);
    expect(second.output()).toMatch(/live now +0\.\d{3}/);
    const [, run] = /approves random-forest-(\d+)/.exec(second.output()) ?? [];
    expect(Number(run)).toBeGreaterThanOrEqual(3);
    expect(labelsOf(`scan-${run ?? ''}`).length).toBeGreaterThan(0);
    expect(labelsOf('scan-1').length).toBeGreaterThan(0);
  },
  DEMO_MS,
);

test(
  'names the failed step and the logs if the tokens of a home are missing',
  async () => {
    rmSync(join(home.home, 'demo-tokens.json'));
    const lost = runDemo();
    expect([await lost.exit, lost.output()]).toEqual([
      1,
      expect.stringContaining('The demo failed: step admin gathers'),
    ]);
    expect(lost.output()).toContain('no valid administrator');
    expect(lost.output()).toContain(join(home.home, 'logs'));
    expect(lost.output()).toContain('The platform has stopped.');
  },
  DEMO_MS,
);

test('refuses an unknown flag', async () => {
  const wrong = runDemo('--shuffel-labels');
  expect([await wrong.exit, wrong.output()]).toEqual([2, expect.stringContaining('--shuffel-labels')]);
}, 600_000);
