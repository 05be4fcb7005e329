// `ocdl demo`: runs the case study on a separate platform, from training to the labels in Git; each role uses the API.
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { stopOnSignals } from '../../deploy/local/ctrl-c.ts';
import { awaitLive, playEngineer, scanSample } from './demo/engineer.ts';
import { playManager } from './demo/manager.ts';
import { type DemoPlatform, openPlatform } from './demo/platform.ts';
import { nextRun, playScientist } from './demo/scientist.ts';
import { type Played, summary } from './demo/summary.ts';
import { gatherTeam } from './demo/team.ts';
import { createTerminal, FailedStep, type Terminal } from './demo/terminal.ts';

const HELP = `Usage: ocdl demo [flags]

Plays the case study on a platform of its own: a scientist trains two detectors of vulnerable Java files, a manager
evaluates them and releases the better one, an application receives it and scans real sources, an engineer confirms or
denies the findings. It needs network access only to the package registries, and no GPU.

  --keep            leave the platform running afterwards, until Ctrl-C
  --shuffle-labels  train on shuffled labels: the control, in which no model may be approved
  --stack           use the real servers: HDFS, Alluxio, S3, Kafka, PostgreSQL, Temporal (npm run stack); servers that
                    are not running are started
  --home DIR        folder of the demo's platform (.ocdl/demo, with --stack .ocdl/demo-stack); later runs continue there
  --help            show this text`;

type Given = {
  readonly keep: boolean;
  readonly shuffleLabels: boolean;
  readonly stack: boolean;
  readonly home: string;
};

/** Runs the demo; returns the exit code: 0 even if no model was good enough, 130 if it was interrupted. */
export async function demo(argv: readonly string[]): Promise<number> {
  const given = readFlags(argv);
  if (given === undefined) return 0;
  const terminal = createTerminal();
  const { stop, force } = stopOnSignals(terminal.say);
  const began = Date.now();
  const opened: { platform?: DemoPlatform } = {};
  try {
    const where = given.stack ? ' with the real servers of the stack' : '';
    terminal.say(`The case study on a separate platform${where} in ${given.home} (logs in ${given.home}/logs).`);
    const say = (line: string): void => terminal.say(`  ${line}`);
    const wish = { home: given.home, stack: given.stack, env: process.env, say, stop, force };
    const platform = await openPlatform(wish);
    opened.platform = platform;
    const played = await play(given, platform, terminal, stop);
    const seconds = (Date.now() - began) / 1000;
    const staysUp = given.keep || !platform.own;
    terminal.part('Summary');
    for (const line of summary(played, platform, { home: given.home, seconds, staysUp })) terminal.say(line);
    if (given.keep && platform.own) {
      terminal.say('Press Ctrl-C to stop it; all data is kept for the next run.');
      const { error } = await platform.ended;
      if (error !== undefined) throw error;
      return force.aborted ? 130 : 0;
    }
    return 0;
  } catch (error) {
    if (stop.aborted) return 130;
    const what = error instanceof FailedStep ? 'The demo failed: step ' : 'The demo failed: ';
    terminal.say(`\n${what}${error instanceof Error ? error.message : String(error)}`);
    terminal.say(
      `See the logs of the platform's processes in ${given.home}/logs. To start again from scratch, set --home to another folder.`,
    );
    return 1;
  } finally {
    await opened.platform?.stop();
    if (opened.platform?.own === true) terminal.say('The platform has stopped.');
  }
}

async function play(given: Given, platform: DemoPlatform, terminal: Terminal, stop: AbortSignal): Promise<Played> {
  // If the platform fails, the demo ends with the reason.
  const broken = new AbortController();
  void platform.ended.then(({ error }) => broken.abort(error ?? new Error('the platform has stopped')));
  const over = new AbortController();
  const signal = AbortSignal.any([stop, broken.signal, over.signal]);
  try {
    return await playRoles(given, platform, terminal, signal);
  } finally {
    // If one of two parallel tasks has failed, do not wait for the other.
    over.abort();
  }
}

async function playRoles(
  given: Given,
  platform: DemoPlatform,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Played> {
  const place = { api: platform.apiUrl, home: given.home, signal };

  terminal.part('A scientist trains');
  const team = await terminal.step('admin', 'gathers the team: sam, mia, dev, eve', () =>
    gatherTeam(place, platform.adminToken),
  );
  const run = { number: await nextRun(team.mia), shuffleLabels: given.shuffleLabels };
  const candidates = await playScientist(team.sam, terminal, run);

  terminal.part('The manager decides');
  const decided = await playManager(team.mia, terminal, candidates);
  if (decided.release === undefined) return { decided, labelled: undefined };

  terminal.part('The application receives the release');
  await awaitLive(team.dev, terminal, decided.release);
  const scan = `scan-${run.number}`;
  await scanSample({ api: platform.apiUrl, token: team.applicationToken, scan, signal }, terminal);

  terminal.part('The engineer labels the findings (here: by the results of a static analyser for these files)');
  return { decided, labelled: await playEngineer(team, terminal, { home: given.home, scan, signal }) };
}

function readFlags(argv: readonly string[]): Given | undefined {
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    args: [...argv],
    options: { keep: flag, 'shuffle-labels': flag, stack: flag, help: flag, home: { type: 'string' } },
  });
  if (values.help) {
    console.log(HELP);
    return undefined;
  }
  const home = resolve(values.home ?? (values.stack ? '.ocdl/demo-stack' : '.ocdl/demo'));
  return { keep: values.keep, shuffleLabels: values['shuffle-labels'], stack: values.stack, home };
}
