// The contract of Records detects faults: each planted fault must fail its named case by an assertion.
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
import { computeFaults } from './faulty/compute-faults.ts';
import { decisionFaults } from './faulty/decision-faults.ts';
import { createScene, recordsCases } from './records.ts';

const faults: readonly RecordsFault[] = [
  ...commandFaults,
  ...decisionFaults,
  ...computeFaults,
  {
    fault: 'the last installation that claims the records becomes their owner',
    seenBy: 'the first installation that claims the records keeps them',
    plant: () => ({ claimInstallation: async (installation) => installation }),
  },
  {
    fault: 'a checkpoint is written even if nothing has changed',
    seenBy: 'checkpoints are numbered, name the last audit row, and are written only when the audit has grown',
    plant: (records) => ({ checkpoint: () => records.checkpoint(true) }),
  },
  {
    fault: 'a later finding replaces all earlier findings',
    seenBy: 'a pause keeps the newest finding of each system until it is accepted',
    plant: (records) => {
      const last: Finding[] = [];
      return {
        async pause(findings, audit, accepted) {
          last.splice(0, last.length, ...findings);
          return records.pause(findings, audit, accepted);
        },
        async paused() {
          const paused = await records.paused();
          return paused && { ...paused, findings: last };
        },
      };
    },
  },
  {
    fault: 'a pause does not stop decisions',
    seenBy: 'no decision is made during a pause, and the same command is decided afterwards',
    plant: () => ({ pause: async () => true }),
  },
  {
    fault: 'a pause is entered on what was accepted since',
    seenBy: 'what was found before a restore was accepted does not pause again',
    plant: (records) => ({
      pause: async (findings, audit) => records.pause(findings, audit, (await records.known()).accepted),
    }),
  },
  {
    fault: 'findings that nobody saw are accepted',
    seenBy: 'a restore is accepted only with all that was found, and checkpoints never count back',
    plant: (records) => ({
      acceptRestore: async (accepted, audit) =>
        records.acceptRestore({ ...accepted, findings: (await records.paused())?.findings ?? [] }, audit),
    }),
  },
  {
    fault: 'the time for an undo runs out during a pause',
    seenBy: 'a pause does not count in the time for an undo',
    plant: (records) => {
      const first = new Map<string, string | null>();
      return {
        async versionStanding(key) {
          const standing = await records.versionStanding(key);
          const id = `${key.project}/${key.submission}`;
          if (!first.get(id)) first.set(id, standing.undoUntil);
          return { ...standing, undoUntil: first.get(id) ?? null };
        },
        async advanceVersion(id, step) {
          const standing = await records.advanceVersion(id, step);
          const { project, submission } = standing.version;
          return { ...standing, undoUntil: first.get(`${project}/${submission}`) ?? null };
        },
      };
    },
  },
  {
    fault: 'a scan is closed as soon as a restore is accepted',
    seenBy: 'a pause does not count in the time without labels after which a scan is closed',
    plant: (records) => ({
      async closeQuiet(id, quiet) {
        await records.closeQuiet(id, quiet);
        await records.closeStart(id, 'quiet');
        return { until: null };
      },
    }),
  },
  {
    fault: 'a retired key signs again while there is another one',
    seenBy: 'a retired key signs nothing new until a home that has no other one registers it again',
    plant: (records) => ({
      async registerKeys(keys) {
        for (const [id, key] of Object.entries(keys)) await records.registerKeys({ [id]: key });
        return Object.keys(keys);
      },
    }),
  },
  {
    fault: 'effects that waited for a restore fail',
    seenBy: 'an effect that waited for a restore leaves its decision pending, and fences nothing',
    plant: (records) => ({
      failDecision: (workflow, command, { message }) =>
        records.failDecision(workflow, command, { reason: 'Unavailable', message }),
    }),
  },
  {
    fault: 'the number floor of an accepted restore is lost',
    seenBy:
      'an accepted restore assigns no number up to the floor again, and may void the tokens of people and applications',
    plant: (records) => ({
      acceptRestore: (accepted, audit) => records.acceptRestore({ ...accepted, numbers: [] }, audit),
    }),
  },
  {
    fault: 'a release names a different command as its origin',
    seenBy: 'the newest manifest of a type is returned, and announced releases without a manifest are found',
    plant: () => ({ releaseCommand: async (release) => release }),
  },
  {
    fault: 'manifests are not recorded',
    seenBy: 'the newest manifest of a type is returned, and announced releases without a manifest are found',
    plant: () => ({ manifested: async () => undefined }),
  },
  {
    fault: 'the live pointer moves without compare-and-set',
    seenBy: 'the live pointer moves by compare-and-set, with its deliveries and audit rows',
    plant: (records) => ({
      async moveLivePointer(move, audit) {
        const { generation } = await records.livePointer(move.application, move.type);
        return records.moveLivePointer({ ...move, generation }, audit);
      },
    }),
  },
  {
    fault: 'the live pointer forgets idempotency keys',
    seenBy: 'an idempotency key gets its first answer, even after later moves',
    plant: (records) => ({
      moveLivePointer: (move, audit) => records.moveLivePointer({ ...move, key: randomUUID() }, audit),
    }),
  },
  {
    fault: 'the audit forgets idempotency keys',
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
    fault: 'an entry is visible only once it is linked',
    seenBy: 'an entry is visible immediately, after those in the chain, and counted as unlinked until it is linked',
    plant: (records) => ({
      async audit(filter) {
        const page = await records.audit(filter);
        return { ...page, rows: page.rows.filter(({ seq }) => seq !== null) };
      },
    }),
  },
  {
    fault: 'the verification of the audit covers linked rows only',
    seenBy: 'an entry is visible immediately, after those in the chain, and counted as unlinked until it is linked',
    plant: (records) => ({
      async verifyAudit() {
        const { rows, unlinked, ...found } = await records.verifyAudit();
        return { ...found, rows: rows - unlinked, unlinked: 0 };
      },
    }),
  },
  {
    fault: 'rows are not linked into the chain',
    seenBy: 'concurrent entries, linked by concurrent linkers, form one chain without gaps',
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
    fault: 'a page continues after the rows that were linked at the time of reading',
    seenBy: 'paging through the audit while rows are being linked returns each row once',
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
    fault: 'the audit cannot be filtered by subject',
    seenBy: 'the audit is queried by project, by subject and by page',
    plant: (records) => ({ audit: ({ subject: _, ...filter }) => records.audit(filter) }),
  },
  {
    fault: 'every refused request becomes a row',
    seenBy: 'refused requests within a minute are stored as the first one and a count',
    plant: (records) => ({
      recordRefused: (entry) => records.record([{ ...entry, key: randomUUID() }], []),
    }),
  },
  {
    fault: 'refused requests after the first are not counted',
    seenBy: 'refused requests within a minute are stored as the first one and a count',
    plant: (records) => ({ recordRefused: (entry) => records.record([entry], []) }),
  },
  {
    fault: 'an entry and its projections are written in two transactions',
    seenBy: 'entries and projections are written together or not at all',
    plant: (records) => ({
      async record(entries, projections) {
        await records.record(entries, []);
        await records.record([], projections);
      },
    }),
  },
  {
    fault: 'a version number is assigned twice',
    seenBy: 'each submission has its own version number, which never changes',
    plant: (records) => ({
      async advanceVersion(...args) {
        const { version, ...standing } = await records.advanceVersion(...args);
        const number = version.version && Math.max(1, version.version - 1);
        return { ...standing, version: { ...version, version: number } };
      },
    }),
  },
  {
    fault: 'equal digests never conflict',
    seenBy: 'submitting the bytes of an open submission is a conflict that names it',
    plant: (records) => ({
      claimDigest: (...args) =>
        records.claimDigest(...args).catch((error: unknown) => {
          if (!isFailure(error, 'Conflict')) throw error;
        }),
    }),
  },
  {
    fault: 'a fence ignores live releases',
    seenBy: 'fencing a live release fails and names the applications where it is live',
    plant: (records) => ({
      async fence(...args) {
        await records.fence(...args);
        return { live: [] };
      },
    }),
  },
  {
    fault: 'a fence and a move check first and act in another transaction',
    seenBy: 'a concurrent fence and move never both succeed',
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
    fault: 'every repeated command uses up a release number',
    seenBy: 'releases of a type are numbered without gaps, once per command',
    plant: (records) => ({ allotRelease: (_, release) => records.allotRelease(randomUUID(), release) }),
  },
  {
    fault: 'unannounced releases are listed',
    seenBy: 'releases are listed by number, optionally only announced ones',
    plant: (records) => ({ releases: ({ announced: _, ...filter }) => records.releases(filter) }),
  },
  {
    fault: 'the tag filter is ignored',
    seenBy: 'versions are filtered by every field, and by several at once',
    plant: (records) => ({ versions: ({ tag: _, ...filter }) => records.versions(filter) }),
  },
  {
    fault: 'a search matches if any one of its words matches',
    seenBy: 'versions are filtered by every field, and by several at once',
    plant: (records) => ({
      versions: ({ text, ...filter }) =>
        records.versions({ ...filter, ...(text !== undefined && { text: text.split(/\W/)[0] ?? '' }) }),
    }),
  },
  {
    fault: 'the requested sort order is ignored',
    seenBy: 'versions are sorted by time and by number, each once, page by page',
    plant: (records) => ({ versions: ({ order: _, ...filter }) => records.versions(filter) }),
  },
  {
    fault: 'the list of versions returns whole rows',
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
    fault: 'a version is found by the number of a different model',
    seenBy: 'a version is found by its number',
    plant: (records) => ({
      versionByNumber: async (project, _, number) =>
        (await records.versionByNumber(project, 'forest', number)) ?? records.versionByNumber(project, 'tree', number),
    }),
  },
  {
    fault: 'a page of evaluations is filtered after its limit is applied',
    seenBy: 'a page of evaluations is full and has only what the person may see',
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
    fault: 'private tests are visible to everybody',
    seenBy: 'a page of evaluations is full and has only what the person may see',
    plant: (records) => ({ evaluations: ({ seenBy: _, ...filter }) => records.evaluations(filter) }),
  },
  {
    fault: 'a revoked token is still accepted',
    seenBy: 'a token is accepted for its holder until it is revoked',
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
    fault: 'a member of one project is a member of all',
    seenBy: 'a token gives its holder’s role in a project',
    plant: (records) => ({
      async principalIn(sha256, project) {
        const found = await records.principalIn(sha256, project);
        return found?.standing && { ...found, standing: { ...found.standing, roles: ['scientist'] } };
      },
    }),
  },
  {
    fault: 'a late repeated write is applied again',
    seenBy: 'roles are replaced and removed, and a late repeated write changes nothing',
    plant: (records) => ({
      setMember: (project, member, audit) => records.setMember(project, member, { ...audit, key: randomUUID() }),
    }),
  },
  {
    fault: 'the release that was live at a time is the one that is live now',
    seenBy: 'returns the release that was live at a given time, and all that were live',
    plant: (records) => ({ liveAt: (application, type) => records.livePointer(application, type) }),
  },
  {
    fault: 'a release is identified by its command id alone',
    seenBy: 'the same command id on two submissions makes two releases',
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
    fault: 'the newest row of a delivery replaces all its earlier data',
    seenBy: 'a stopped delivery keeps its gate results',
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
    fault: 'the newest row of an import always wins',
    seenBy: 'an import only moves forward, and its end is final',
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
    fault: 'a version whose workflow was lost before its last decision was filed stays closed',
    seenBy: 'a version that was closed, and is not stored beside its artifact, is open again after a while',
    plant: () => ({ reopenUnfiled: async () => undefined }),
  },
  {
    fault: 'jobs of a lost pool stay with it',
    seenBy: 'jobs of a pool that nobody watches any more are queued again',
    plant: () => ({ watchedPool: async () => undefined }),
  },
  {
    fault: 'an import and its audit row are written in two transactions',
    seenBy: 'an import and its audit row are written together, once',
    plant: (records) => ({
      async recordImport(row, audit) {
        if (audit) await records.record([audit], []);
        await records.recordImport(row, null);
      },
    }),
  },
  {
    fault: 'a page of imports repeats the last entry of the page before',
    seenBy: 'imports are listed oldest first, by page, of one project',
    plant: (records) => ({
      imports: ({ after, ...filter }) =>
        records.imports({ ...filter, ...(after !== undefined && { after: String(Number(after) - 1) }) }),
    }),
  },
  {
    fault: 'a late write registers a removed node again',
    seenBy: 'a node is replaced and removed, and a late repeated write changes nothing',
    plant: (records) => ({ setNode: (node, audit) => records.setNode(node, { ...audit, key: randomUUID() }) }),
  },
  ...correctionFaults,
  {
    fault: 'a part of chunk digests includes those before it',
    seenBy: 'chunk digests are stored in parts, and the first ones are kept',
    plant: (records) => ({ chunkDigests: (sha256, first, count) => records.chunkDigests(sha256, 0, first + count) }),
  },
  {
    fault: 'the first digest of a file is never replaced',
    seenBy: 'the digest of a file replaces that of its previous content',
    plant: (records) => ({
      async keepFileDigest(file) {
        if (!(await records.fileDigest(file.uri))) await records.keepFileDigest(file);
      },
    }),
  },
  {
    fault: 'the row of a job stays after its end',
    seenBy: 'a job waits in the queue until it has a place, and is gone after its end',
    plant: () => ({ endJob: async () => {} }),
  },
  {
    fault: 'a job that is queued again starts over',
    seenBy: 'a job that is queued again goes on, for its new activity; another job of its name starts over',
    plant: (records) => ({
      async queueJob(job) {
        await records.endJob(job.name);
        await records.queueJob(job);
      },
    }),
  },
  {
    fault: 'a job does not wait for its next try',
    seenBy: 'each project has its first queued job at its turn, with the number of its jobs that have a place',
    plant: (records) => ({ changeJob: (name, { waitMs: _, ...change }) => records.changeJob(name, change) }),
  },
  {
    fault: 'a page of queued jobs begins at the first one',
    seenBy: 'queued jobs are read in pages',
    plant: (records) => ({ queuedJobs: ({ limit }) => records.queuedJobs({ limit }) }),
  },
];

