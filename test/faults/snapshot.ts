// The results of a passage as text: two passages ended alike if and only if their snapshots are the same.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { pino } from 'pino';
import { deadLetterTopic } from '../../activities/ports.ts';
import { openBus } from '../../workers/wiring.ts';
import type { ArtifactStore, CloudEvent } from '../../activities/ports.ts';
import type { StorePath } from '../../workflows/domain/names.ts';
import type { Scene } from './scene.ts';

/** Lines by section, sorted within each. */
export type Snapshot = Readonly<Record<string, readonly string[]>>;

/**
 * Only the irrelevant differences between two passages:
 * times; how long a gate took; random token ids and digests, ids of Temporal's runs; the counters and hashes that depend on
 * the order in which independent workflows wrote (the chain itself is verified); signatures over times, each of which is
 * verified.
 */
const masked: Readonly<Record<string, readonly string[]>> = {
  'authoritative.tokens': ['token_id', 'sha256'],
  'authoritative.audit': ['arrival', 'seq', 'previous', 'hash'],
  'authoritative.audit_head': ['hash'],
  'authoritative.starts': ['ordinal', 'run_id'],
  'authoritative.commands': ['ordinal'],
  'authoritative.decisions': ['ordinal'],
  'authoritative.gate_results': ['ordinal', 'run'],
  'projection.versions': ['ordinal'],
  'projection.evaluations': ['ordinal'],
  'projection.deliveries': ['ordinal'],
  'projection.scans': ['ordinal'],
};
/** A broker that was restarted answers again within seconds, on a busy machine within a minute. */
const END_WITHIN_MS = 120_000;
const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g;

const plain = (value: unknown): string =>
  JSON.stringify(value, sortedKeys)
    .replace(TIME, '<time>')
    .replace(/"seconds":[\d.e-]+/g, '"seconds":"<seconds>"')
    .replace(/"token\/[0-9a-f]{16}/g, '"token/<token>');

/** Takes the snapshot of a scene that is at rest. */
export async function snapshot(scene: Scene): Promise<Snapshot> {
  while ((await scene.records.linkAudit()) > 0);
  const { rows, broken } = await scene.records.verifyAudit();
  const [announced, dead] = await Promise.all([events(scene, 'kind'), events(scene, deadLetterTopic('kind'))]);
  return {
    ...(await tables(scene.databaseUrl)),
    'audit chain': [`${rows} rows, broken at ${broken}`],
    events: announced,
    'dead letters': dead,
    branches: await branches(scene),
    areas: await files(scene, scene.areas, ['private/p', 'common/p', 'staging/p']),
    releases: await files(scene, scene.releases, ['releases']),
  };
}

/** The differences of two snapshots, one per line. */
export function differences(expected: Snapshot, found: Snapshot): string[] {
  const sections = [...new Set([...Object.keys(expected), ...Object.keys(found)])].sort();
  return sections.flatMap((section) => {
    const rest = [...(found[section] ?? [])];
    const missing = (expected[section] ?? []).filter((line) => {
      const at = rest.indexOf(line);
      if (at >= 0) rest.splice(at, 1);
      return at < 0;
    });
    return [
      ...missing.map((line) => `${section}: missing ${line}`),
      ...rest.map((line) => `${section}: extra ${line}`),
    ];
  });
}

async function tables(databaseUrl: string): Promise<Record<string, string[]>> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const found = await client.query<{ name: string }>(
      `select table_schema || '.' || table_name as name from information_schema.tables
       where table_schema in ('authoritative', 'projection') order by 1`,
    );
    const all: Record<string, string[]> = {};
    for (const { name } of found.rows) {
      const { rows } = await client.query<Record<string, unknown>>(`select * from ${name}`);
      all[name] = rows.map((row) => line(name, row)).sort();
    }
    return all;
  } finally {
    await client.end();
  }
}

function line(table: string, row: Record<string, unknown>): string {
  const shown = Object.entries(row).map(([column, value]) => {
    if (masked[table]?.includes(column)) return [column, `<${column}>`];
    // The audit keeps its entries as text.
    return [column, table === 'authoritative.audit' && column === 'entry' ? JSON.parse(String(value)) : value] as const;
  });
  return plain(Object.fromEntries(shown));
}

/** The distinct events of a topic, as a new consumer group finds them: duplicates count once. */
async function events({ config }: Scene, topic: string): Promise<string[]> {
  const bus = await openBus(config, pino({ level: 'silent' }));
  const found: string[] = [];
  try {
    // Events of a key come in order: all has been read when this one comes, which is of the model's key.
    const last: CloudEvent = {
      ...{ specversion: '1.0', id: randomUUID(), source: 'test', type: 'test.end', data: null },
      ...{ time: new Date().toISOString(), datacontenttype: 'application/json' },
    };
    await bus.publish(topic, 'm', last);
    await new Promise<void>((resolve, reject) => {
      const tooLate = setTimeout(
        () => reject(new Error(`${topic} was not read to its end; what was found: ${found.join('\n')}`)),
        END_WITHIN_MS,
      );
      const handle = async ({ value }: { value: unknown }): Promise<void> => {
        if (!isDeepStrictEqual(value, last)) return void found.push(plain(value));
        clearTimeout(tooLate);
        resolve();
      };
      bus.subscribe({ topic, group: `snapshot-${randomUUID()}`, handle }).catch(reject);
    });
  } finally {
    await bus.close();
  }
  return [...new Set(found)].sort();
}

/** Every branch of the application's repository: its commits, oldest first, and what they made it hold. */
async function branches({ code }: Scene): Promise<string[]> {
  const repository = 'p/app-scanner';
  const lines: string[] = [];
  for (const branch of await code.branches(repository)) {
    const commits = await code.log(repository, branch, 100);
    const lock = await code.read(repository, branch, 'model.lock');
    const messages = commits.map(({ author, message }) => `${author}: ${message}`).reverse();
    lines.push(plain({ branch, messages, lock: Buffer.from(lock ?? []).toString('utf8') }));
  }
  return lines.sort();
}

/** What a store lists, with the digest of each file; of the JSON that the platform writes itself the content, times masked. */
async function files(scene: Scene, store: ArtifactStore, folders: readonly string[]): Promise<string[]> {
  const lines: string[] = [];
  for (const folder of folders)
    for (let after: StorePath | undefined; ;) {
      const page = await store.list(folder as StorePath, after === undefined ? {} : { after });
      for (const { path, uri } of page.files) {
        const isRecord = /\/record\/[^/]+\.json$/.test(path);
        lines.push(`${path} ${isRecord ? plain(unsealed(scene, await json(store, path))) : await store.digest(uri)}`);
      }
      if (!page.next) break;
      after = page.next;
    }
  return lines.sort();
}

/** The content of a sealed record; the seal, which covers times, is only said to be right or not. */
function unsealed({ signer }: Scene, { seal, ...content }: Record<string, unknown>): object {
  return { ...content, seal: isDeepStrictEqual(signer.seal(content).seal, seal) ? 'valid' : 'forged' };
}

async function json(store: ArtifactStore, path: StorePath): Promise<Record<string, unknown>> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of await store.read(store.uri(path))) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>;
}

function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
