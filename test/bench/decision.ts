// How long a decision takes through the API, beside a bare signal and query on the same server: `npm run bench`.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { z } from 'zod';
import { createSigner } from '../../activities/signing.ts';
import { openRecords } from '../../workers/wiring.ts';
import type { CommandBody } from '../../workflows/domain/command.ts';
import { command, status, wake, workflowId } from '../../workflows/messages.ts';
import { machine } from './database.ts';
import { openStage, type Stage, type Subject } from './stage.ts';
import { figuresOf, headOf, lineOf } from './statistics.ts';

const options = z
  .object({
    /** Decisions that are measured. */
    BENCH_N: z.coerce.number().int().min(20).default(500),
    /** Decisions before, that are not: connections open, code gets compiled. */
    BENCH_WARM_UP: z.coerce.number().int().min(0).default(40),
    /** Versions the decisions are spread over, so that none gets a longer record than it would have in life. */
    BENCH_VERSIONS: z.coerce.number().int().min(1).default(10),
  })
  .parse(process.env);
const GOAL = 1.5;
/** What a measurement stirred up comes to rest. */
const SETTLE_MS = 20;

type Arm = 'decision' | 'same command, no API' | 'bare signal and query';
const arms: readonly Arm[] = ['decision', 'same command, no API', 'bare signal and query'];

const say = (line: string): void => console.log(line);
/** Looks at nothing but that there is an outcome. */
const answerSchema = z.object({ outcome: z.object({ status: z.enum(['accepted', 'done']) }).nullable() });
const stage = await openStage(say);
const connection = await Connection.connect({ address: stage.platform.temporalAddress });
const { workflow } = new Client({ connection, namespace: stage.namespace });
const records = await openRecords({ databaseUrl: stage.platform.databaseUrl }, pino({ level: 'silent' }));
try {
  await measureAll(stage);
} finally {
  await records.close();
  await connection.close();
  await stage.close();
}

async function measureAll(stage: Stage): Promise<void> {
  say(`submitting and evaluating ${options.BENCH_VERSIONS} versions …`);
  const subjects: Subject[] = [];
  for (let i = 1; i <= options.BENCH_VERSIONS; i += 1) subjects.push(await stage.submit(`v-${i}`, { evaluated: true }));
  const bystander = await stage.submit('bystander', { evaluated: false });
  const signer = await createSigner(join(stage.home, 'keys'));

  const taken: Record<Arm, number[]> = { decision: [], 'same command, no API': [], 'bare signal and query': [] };
  const failures: string[] = [];
  say(`measuring ${options.BENCH_N} of each, after ${options.BENCH_WARM_UP} that do not count …`);
  for (let round = 0; round < options.BENCH_WARM_UP + options.BENCH_N; round += 1) {
    const subject = subjects[round % subjects.length];
    if (!subject) throw new Error('there is no version to decide about');
    // Each goes first as often as last: what drifts, drifts for all.
    for (const arm of round % 2 === 0 ? arms : [...arms].reverse()) {
      const measured = await once(arm, subject).catch((error: unknown) => String(error));
      if (typeof measured === 'string') failures.push(`${arm}: ${measured}`);
      else if (round >= options.BENCH_WARM_UP) taken[arm].push(measured);
      await sleep(SETTLE_MS);
    }
  }
  report(taken, failures);

  /** Milliseconds of one exchange; it is over, with all that follows from it, when this returns. */
  async function once(arm: Arm, subject: Subject): Promise<number> {
    if (arm === 'bare signal and query') {
      const handle = handleOf(bystander);
      // Asked once before, as a version is before its decision: both start from the same.
      await handle.query(status);
      const begun = performance.now();
      await handle.signal(wake);
      await handle.query(status);
      return performance.now() - begun;
    }
    const { version } = await rest(subject);
    const given = {
      commandId: randomUUID(),
      name: version.state === 'new' ? 'approve' : 'undo',
      revision: version.revision,
      digest: subject.digest,
      report: version.state === 'new' ? subject.report : null,
    };
    const begun = performance.now();
    const answer = arm === 'decision' ? await viaApi(subject, given) : await viaTemporal(subject, given);
    const ms = performance.now() - begun;
    if (!answer) throw new Error(`${given.name}: no outcome in the answer`);
    const after = await rest(subject, given.commandId);
    if (after.version.revision !== version.revision + 1) throw new Error(`${given.name} came to nothing`);
    return ms;
  }

  /** Waits until the command is decided, nothing is being carried out on the version, and its record lies beside it. */
  function rest({ submission }: Subject, commandId?: string) {
    const key = { project: 'bench', model: 'echo', submission };
    return stage.until(`${submission} at rest`, async () => {
      const row =
        commandId === undefined ? undefined : await records.command(workflowId.modelLifecycle(key), commandId);
      if (row?.isOpen) return undefined;
      const found = await records.versionStanding(key);
      return found.pending || (await records.unfiled(key)).length > 0 ? undefined : found;
    });
  }

  async function viaApi({ submission }: Subject, given: object): Promise<unknown> {
    const path = `/v1/projects/bench/models/echo/submissions/${submission}/commands`;
    return answerSchema.parse(await stage.ask('POST', path, given)).outcome;
  }

  /** What the API does for a decision: signed, recorded, signalled; but without HTTP, token, project, members and version. */
  async function viaTemporal(
    { submission }: Subject,
    given: Pick<CommandBody, 'commandId' | 'name' | 'revision' | 'digest' | 'report'>,
  ): Promise<unknown> {
    const handle = handleOf({ submission });
    const body: CommandBody = {
      v: 1,
      keyId: signer.newest,
      workflowId: handle.workflowId,
      args: {},
      actor: 'mia',
      roles: ['manager'],
      policyVersion: 1,
      issuedAt: new Date().toISOString(),
      ...given,
    };
    const signed = signer.sign(body);
    const { outcome } = await records.recordCommand(signed, { project: 'bench', subject: `bench/echo/${submission}` });
    await handle.signal(command, signed);
    return outcome;
  }

  function handleOf({ submission }: Pick<Subject, 'submission'>) {
    return workflow.getHandle(workflowId.modelLifecycle({ project: 'bench', model: 'echo', submission }));
  }
}

function report(taken: Readonly<Record<Arm, readonly number[]>>, failures: readonly string[]): void {
  say(`${failures.length} failures`);
  for (const failure of failures.slice(0, 10)) say(`  ${failure}`);
  // Figures of what mostly failed would say nothing.
  for (const arm of arms)
    if (taken[arm].length < options.BENCH_N * 0.99) throw new Error(`${arm}: only ${taken[arm].length} came to an end`);
  const bare = figuresOf(taken['bare signal and query']);
  say(`\n${machine()}`);
  say(headOf());
  for (const arm of arms) say(lineOf(arm, figuresOf(taken[arm]), bare));
  const { p50, p95 } = figuresOf(taken.decision);
  const met = p50 / bare.p50 <= GOAL && p95 / bare.p95 <= GOAL;
  say(`goal: a decision within ${GOAL} × a bare signal and query, at p50 and p95: ${met ? 'met' : 'missed'}`);
}
