// Follows all objects of one kind: a list, then changes as the cluster reports them, resumed after every interruption.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { messageOf } from '../../failures.ts';
import { Refused, type KubernetesClient, type Query } from './client.ts';

export interface Follower {
  /** All objects that exist now; any other object no longer exists. */
  readonly reset: (objects: readonly unknown[]) => void;
  readonly changed: (object: unknown) => void;
  readonly deleted: (object: unknown) => void;
  /** Called when changes stop arriving; they are resumed. */
  readonly interrupted: (reason: string) => void;
}

/** The cluster ends a watch after this time, so that a lost connection is noticed. */
const WATCH_SECONDS = 240;
/** The cluster sends a bookmark about once a minute. */
const SILENCE_MS = 150_000;
const PAGE = 500;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

/** Follows until the signal aborts. After `silenceMs` without a byte, the connection counts as lost. */
export async function followObjects(
  client: Pick<KubernetesClient, 'ask' | 'stream'>,
  path: string,
  labelSelector: string,
  follower: Follower,
  signal: AbortSignal,
  silenceMs = SILENCE_MS,
): Promise<void> {
  const state: { version: string | undefined; pauseMs: number } = { version: undefined, pauseMs: FIRST_PAUSE_MS };
  while (!signal.aborted)
    try {
      if (state.version === undefined) {
        const { items, version } = await listObjects(client, path, { labelSelector });
        follower.reset(items);
        state.version = version;
      }
      const query = { labelSelector, watch: true, allowWatchBookmarks: true, timeoutSeconds: WATCH_SECONDS };
      const stream = await client.stream(path, { ...query, resourceVersion: state.version }, { signal, silenceMs });
      for await (const line of linesOf(stream)) {
        state.version = handle(eventSchema.parse(JSON.parse(line)), follower) ?? state.version;
        state.pauseMs = FIRST_PAUSE_MS;
      }
    } catch (error) {
      if (signal.aborted) return;
      // The version is too old, or the cluster's database is another one: only a new list is complete.
      if (error instanceof Refused) state.version = undefined;
      if (!(error instanceof Refused && error.status === 410)) follower.interrupted(messageOf(error));
      await sleep(state.pauseMs, undefined, { signal }).catch(() => undefined);
      state.pauseMs = Math.min(2 * state.pauseMs, LONGEST_PAUSE_MS);
    }
}

const listSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().default(''), continue: z.string().default('') }),
  items: z.array(z.unknown()),
});

/** All objects of a list, page by page, and its version. */
export async function listObjects(
  client: Pick<KubernetesClient, 'ask'>,
  path: string,
  query: Query,
): Promise<{ readonly items: readonly unknown[]; readonly version: string }> {
  const items: unknown[] = [];
  let next = '';
  for (;;) {
    const page = listSchema.parse(
      await client.ask('GET', path, { query: { ...query, limit: PAGE, continue: next || undefined } }),
    );
    items.push(...page.items);
    next = page.metadata.continue;
    if (next === '') return { items, version: page.metadata.resourceVersion };
  }
}

const eventSchema = z.object({ type: z.string(), object: z.unknown() });
const bookmarkSchema = z.object({ metadata: z.object({ resourceVersion: z.string() }) });
const errorSchema = z.object({ code: z.number().default(0), reason: z.string().default(''), message: z.string() });

/** Returns the version after the event. Throws `Refused` for an error, such as a version that is too old. */
function handle({ type, object }: z.infer<typeof eventSchema>, follower: Follower): string | undefined {
  if (type === 'ERROR') {
    const { code, reason, message } = errorSchema.parse(object);
    throw new Refused(code, reason, message);
  }
  if (type === 'ADDED' || type === 'MODIFIED') follower.changed(object);
  if (type === 'DELETED') follower.deleted(object);
  return bookmarkSchema.safeParse(object).data?.metadata.resourceVersion;
}

async function* linesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  for await (const chunk of stream) {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, end)]).toString('utf8');
      rest = [];
      from = end + 1;
    }
    if (from < chunk.length) rest.push(chunk.subarray(from));
  }
}
