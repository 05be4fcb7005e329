// Does the contract of Records see faults? Each planted one must make the case named here fail, by an assertion.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { isFailure } from '../../activities/failures.ts';
import type { Principal, Records } from '../../activities/records.ts';
import { freshDatabase } from '../servers.ts';
import { createScene, recordsCases } from './records.ts';

interface Fault {
  readonly fault: string;
  /** The case that must see it. */
  readonly seenBy: string;
  readonly plant: (records: Records) => Partial<Records>;
}

const faults: readonly Fault[] = [
  {
    fault: 'the live pointer moves without compare-and-set',
    seenBy: 'the live pointer moves by compare-and-set, with its deliveries and its audit',
    plant: (records) => ({
      async moveLivePointer(move, audit) {
        const { generation } = await records.livePointer(move.application, move.type);
        return records.moveLivePointer({ ...move, generation }, audit);
      },
    }),
  },
  {
    fault: 'the live pointer forgets keys',
    seenBy: 'a key gets its first answer, also after later moves',
    plant: (records) => ({
      moveLivePointer: (move, audit) => records.moveLivePointer({ ...move, key: randomUUID() }, audit),
    }),
  },
  {
    fault: 'the audit forgets keys',
    seenBy: 'an audit entry is kept once per key, in order, as it was given',
    plant: (records) => ({
      record: (entries, projections) =>
        records.record(
          entries.map((entry) => ({ ...entry, key: randomUUID() })),
          projections,
        ),
    }),
  },
  {
    fault: 'an entry and its projections are two transactions',
    seenBy: 'entries and projections are written together or not at all',
    plant: (records) => ({
      async record(entries, projections) {
        await records.record(entries, []);
        await records.record([], projections);
      },
    }),
  },
  {
    fault: 'a version number is given twice',
    seenBy: 'each submission has its own version number, for ever the same',
    plant: (records) => ({
      versionNumber: async (...args) => Math.max(1, (await records.versionNumber(...args)) - 1),
    }),
  },
  {
    fault: 'a digest never conflicts',
    seenBy: 'the same bytes while a submission is open are a conflict that names it',
    plant: (records) => ({
      claimDigest: (...args) =>
        records.claimDigest(...args).catch((error: unknown) => {
          if (!isFailure(error, 'Conflict')) throw error;
        }),
    }),
  },
  {
    fault: 'a fence ignores what is live',
    seenBy: 'a fence names the applications where a release is live, and then fences nothing',
    plant: (records) => ({
      async fence(...args) {
        await records.fence(...args);
        return { live: [] };
      },
    }),
  },
  {
    fault: 'a fence and a move look first and act later',
    seenBy: 'a fence and a move never both succeed',
    plant: (records) => {
      const fences = new Set<string>();
      const isLive = async (release: string) => {
        const type = release.slice(0, release.lastIndexOf('-'));
        for (const { application } of await records.applications({ type }))
          if ((await records.livePointer(application, type)).release === release) return [application];
        return [];
      };
      return {
        fenced: async (release) => fences.has(release),
        async fence(releases) {
          const live = (await Promise.all(releases.map(isLive))).flat();
          if (live.length === 0) for (const release of releases) fences.add(release);
          return { live };
        },
        async moveLivePointer(move, audit) {
          if (fences.has(move.release)) return { moved: false, why: 'fenced' };
          return records.moveLivePointer(move, audit);
        },
      };
    },
  },
  {
    fault: 'a release number is lost with every repeated command',
    seenBy: 'releases of a type are numbered without gaps, once per command',
    plant: (records) => ({ allotRelease: (_, release) => records.allotRelease(randomUUID(), release) }),
  },
  {
    fault: 'a revoked token still opens',
    seenBy: 'a token opens for its holder until it is revoked',
    plant: (records) => {
      const remembered = new Map<string, Principal>();
      return {
        async principal(sha256) {
          const found = remembered.get(sha256) ?? (await records.principal(sha256));
          if (found) remembered.set(sha256, found);
          return found;
        },
      };
    },
  },
  {
    fault: 'whoever is in one project is in all',
    seenBy: 'a token tells how its holder stands in a project',
    plant: (records) => ({
      async principalIn(sha256, project) {
        const found = await records.principalIn(sha256, project);
        return found?.standing && { ...found, standing: { ...found.standing, roles: ['scientist'] } };
      },
    }),
  },
  {
    fault: 'a write counts again when it comes late',
    seenBy: 'roles are replaced and removed, and an earlier write that comes late again changes nothing',
    plant: (records) => ({
      setMember: (project, member, audit) => records.setMember(project, member, { ...audit, key: randomUUID() }),
    }),
  },
  {
    fault: 'what was live at a time is what is live now',
    seenBy: 'what was live at a time is known, and what has been',
    plant: (records) => ({ liveAt: (application, type) => records.livePointer(application, type) }),
  },
];

describe('the contract of Records sees', () => {
  const opened: { records?: Records } = {};
  beforeAll(async () => {
    opened.records = await createPostgresRecords({ url: await freshDatabase() });
  });
  afterAll(async () => opened.records?.close());

  it.each(faults)('$fault', async ({ seenBy, plant }) => {
    assert.ok(opened.records, 'PostgreSQL could not be opened: see the failure of beforeAll');
    const records = opened.records;
    const found = recordsCases.find(({ name }) => name === seenBy);
    assert.ok(found, `there is no case "${seenBy}"`);
    // Without the fault the same case passes: so it is the fault that it sees.
    await found.run(records, createScene());
    await assert.rejects(found.run({ ...records, ...plant(records) }, createScene()), assert.AssertionError);
  });
});
