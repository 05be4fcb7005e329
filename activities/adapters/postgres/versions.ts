// The Model Center's rows: versions with their numbers and claimed digests, and evaluations.
import type { Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import type { Version } from '../../../workflows/domain/model.ts';
import type { Database, Work } from './connection.ts';
import { lock, transact } from './connection.ts';
import { listEvaluations, listVersions } from './lists.ts';

type VersionRecords = Pick<
  Records,
  'version' | 'versionByNumber' | 'versions' | 'claimDigest' | 'freeDigest' | 'evaluation' | 'evaluations'
>;

/** The version part of Records. Lists are newest first. */
export function versionRecords(db: Database): VersionRecords {
  return {
    async version(project, model, submission) {
      const found = await db
        .selectFrom('projection.versions')
        .select('row')
        .where('project', '=', project)
        .where('model', '=', model)
        .where('submission', '=', submission)
        .executeTakeFirst();
      return found?.row;
    },

    async versionByNumber(project, model, number) {
      const found = await db
        .selectFrom('projection.versions')
        .select('row')
        .where('project', '=', project)
        .where('model', '=', model)
        .where('number', '=', number)
        // 0 marks versions without a number.
        .where('number', '>', 0)
        .executeTakeFirst();
      return found?.row;
    },

    versions: (filter) => listVersions(db, filter),

    async claimDigest(project, model, submission, digest) {
      await transact(db, (trx) => claim(trx, { project, model, submission }, digest));
    },

    async freeDigest(project, model, submission) {
      await transact(db, async (trx) => {
        await lock(trx, `digest:${project}/${model}`);
        await trx
          .insertInto('authoritative.digest_claims')
          .values({ project, model, submission, digest: null, freed: true })
          .onConflict((conflict) => conflict.columns(['project', 'model', 'submission']).doUpdateSet({ freed: true }))
          .execute();
      });
    },

    async evaluation(project, evaluation) {
      const found = await db
        .selectFrom('projection.evaluations')
        .select('row')
        .where('project', '=', project)
        .where('evaluation', '=', evaluation)
        .executeTakeFirst();
      return found?.row;
    },

    evaluations: (filter) => listEvaluations(db, filter),
  };
}

type Key = Pick<Version, 'project' | 'model' | 'submission'>;

/** The number of a submission: the model's next one at the first call, then fixed. */
export async function numberOf(trx: Work, { project, model, submission }: Key): Promise<number> {
  await lock(trx, `version:${project}/${model}`);
  const ofModel = trx
    .selectFrom('authoritative.version_numbers')
    .where('project', '=', project)
    .where('model', '=', model);
  const given = await ofModel.select('version').where('submission', '=', submission).executeTakeFirst();
  if (given) return given.version;
  const { newest } = await ofModel.select((eb) => eb.fn.max('version').as('newest')).executeTakeFirstOrThrow();
  // `max` over no rows is null, although its type says otherwise.
  const version = Number(newest ?? 0) + 1;
  await trx.insertInto('authoritative.version_numbers').values({ project, model, submission, version }).execute();
  return version;
}

/** Claims a digest for an open submission. `Conflict` naming the other submission if another open one has the same bytes. */
export async function claim(trx: Work, { project, model, submission }: Key, digest: string): Promise<void> {
  await lock(trx, `digest:${project}/${model}`);
  const ofModel = trx
    .selectFrom('authoritative.digest_claims')
    .where('project', '=', project)
    .where('model', '=', model);
  const own = await ofModel.select(['digest', 'freed']).where('submission', '=', submission).executeTakeFirst();
  // A late claim after the end of the lifecycle must not block the bytes again.
  if (own?.freed) return;
  if (own && own.digest !== digest)
    throw failure(
      'Conflict',
      `submission ${submission} of ${project}/${model} already has the digest ${own.digest ?? 'none'}, not ${digest}: the bytes of a submission are fixed`,
    );
  if (own) return;
  const other = await ofModel
    .select('submission')
    .where('digest', '=', digest)
    .where('freed', '=', false)
    .executeTakeFirst();
  if (other)
    throw failure(
      'Conflict',
      `submission ${other.submission} of ${project}/${model} is open with the same bytes (model.onnx with SHA-256 ${digest}), and decisions name them: withdraw it, or have a manager reject it, roll it back or retire it, then submit again`,
      [other.submission],
    );
  await trx
    .insertInto('authoritative.digest_claims')
    .values({ project, model, submission, digest, freed: false })
    .execute();
}
