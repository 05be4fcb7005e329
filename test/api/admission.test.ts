// The permissions in HDFS follow the members: by the same grid as in the API, when members change, and after failures.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { rightsOf } from '../../activities/adapters/hdfs/access.ts';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import type { Records } from '../../activities/records.ts';
import { areasOf, keepAdmitted, type Admission } from '../../workers/admission.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { eventually } from '../local/homes.ts';
import { freshDatabase } from '../servers.ts';
import { auditEntry } from '../workflows/passage.ts';

let records: Records;
beforeAll(async () => {
  records = await createPostgresRecords({ url: await freshDatabase() });
}, 600_000);
afterAll(() => records.close());

type Rights = Record<string, Parameters<Admission['admit']>[1]>;

/** A stand-in for HDFS: the rights given last, by folder; the first calls for a folder that matches fail as often as said. */
function recorder({ failures = 0, of = /./, rights = {} }: { failures?: number; of?: RegExp; rights?: Rights } = {}) {
  const left = { failures };
  const warnings: string[] = [];
  const store: Admission = {
    admit: async (folder, access) => {
      if (of.test(folder) && left.failures-- > 0) throw new Error('no NameNode answers');
      rightsOf(access);
      rights[folder] = access;
    },
    people: async (project) => Object.keys(rights).flatMap((folder) => folder.split(`private/${project}/`)[1] ?? []),
  };
  return { store, rights, warnings, onWarn: (message: string) => void warnings.push(message), againAfterMs: 20 };
}

const member = (project: string, user: string, ...roles: ('scientist' | 'manager' | 'engineer')[]) =>
  [project, { user, roles }, auditEntry('project.member')] as const;

