// Compute profiles, and which of them each project is offered.
import { sql } from 'kysely';
import type { Records } from '../../records.ts';
import { failure } from '../../failures.ts';
import { builtInProfiles, isBuiltIn, PROFILES_LIMIT } from '../../../workflows/domain/compute.ts';
import { writeOnce } from './audit.ts';
import { json, lock, type Database, type Work } from './connection.ts';

type ComputeRecords = Pick<
  Records,
  'computeProfiles' | 'putComputeProfile' | 'deleteComputeProfile' | 'offeredProfiles' | 'offerProfiles'
>;

/** Held by every change: a profile is not removed while it is being offered. Changes are rare. */
const CHANGES = 'compute profiles';

/** The compute part of Records. */
export function computeRecords(db: Database): ComputeRecords {
  return {
    computeProfiles: () => selectProfiles(db),

    async putComputeProfile(profile, audit) {
      mustNotBeBuiltIn(profile.name);
      await writeOnce(db, audit, async (trx) => {
        await lock(trx, CHANGES);
        await trx
          .insertInto('authoritative.compute_profiles')
          .values({ name: profile.name, profile: json(profile) })
          .onConflict((conflict) => conflict.column('name').doUpdateSet({ profile: json(profile) }))
          .execute();
        if ((await selectProfiles(trx)).length > PROFILES_LIMIT)
          throw failure(
            'Conflict',
            `there are ${PROFILES_LIMIT} compute profiles, the most possible: delete one first`,
          );
      });
    },

    async deleteComputeProfile(name, audit) {
      mustNotBeBuiltIn(name);
      await writeOnce(db, audit, async (trx) => {
        await lock(trx, CHANGES);
        const users = await trx
          .selectFrom('authoritative.compute_offers')
          .select('project')
          .where(sql<boolean>`names ? ${name}::text`)
          .orderBy('project')
          .limit(SHOWN + 1)
          .execute();
        if (users.length > 0) {
          const some = users.slice(0, SHOWN).map(({ project }) => project);
          const more = users.length > SHOWN ? ' and others' : '';
          throw failure(
            'Conflict',
            `the compute profile "${name}" is offered to ${some.join(', ')}${more}: end that first`,
          );
        }
        const deleted = await trx
          .deleteFrom('authoritative.compute_profiles')
          .where('name', '=', name)
          .executeTakeFirst();
        if (deleted.numDeletedRows === 0n) throw failure('NotFound', `there is no compute profile "${name}"`);
      });
    },

    async offeredProfiles(project) {
      const [offer, made] = await Promise.all([
        db.selectFrom('authoritative.compute_offers').select('names').where('project', '=', project).executeTakeFirst(),
        selectProfiles(db),
      ]);
      if (!offer) return builtInProfiles;
      const all = [...builtInProfiles, ...made];
      return offer.names.flatMap((name) => all.find((profile) => profile.name === name) ?? []);
    },

    async offerProfiles(project, names, audit) {
      await writeOnce(db, audit, async (trx) => {
        await lock(trx, CHANGES);
        const known = [...builtInProfiles, ...(await selectProfiles(trx))].map((profile) => profile.name);
        const unknown = names.find((name) => !known.includes(name));
        if (unknown !== undefined)
          throw failure('NotFound', `there is no compute profile "${unknown}": there are ${known.join(', ')}`);
        const found = await trx
          .selectFrom('authoritative.projects')
          .select('project')
          .where('project', '=', project)
          .executeTakeFirst();
        if (!found) throw failure('NotFound', `there is no project ${project}`);
        await trx
          .insertInto('authoritative.compute_offers')
          .values({ project, names: json(names) })
          .onConflict((conflict) => conflict.column('project').doUpdateSet({ names: json(names) }))
          .execute();
      });
    },
  };
}

/** Projects that a refusal names. */
const SHOWN = 5;

async function selectProfiles(db: Database | Work) {
  const rows = await db.selectFrom('authoritative.compute_profiles').select('profile').orderBy('name').execute();
  return rows.map(({ profile }) => profile);
}

function mustNotBeBuiltIn(name: string): void {
  if (isBuiltIn(name))
    throw failure(
      'Conflict',
      `the compute profile "${name}" is built in and cannot be changed: make one of another name`,
    );
}
