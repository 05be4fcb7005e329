// The same catalogue for both: versions of a hundred models with types, authors, states and tags, written straight into the tables.
import pg from 'pg';

/** What the n-th version is, as SQL over `g`; numbers without a common factor, so that every combination comes up. */
const model = `'model-' || g % 100`;
const facets = {
  type: `'type-' || g % 5`,
  author: `'user-' || g % 23`,
  state: `(array['new','approved','released','rejected','retired','invalid','withdrawn'])[1 + g % 7]`,
  grade: `case when g % 101 = 0 then 'gold' else 'plain' end`,
} as const;

/** Fills the platform's catalogue up to so many versions, each with files, a run and decisions as a version has them. */
export async function fillPlatform(url: string, project: string, count: number): Promise<void> {
  const file = (name: string) => ({ name, uri: `local:areas/staging/${name}`, sha256: 'a'.repeat(64), bytes: 100_000 });
  const decision = {
    commandId: 'c'.repeat(36),
    name: 'approve',
    actor: 'mia',
    reason: 'better',
    report: 'b'.repeat(64),
  };
  const whole = {
    ...{ project, revision: 9, revises: null, keyId: 'k'.repeat(64), detail: 'evaluated on the rows of this year' },
    files: ['model.onnx', 'model.json', 'golden.json'].map(file),
    run: {
      ...{ attempt: 1, environment: 'e'.repeat(64), metrics: { auc: 0.9, f1: 0.8 }, log: file('log') },
      ...{ spec: { entrypoint: 'train.py', lock: 'requirements.lock', data: ['rows'], parameters: {}, seed: 0 } },
      ...{ inputs: ['a', 'b', 'c', 'd'].map(file), outputs: ['model.onnx', 'model.json', 'golden.json'].map(file) },
    },
    decisions: Array.from({ length: 3 }, () => ({ ...decision, at: '2026-01-01T00:00:00.000Z' })),
  };
  await withClient(url, async (sql) => {
    await sql.query(
      `insert into projection.versions (project, model, submission, state, author, revision, updated_at, row)
       select $1, model, submission, state, author, 9, at, $2::jsonb || jsonb_build_object(
         'model', model, 'submission', submission, 'state', state, 'author', author, 'type', type, 'version', number,
         'digest', md5(g::text) || md5(g::text), 'updatedAt', at,
         'tags', case when grade = 'gold' then '["gold"]'::jsonb else '[]'::jsonb end)
       from (select g, ${model} as model, 's' || g as submission, ${facets.state} as state, ${facets.author} as author,
           ${facets.type} as type, ${facets.grade} as grade, 1 + g / 100 as number,
           timestamptz '2026-01-01' + g * interval '1 second' as at
         from generate_series(0, $3::int - 1) g) made
       on conflict do nothing`,
      [project, JSON.stringify(whole), count],
    );
    await settle(sql, 'projection.versions', 'projection.version_index', 'projection.version_tags');
  });
}

/** Fills MLflow's registry up to so many versions. What it has no column for is a tag, as its users do it. */
export async function fillMlflow(url: string, count: number): Promise<void> {
  await withClient(url, async (sql) => {
    await sql.query(
      `insert into registered_models (name, creation_time, last_updated_time)
       select distinct ${model}, 1, 1 from generate_series(0, 99) g on conflict do nothing`,
    );
    await sql.query(
      `insert into model_versions (name, version, creation_time, last_updated_time, description, user_id, current_stage,
         source, run_id, status)
       select ${model}, 1 + g / 100, 1767225600000 + g * 1000, 1767225600000 + g * 1000, 'run-' || g, ${facets.author}, 'None',
         'mlflow-artifacts:/1/models/m-' || md5(g::text) || '/artifacts', md5(g::text), 'READY'
       from generate_series(0, $1::int - 1) g on conflict do nothing`,
      [count],
    );
    for (const [key, value] of Object.entries(facets))
      await sql.query(
        `insert into model_version_tags (name, version, key, value)
         select ${model}, 1 + g / 100, $2, ${value} from generate_series(0, $1::int - 1) g on conflict do nothing`,
        [count, key],
      );
    await settle(sql, 'model_versions', 'model_version_tags');
  });
}

/** What so many rows at once leave to do is done before anything is timed. */
async function settle(sql: pg.Client, ...tables: readonly string[]): Promise<void> {
  for (const table of tables) await sql.query(`vacuum analyze ${table}`);
  await sql.query('checkpoint');
}

/** Makes an empty database beside the first one. */
export async function addDatabase(url: string, name: string): Promise<string> {
  await withClient(url, (sql) => sql.query(`create database ${name}`));
  const made = new URL(url);
  made.pathname = `/${name}`;
  return made.href;
}

async function withClient<T>(connectionString: string, work: (sql: pg.Client) => Promise<T>): Promise<T> {
  const sql = new pg.Client({ connectionString });
  await sql.connect();
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}