/** Cases that no fault here has ever made fail. */
const unproven = [
  'creating the same user twice is harmless; with a different admin flag it is a conflict',
  'an expired token is refused, one that expires later is accepted',
  'a job token carries its grant; a token belongs to one existing holder',
  'a project and its types are created once; a refused project leaves nothing behind',
  'a policy is replaced, once per key',
  'a type cannot be removed and go live concurrently',
  'a data set never changes',
  'hostile text is stored: no content of a command prevents its recording',
  'an older version row never replaces a newer one',
  'evaluations, deliveries and scans never go back',
  'of many concurrent claims on the same bytes, one wins',
  'an announcement is final, and a release has a type of its project',
  'an older version is not released if a newer one is live',
  'an application has a unique name and types of its project',
  'of many concurrent moves from one generation, one is made',
  'moving back is a revert, to a release that was live there',
  'a scan is created once, with its start',
  'a command is decided once: repeating it returns the current state',
];

describe('the contract of Records detects a fault:', () => {
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
    // The case passes without the fault, so it detects the fault.
    await found.run(records, createScene());
    await assert.rejects(found.run({ ...records, ...plant(records) }, createScene()), assert.AssertionError);
  });

  it('there is a fault for each case except these', () => {
    const proven = new Set(faults.map(({ seenBy }) => seenBy));
    assert.deepEqual(
      recordsCases.map(({ name }) => name).filter((name) => !proven.has(name)),
      unproven,
    );
  });
});
