// After the release: the application receives it and scans, the engineer labels the findings, the labels are in Git.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Delivery, deliverySchema, liveSchema, type Scan, scanSchema } from './answers.ts';
import type { ApiClient } from './api-client.ts';
import { application, example, modelType, mostLabels, project, readTruth, sample } from './case-study.ts';
import type { Team } from './team.ts';
import type { Terminal } from './terminal.ts';

const LIVE_WITHIN_MS = 300_000;
/** Time for the application to exit after SIGTERM. */
const END_WITHIN_MS = 10_000;

const root = join(example, '..', '..', '..');

/** Waits until the release is live in the application; prints the gates' evidence. */
export async function awaitLive(dev: ApiClient, terminal: Terminal, release: string): Promise<void> {
  const path = `/v1/applications/${application}/deliveries/${release}`;
  const moving = ['received', 'gating', 'deploying'];
  await terminal.step(
    application,
    `receives ${release}, runs its gates and makes it live`,
    async (tell) => {
      const ask = async (): Promise<Delivery | undefined> => {
        const delivery = await dev.find(path, deliverySchema);
        tell(delivery?.state ?? 'announced');
        return delivery;
      };
      const done = (delivery: Delivery | undefined) => delivery !== undefined && !moving.includes(delivery.state);
      const delivery = await dev.until(`delivery of ${release}`, ask, done, LIVE_WITHIN_MS);
      if (delivery?.state !== 'live')
        throw new Error(`the delivery is ${delivery?.state ?? 'missing'}: ${delivery?.detail ?? ''}`);
      const live = await dev.get(`/v1/applications/${application}/types/${modelType}/live`, liveSchema);
      if (live.release !== release) throw new Error(`${live.release ?? 'nothing'} is live, not ${release}`);
      return delivery;
    },
    ({ gates }) => gates.map(({ gate, detail }) => `${gate}: ${detail}`).join('; '),
  );
}

/** Runs the application's program on the sample's sources, with only the API's address and its token. */
export async function scanSample(
  given: { readonly api: string; readonly token: string; readonly scan: string; readonly signal: AbortSignal },
  terminal: Terminal,
): Promise<void> {
  const names = ['--api', given.api, '--application', application, '--type', modelType];
  const args = [
    '--import',
    'tsx',
    join(example, 'application.ts'),
    ...names,
    '--sources',
    sample,
    '--scan',
    given.scan,
  ];
  const lines = await terminal.step(application, 'scans the source files of the sample', async () => {
    const env = { PATH: process.env['PATH'] ?? '', TMPDIR: process.env['TMPDIR'] ?? '/tmp', OCDL_TOKEN: given.token };
    const { status, out, err } = await run(process.execPath, args, env, given.signal);
    if (status === 0) return out;
    throw new Error(`the application's program failed (status ${status ?? 'none'}): ${err.slice(-5).join(' ').trim()}`);
  });
  for (const line of lines) terminal.say(line === '' ? '' : `               ${line}`);
}

export type Labelled = {
  readonly scan: Scan;
  readonly confirmed: number;
  readonly denied: number;
  /** Log lines of the scan's commits in the labels repository, newest first. */
  readonly commits: readonly string[];
};

/** The engineer labels the flagged findings; then the commits of the labels are read from their repository. */
export async function playEngineer(
  { eve }: Team,
  terminal: Terminal,
  given: { readonly home: string; readonly scan: string; readonly signal: AbortSignal },
): Promise<Labelled> {
  const path = `/v1/projects/${project}/scans/${given.scan}`;
  const flagged = (await eve.get(path, scanSchema)).findings.filter(({ vulnerable }) => vulnerable);
  const truth = await readTruth();
  const judged = flagged.sort((a, b) => b.probability - a.probability).slice(0, mostLabels);
  const isTrue = (finding: { readonly path: string }): boolean => truth.has(finding.path);
  const [confirmed, denied] = [judged.filter(isTrue), judged.filter((finding) => !isTrue(finding))];
  for (const [name, findings] of [
    ['confirm', confirmed],
    ['deny', denied],
  ] as const) {
    if (findings.length === 0) continue;
    const verb = name === 'confirm' ? 'confirms' : 'denies';
    await terminal.step('eve', `${verb} ${findings.length} of the ${flagged.length} findings`, async () => {
      const { revision } = await eve.get(path, scanSchema);
      await eve.command(`${path}/commands`, { name, revision, args: { findings: findings.map((one) => one.finding) } });
    });
  }
  const scan = await eve.get(path, scanSchema);
  const commits = scan.commit === null ? [] : await showCommits(given, scan.commit);
  return { scan, confirmed: confirmed.length, denied: denied.length, commits };
}

/** The embedded platform's repository of the project's labels. */
export const labelsFolder = (home: string): string => join(home, 'git', project, 'labels.git');

async function showCommits(
  given: { readonly home: string; readonly scan: string; readonly signal: AbortSignal },
  commit: string,
): Promise<readonly string[]> {
  const file = `labels/${application}/${given.scan}.csv`;
  const args = ['-C', labelsFolder(given.home), 'log', '--stat', '--format=%h %an: %s', commit, '--', file];
  const { status, out, err } = await run('git', args, { PATH: process.env['PATH'] ?? '' }, given.signal);
  if (status !== 0) throw new Error(`git cannot show commit ${commit} of the labels: ${err.join(' ')}`);
  return out.filter((line) => line.trim() !== '' && !line.includes('file changed'));
}

type Ended = { readonly status: number | null; readonly out: readonly string[]; readonly err: readonly string[] };

/** Runs a program to its end; on abort it gets SIGTERM, later SIGKILL. */
function run(
  program: string,
  args: readonly string[],
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<Ended> {
  const child = spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { out: [] as string[], err: [] as string[] };
  createInterface({ input: child.stdout }).on('line', (line) => said.out.push(line));
  createInterface({ input: child.stderr }).on('line', (line) => said.err.push(line));
  const late: { timer?: NodeJS.Timeout } = {};
  const end = (): void => {
    child.kill('SIGTERM');
    late.timer = setTimeout(() => child.kill('SIGKILL'), END_WITHIN_MS);
  };
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      clearTimeout(late.timer);
      signal.removeEventListener('abort', end);
      resolve({ status, ...said });
    });
  });
}
