// The rights in HDFS follow the members: by the very grid the API asks, for those who come and go, and after a failure.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { areasOf, keepAdmitted, type Admit } from '../../workers/admission.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { eventually } from '../local/homes.ts';
import { freshDatabase } from '../servers.ts';
import { auditEntry } from '../workflows/passage.ts';

let records: Records;
beforeAll(async () => {
  records = await createPostgresRecords({ url: await freshDatabase() });
}, 600_000);
afterAll(() => records.close());

/** What was admitted last, by folder; the first calls fail as often as said. */
function recorder(failures = 0) {
  const left = { failures };
  const admitted: Record<string, Parameters<Admit>[1]> = {};
  const warnings: string[] = [];
  const admit: Admit = async (folder, access) => {
    if (left.failures-- > 0) throw new Error('no NameNode answers');
    admitted[folder] = access;
  };
  return { admit, admitted, warnings, onWarn: (message: string) => void warnings.push(message) };
}

const member = (project: string, user: string, ...roles: ('scientist' | 'manager' | 'engineer')[]) =>
  [project, { user, roles }, auditEntry('project.member')] as const;

test('each role has in HDFS what it has in the platform, and no more', () => {
  const members = [
    { user: 'sam', roles: ['scientist'] },
    { user: 'mia', roles: ['manager'] },
    { user: 'eve', roles: ['engineer'] },
  ] as const;
  expect(Object.fromEntries(areasOf('p', members))).toEqual({
    'common/p': { readers: ['sam', 'mia', 'eve'], writers: ['sam', 'mia'] },
    'staging/p': { readers: ['mia'], writers: [] },
    'private/p/sam': { owner: 'sam', readers: [], writers: [] },
    'private/p/mia': { owner: 'mia', readers: [], writers: [] },
  });
});

test('who comes is let in, who goes is kept out, and what changed while nobody was there is made up for', async () => {
  for (const user of ['sam', 'mia']) await records.createUser(user, false, auditEntry('user.created'));
  const first = recorder();
  const following = keepAdmitted({ records, ...first });
  await following.records.createProject(
    { project: 'p', types: ['kind'], policy: defaultPolicy },
    auditEntry('project.created'),
  );
  await following.records.setMember(...member('p', 'sam', 'scientist'));
  await eventually('sam owns his area', () => first.admitted['private/p/sam']?.owner === 'sam', 60_000);
  await following.records.setMember(...member('p', 'sam'));
  await eventually('sam does not', () => first.admitted['private/p/sam']?.owner === undefined, 60_000);
  expect(first.admitted['common/p']).toEqual({ readers: [], writers: [] });
  await following.stop();

  await records.setMember(...member('p', 'mia', 'manager'));
  const second = recorder();
  const later = keepAdmitted({ records, ...second });
  await eventually('mia reads what is staged', () => second.admitted['staging/p']?.readers[0] === 'mia', 60_000);
  await later.stop();
  expect([first.warnings, second.warnings]).toEqual([[], []]);
});

test('while HDFS is away a member is set all the same, and it is said that the rights wait', async () => {
  const away = recorder(Number.MAX_SAFE_INTEGER);
  const following = keepAdmitted({ records, ...away });
  await following.records.setMember(...member('p', 'mia', 'scientist'));
  expect(await records.members('p')).toEqual([{ user: 'mia', roles: ['scientist'] }]);
  await eventually(
    'a warning',
    () => away.warnings.some((line) => /members of p yet: .*no NameNode answers/.test(line)),
    60_000,
  );
  await following.stop();
});
