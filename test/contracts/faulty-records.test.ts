// Does the contract of Records see faults? Each planted one must make the case named here fail, by an assertion.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createPostgresRecords } from '../../activities/adapters/postgres/records.ts';
import { isFailure } from '../../activities/failures.ts';
import type { Finding } from '../../activities/installation.ts';
import type { AuditRow, Principal, Records } from '../../activities/records.ts';
import { freshDatabase } from '../servers.ts';
import type { Import } from '../../workflows/domain/import.ts';
import type { Delivery, Release } from '../../workflows/domain/model.ts';
import type { RecordsFault } from './faulty/command-faults.ts';
import { correctionFaults } from './faulty/record-corrections.ts';
import { commandFaults } from './faulty/command-faults.ts';
import { decisionFaults } from './faulty/decision-faults.ts';
import { createScene, recordsCases } from './records.ts';

const faults: readonly RecordsFault[] = [
  ...commandFaults,
  ...decisionFaults,
  {
    fault: 'the last installation to claim is told that the records are its own',
    seenBy: 'the first installation that claims the records keeps them',
    plant: () => ({ claimInstallation: async (installation) => installation }),
  },
  {
    fault: 'a checkpoint comes whether anything happened or not',
    seenBy: 'checkpoints count on, name the last row of the audit, and come only when it has grown',
    plant: (records) => ({ checkpoint: () => records.checkpoint(true) }),
  },
  {
    fault: 'a later finding replaces all earlier ones',
    seenBy: 'a pause keeps the newest finding of each system until it is accepted',
    plant: (records) => {
      const last: Finding[] = [];
      return {
        async pause(findings, audit) {
          last.splice(0, last.length, ...findings);
          await records.pause(findings, audit);
        },
        async paused() {
          const paused = await records.paused();
          return paused && { ...paused, findings: last };
        },
      };
    },
  },
  {
    fault: 'a pause holds up no decision',
    seenBy: 'while all is paused no decision is made, and afterwards the same command is decided',
    plant: () => ({ pause: async () => undefined }),
  },
  {
    fault: 'what waited for a restore has failed',
    seenBy: 'an effect that waited for a restore leaves its decision pending, and fences nothing',
    plant: (records) => ({
      failDecision: (workflow, command, { message }) =>
        records.failDecision(workflow, command, { reason: 'Unavailable', message }),
    }),
  },
  {
    fault: 'the floor of an accepted restore is forgotten',
    seenBy:
      'an accepted restore gives no number up to the floor again, and may void the tokens of people and applications',
    plant: (records) => ({
      acceptRestore: (accepted, audit) => records.acceptRestore({ ...accepted, numbers: [] }, audit),
    }),
  },
  {
    fault: 'another command is named as the maker of a release',
    seenBy: 'the newest manifest of a type is known, and announced releases without one are found',
    plant: () => ({ releaseCommand: async (release) => release }),
  },
  {
    fault: 'no manifest is noted',
    seenBy: 'the newest manifest of a type is known, and announced releases without one are found',
    plant: () => ({ manifested: async () => undefined }),
  },
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
    fault: 'an entry is read once it is linked',
    seenBy: 'an entry is read at once, after those in the chain, and counted until it is linked',
    plant: (records) => ({
      async audit(filter) {
        const page = await records.audit(filter);
        return { ...page, rows: page.rows.filter(({ seq }) => seq !== null) };
      },
    }),
  },
  {
    fault: 'the walk knows linked rows alone',
    seenBy: 'an entry is read at once, after those in the chain, and counted until it is linked',
    plant: (records) => ({
      async verifyAudit() {
        const { rows, unlinked, ...found } = await records.verifyAudit();
        return { ...found, rows: rows - unlinked, unlinked: 0 };
      },
    }),
  },
  {
    fault: 'the chain is not linked',
    seenBy: 'entries written at once, and linked by many at once, stand in one chain without gaps',
    plant: (records) => {
      const unlinked = (row: AuditRow): AuditRow => ({ ...row, seq: null });
      return {
        async audit(filter) {
          const page = await records.audit(filter);
          return { ...page, rows: page.rows.map(unlinked) };
        },
      };
    },
  },
  {
    fault: 'a page goes on after the rows that were linked when it was read',
    seenBy: 'whoever pages through the audit while rows are linked gets each row once',
    plant: (records) => ({
      async audit({ after, limit = 100, ...filter }) {
        const all = await records.audit(filter);
        const from = Number(after ?? 0);
        const linked = all.rows.filter(({ seq }) => seq !== null);
        const rows = [...linked, ...all.rows.filter(({ seq }) => seq === null).slice(from)];
        const next = from + limit;
        return { rows: rows.slice(0, limit), ...(rows.length > limit && { next: String(next) }) };
      },
    }),
  },
  {
    fault: 'the audit knows no subjects',
    seenBy: 'the audit is asked by project, by subject and by page',
    plant: (records) => ({ audit: ({ subject: _, ...filter }) => records.audit(filter) }),
  },
  {
    fault: 'every refused request is a row',
    seenBy: 'refused requests of a minute are the first one and their number',
    plant: (records) => ({
      recordRefused: (entry) => records.record([{ ...entry, key: randomUUID() }], []),
    }),
  },
  {
    fault: 'refused requests after the first are forgotten',
    seenBy: 'refused requests of a minute are the first one and their number',
    plant: (records) => ({ recordRefused: (entry) => records.record([entry], []) }),
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
      async advanceVersion(...args) {
        const { version, ...standing } = await records.advanceVersion(...args);
        const number = version.version && Math.max(1, version.version - 1);
        return { ...standing, version: { ...version, version: number } };
      },
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
    fault: 'releases that are not announced are listed to everybody',
    seenBy: 'releases are listed by number, and on demand those alone that are announced',
    plant: (records) => ({ releases: ({ announced: _, ...filter }) => records.releases(filter) }),
  },
  {
    fault: 'a tag is not asked for',
    seenBy: 'versions are filtered by every field, and by several at once',
    plant: (records) => ({ versions: ({ tag: _, ...filter }) => records.versions(filter) }),
  },
  {
    fault: 'of several words one is enough',
    seenBy: 'versions are filtered by every field, and by several at once',
    plant: (records) => ({
      versions: ({ text, ...filter }) =>
        records.versions({ ...filter, ...(text !== undefined && { text: text.split(/\W/)[0] ?? '' }) }),
    }),
  },
  {
    fault: 'an order that is asked for is not kept',
    seenBy: 'versions are sorted by time and by number, each once, page by page',
    plant: (records) => ({ versions: ({ order: _, ...filter }) => records.versions(filter) }),
  },
  {
    fault: 'the list of versions gives whole rows',
    seenBy: 'versions and evaluations are listed newest first, by filter and by page',
    plant: (records) => ({
      async versions(filter) {
        const page = await records.versions(filter);
        const whole = page.rows.map(async ({ project, model, submission }) =>
          records.version(project, model, submission),
        );
        return { ...page, rows: (await Promise.all(whole)).flatMap((row) => row ?? []) };
      },
    }),
  },
  {
    fault: 'a version is found by the number of another model',
    seenBy: 'a version is found by its number',
    plant: (records) => ({
      versionByNumber: async (project, _, number) =>
        (await records.versionByNumber(project, 'forest', number)) ?? records.versionByNumber(project, 'tree', number),
    }),
  },
  {
    fault: 'a page of evaluations is filtered after it was cut',
    seenBy: 'a page of evaluations has what a person may see, and is full',
    plant: (records) => ({
      async evaluations({ seenBy, ...filter }) {
        const page = await records.evaluations(filter);
        const may = await Promise.all(
          page.rows.map(async ({ project, model, submission, actor }) => {
            if (actor === seenBy?.user || submission === null) return actor === seenBy?.user;
            return seenBy?.all || (await records.version(project, model, submission))?.author === seenBy?.user;
          }),
        );
        return { ...page, rows: page.rows.filter((_, n) => may[n]) };
      },
    }),
  },
  {
    fault: 'everybody sees private tests',
    seenBy: 'a page of evaluations has what a person may see, and is full',
    plant: (records) => ({ evaluations: ({ seenBy: _, ...filter }) => records.evaluations(filter) }),
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
  {
    fault: 'a release is known by the id of its command alone',
    seenBy: 'commands of one id to two submissions are two releases',
    plant: (records) => {
      const known = new Map<string, Promise<Release>>();
      return {
        async allotRelease(command, release) {
          const made = known.get(command) ?? records.allotRelease(command, release);
          known.set(command, made);
          return made;
        },
      };
    },
  },
  {
    fault: 'the newest row of a delivery replaces all that was known',
    seenBy: 'a delivery that is stopped keeps what its gates have said',
    plant: (records) => {
      const newest = new Map<string, Delivery>();
      return {
        async record(entries, projections) {
          for (const { kind, row } of projections) if (kind === 'delivery') newest.set(row.release, row);
          await records.record(entries, projections);
        },
        delivery: async (_, release) => newest.get(release),
      };
    },
  },
  {
    fault: 'the newest row of an import is the one that counts',
    seenBy: 'an import only moves on, and what has ended stays as it ended',
    plant: () => {
      const newest = new Map<string, Import>();
      return {
        async recordImport(row) {
          newest.set(row.import, row);
        },
        import: async (_, id) => newest.get(id),
      };
    },
  },
  {
    fault: 'an import and its audit row are two transactions',
    seenBy: 'an import and its audit row are written together, once',
    plant: (records) => ({
      async recordImport(row, audit) {
        if (audit) await records.record([audit], []);
        await records.recordImport(row, null);
      },
    }),
  },
  {
    fault: 'a page of imports begins where the last one ended',
    seenBy: 'imports are listed oldest first, by page, of one project',
    plant: (records) => ({
      imports: ({ after, ...filter }) =>
        records.imports({ ...filter, ...(after !== undefined && { after: String(Number(after) - 1) }) }),
    }),
  },
  {
    fault: 'a node is registered again by a write that comes late',
    seenBy: 'a node is replaced and removed, and a write that comes late again changes nothing',
    plant: (records) => ({ setNode: (node, audit) => records.setNode(node, { ...audit, key: randomUUID() }) }),
  },
  ...correctionFaults,
  {
    fault: 'the digests of chunks before a part are given with it',
    seenBy: 'digests of chunks come in parts, and the first ones stay',
    plant: (records) => ({ chunkDigests: (sha256, first, count) => records.chunkDigests(sha256, 0, first + count) }),
  },
  {
    fault: 'the first digest of a file is kept for ever',
    seenBy: 'the digest of a file replaces that of the file before it',
    plant: (records) => ({
      async keepFileDigest(file) {
        if (!(await records.fileDigest(file.uri))) await records.keepFileDigest(file);
      },
    }),
  },
];

/** Cases that no fault here has ever made fail. */
const unproven = [
  'the same user twice is harmless, with another admin flag a conflict',
  'an expired token does not open, one that expires later does',
  'a job token carries its grant; a token is of one holder who exists',
  'a project and its types exist once; a refused project leaves nothing',
  'a policy is replaced, once per key',
  'a type is not removed and made live at once',
  'a data set never changes',
  'hostile text is kept: nothing that a command holds stops its record',
  'an older version row never takes the place of a newer one',
  'evaluations, deliveries and scans never go back',
  'of many claims on the same bytes at once one holds',
  'a release is announced for good, and is of a type of its project',
  'an older version is not released over a newer live one',
  'an application has a name of its own and types of its project',
  'of many moves from one generation one is made',
  'going back is a revert, to what was live there',
  'a scan is created once, with its start',
  'a command is decided once: the same again returns how it stands',
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

  it('a fault in each case but these', () => {
    const proven = new Set(faults.map(({ seenBy }) => seenBy));
    assert.deepEqual(
      recordsCases.map(({ name }) => name).filter((name) => !proven.has(name)),
      unproven,
    );
  });
});