test('each role has the same rights in HDFS as in the platform', () => {
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

test('new members get access, former members lose it, and changes made while the platform was down are applied', async () => {
  for (const user of ['sam', 'mia']) await records.createUser(user, false, auditEntry('user.created'));
  const first = recorder();
  const following = keepAdmitted({ records, ...first });
  await following.records.createProject(
    { project: 'p', types: ['kind'], policy: defaultPolicy },
    auditEntry('project.created'),
  );
  await following.records.setMember(...member('p', 'sam', 'scientist'));
  await eventually('sam owns his area', () => first.rights['private/p/sam']?.owner === 'sam', 60_000);
  await following.records.setMember(...member('p', 'sam'));
  await eventually('sam does not', () => first.rights['private/p/sam']?.owner === undefined, 60_000);
  expect(first.rights['common/p']).toEqual({ readers: [], writers: [] });
  await following.stop();

  await records.setMember(...member('p', 'mia', 'manager'));
  const second = recorder();
  const later = keepAdmitted({ records, ...second });
  await eventually('mia reads what is staged', () => second.rights['staging/p']?.readers[0] === 'mia', 60_000);
  await later.stop();
  expect([first.warnings, second.warnings]).toEqual([[], []]);
});

test('a disabled user loses access, and gets it back when enabled', async () => {
  const { rights, ...recorded } = recorder();
  const following = keepAdmitted({ records, ...recorded });
  await following.records.setMember(...member('p', 'mia', 'manager'));
  await eventually('mia owns her area', () => rights['private/p/mia']?.owner === 'mia', 60_000);
  await following.records.changeUser('mia', { disabled: true }, auditEntry('user.changed'));
  await eventually('mia does not', () => rights['private/p/mia']?.owner === undefined, 60_000);
  await eventually('nor reads what is staged', () => rights['staging/p']?.readers.length === 0, 60_000);
  await following.records.changeUser('mia', { disabled: false }, auditEntry('user.changed'));
  await eventually('she does again', () => rights['private/p/mia']?.owner === 'mia', 60_000);
  await following.stop();
});

test('a member who left while HDFS was down loses access at the next start, even if no record mentions them', async () => {
  const rights: Rights = {};
  const before = keepAdmitted({ records, ...recorder({ rights }) });
  await before.records.setMember(...member('p', 'sam', 'scientist'));
  await eventually('sam owns his area', () => rights['private/p/sam']?.owner === 'sam', 60_000);
  await before.stop();

  const failing = keepAdmitted({ records, ...recorder({ rights, failures: Number.MAX_SAFE_INTEGER }) });
  await failing.records.setMember(...member('p', 'sam'));
  await failing.stop();
  expect(rights['private/p/sam']?.owner).toBe('sam');

  const after = keepAdmitted({ records, ...recorder({ rights }) });
  await eventually('sam does not', () => rights['private/p/sam']?.owner === undefined, 60_000);
  await after.stop();
});

test('an area that fails does not prevent the permissions of others', async () => {
  const failing = recorder({ failures: Number.MAX_SAFE_INTEGER, of: /^common/ });
  const following = keepAdmitted({ records, ...failing });
  await following.records.setMember(...member('p', 'mia', 'manager'));
  await eventually('mia reads what is staged', () => failing.rights['staging/p']?.readers[0] === 'mia', 60_000);
  expect(failing.rights).toMatchObject({ 'private/p/mia': { owner: 'mia' } });
  expect(failing.rights['common/p']).toBeUndefined();
  await following.stop();
});

test('an area with more people than HDFS supports opens to none of them, and a former member still loses the other areas', async () => {
  await records.createProject(
    { project: 'crowd', types: ['crowded'], policy: defaultPolicy },
    auditEntry('project.created'),
  );
  const people = Array.from({ length: 30 }, (_, i) => `person-${i}`);
  for (const user of people) await records.createUser(user, false, auditEntry('user.created'));
  for (const user of people.slice(0, 29)) await records.setMember(...member('crowd', user, 'scientist'));
  await records.setMember(...member('crowd', 'person-29', 'manager'));
  const rights: Rights = {
    'common/crowd': { readers: [], writers: people.slice(0, 28) },
    'staging/crowd': { readers: ['person-29', 'person-0'], writers: [] },
    'private/crowd/person-0': { owner: 'person-0', readers: [], writers: [] },
  };
  await records.setMember(...member('crowd', 'person-0'));
  const crowded = recorder({ rights });
  const following = keepAdmitted({ records, ...crowded });
  await eventually('it is said', () => crowded.warnings.length > 0, 60_000);
  await eventually('what is staged is closed', () => rights['staging/crowd']?.readers.length === 1, 60_000);
  expect(rights).toMatchObject({
    'common/crowd': { readers: [], writers: [] },
    'staging/crowd': { readers: ['person-29'], writers: [] },
    'private/crowd/person-0': { readers: [], writers: [] },
    'private/crowd/person-1': { owner: 'person-1' },
  });
  expect(rights['private/crowd/person-0']?.owner).toBeUndefined();
  expect(crowded.warnings).toEqual([expect.stringMatching(/only the platform can access common\/crowd: .*29 people/)]);
  await following.stop();
});

test('projects that cannot be listed at the start are listed later', async () => {
  const left = { failures: 2 };
  const recorded = recorder();
  const following = keepAdmitted({
    ...recorded,
    records: {
      ...records,
      projects: async (user) => {
        if (left.failures-- > 0) throw new Error('the database is down');
        return records.projects(user);
      },
    },
  });
  await eventually('the rights of p', () => recorded.rights['common/p'] !== undefined, 60_000);
  await following.stop();
  expect(recorded.warnings.filter((line) => line.includes('could not be updated'))).toHaveLength(2);
});

test('while HDFS is unavailable a member is set anyway, with a warning about the permissions', async () => {
  const failing = recorder({ failures: Number.MAX_SAFE_INTEGER });
  const following = keepAdmitted({ records, ...failing });
  await following.records.setMember(...member('p', 'mia', 'scientist'));
  expect(await records.members('p')).toEqual([{ user: 'mia', roles: ['scientist'], disabled: false }]);
  await eventually(
    'a warning',
    () =>
      failing.warnings.some((line) =>
        /HDFS permissions of project p are not up to date: .*no NameNode answers/.test(line),
      ),
    60_000,
  );
  await following.stop();
});
