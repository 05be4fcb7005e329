// A contract as a list of cases: jest runs each over an adapter, and faulty.test.ts proves that each can fail.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isFailure } from '../../activities/failures.ts';
import type { FailureType } from '../../workflows/domain/failures.ts';

export interface Case<Subject> {
  readonly name: string;
  run(subject: Subject): Promise<void>;
}

/** A real system on a loaded machine may need this long for one step (a consumer group forms in about 3 s). Lower where a case expects a timeout. */
export const patience = { ms: 90_000 };
/** Some cases wait several times. */
export const CASE_TIMEOUT_MS = 300_000;

/** Registers the cases as jest tests over one opened subject. */
export function registerCases<Subject extends { readonly close: () => Promise<void> }>(
  name: string,
  cases: readonly Case<Subject>[],
  open: () => Promise<Subject>,
): void {
  describe(name, () => {
    let subject: Subject | undefined;
    beforeAll(async () => {
      subject = await open();
    }, CASE_TIMEOUT_MS);
    afterAll(async () => subject?.close(), CASE_TIMEOUT_MS);
    for (const each of cases)
      it(
        each.name,
        async () => {
          assert.ok(subject, `${name} could not be opened`);
          await each.run(subject);
        },
        CASE_TIMEOUT_MS,
      );
  });
}

/** A unique name, also across earlier runs on a system that keeps its data. */
export function freshName(prefix: string): string {
  return `${prefix}-${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
}

/** Waits until a condition holds; otherwise fails and says what was missing. */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (const until = Date.now() + patience.ms; !holds(); await sleep(10))
    assert.ok(Date.now() < until, `after ${patience.ms} ms still not: ${what}`);
}

/** Fails unless the work ends with a failure of this type; `when` says what was tried. */
export async function rejectsAs(type: FailureType, when: string, work: Promise<unknown>): Promise<void> {
  const error = await work.then(
    () => assert.fail(`${when}: should have failed with ${type}, but succeeded`),
    (reason: unknown) => reason,
  );
  if (!isFailure(error, type)) assert.fail(`${when}: should have failed with ${type}, but with ${String(error)}`);
}

/** Fails unless the work rejects. */
export async function rejects(when: string, work: Promise<unknown>): Promise<void> {
  let ended = false;
  await work.then(
    () => (ended = true),
    () => undefined,
  );
  assert.ok(!ended, `${when}: should have failed, but succeeded`);
}

/** All bytes of a stream. */
export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A faulty adapter, and the case that must fail over it. */
export interface Fault<Subject> {
  readonly name: string;
  readonly caughtBy: string;
  /** The expected failure, if it is neither an assertion of the case nor a planted error. */
  readonly failsWith?: RegExp;
  wrap(good: Subject): Subject;
}
