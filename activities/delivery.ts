// One release into one application: the checks, the lock in its repository, the gates, the live pointer.
import { isDeepStrictEqual } from 'node:util';
import type { SignedCommand } from '../workflows/domain/command.ts';
import type { Application, GateResult, LivePointer, NamedArtifact, Release } from '../workflows/domain/model.ts';
import { subjectOf } from '../workflows/domain/names.ts';
import { failure } from './failures.ts';
import { gates } from './gates/gate.ts';
import { beating } from './heartbeat.ts';
import { mustHave } from './model-center.ts';
import type { ArtifactStore, Cluster, CodeHost } from './ports.ts';
import type { Records } from './records.ts';

export type DeliveryActivities = ReturnType<typeof createDeliveryActivities>;

type Which = { readonly application: string; readonly type: string; readonly release: string };

type VersionKey = Pick<Release, 'project' | 'model' | 'submission'>;
const keyOf = ({ project, model, submission }: VersionKey): VersionKey => ({ project, model, submission });

/** Content of `model.lock`: what the application runs, per type. */
export interface ModelLock {
  readonly [type: string]: {
    readonly release: string;
    readonly project: string;
    readonly model: string;
    readonly version: number;
    readonly digest: string;
    readonly files: readonly { readonly name: string; readonly sha256: string; readonly bytes: number }[];
    readonly approvedBy: readonly string[];
    readonly report: string | null;
  };
}

export function createDeliveryActivities(deps: {
  records: Records;
  releases: ArtifactStore;
  cluster: Cluster;
  code: CodeHost;
}) {
  const { records, releases, cluster, code } = deps;

  return {
    /** Takes a release in: it is announced, approved, not taken back, and every byte in the store is what was approved. */
    async receiveRelease({
      application,
      type,
      release,
    }: Which): Promise<{ gates: readonly string[]; files: readonly NamedArtifact[] }> {
      const { app, row } = await find({ application, type, release });
      if (row.state !== 'announced') throw failure('Conflict', `release ${release} is not announced yet`);
      if (await records.fenced(release)) throw failure('Fenced', `release ${release} was taken back`);
      const version = await mustHave(
        records.version(row.project, row.model, row.submission),
        `version ${row.model}/${row.submission}`,
      );
      if (
        version.digest !== row.digest ||
        row.approvedBy.length === 0 ||
        !version.decisions.some(({ name }) => name === 'approve')
      )
        throw failure('NotAuthorized', `release ${release} has no approval of ${row.digest}`);
      await beating(async (signal, report) => {
        for (const { name, uri, sha256 } of row.files) {
          report({ checking: name });
          const stored = await releases.digest(uri, signal);
          if (stored !== sha256)
            throw failure(
              'DigestMismatch',
              `${name} of ${release} has digest ${stored} in the release store, approved was ${sha256}`,
            );
        }
      });
      return { gates: app.gates, files: row.files };
    },

    /** Commits `model.lock` on the branch `ocdl/<release>` of the application's repository: the entrance to its own CI/CD (paper 3.3). */
    async lockModel(which: Which): Promise<{ commit: string }> {
      const { app, row } = await find(which);
      const others = (await liveReleases(app)).filter(({ type }) => type !== which.type);
      return beating((signal) => commitLock(app, [...others, row], row, `ocdl/${row.release}`, 'candidate', signal));
    },

    /** Runs one gate. What is thrown here says that it could not be run. */
    async runGate(input: Which & { gate: string; files: readonly NamedArtifact[] }): Promise<GateResult> {
      const { gate, files } = input;
      const { app, row } = await find(input);
      if (!Object.hasOwn(gates, gate))
        throw failure('GateUnavailable', `there is no gate "${gate}", only ${Object.keys(gates).join(', ')}`);
      const run = gates[gate as keyof typeof gates];
      const started = performance.now();
      const verdict = await beating((signal, report) =>
        run({ application: app, release: row, files, cluster, releases, signal, report }),
      );
      return { gate, ...verdict, seconds: Math.round(performance.now() - started) / 1000 };
    },

    /**
     * Compare-and-set of the live pointer; `why` says what stood against it, and then `pointer` is as it stands.
     * `touched`: the versions whose deliveries changed, what is live now and what was.
     */
    async moveLivePointer(
      input: Which & {
        key: string;
        generation: number;
        revert: boolean;
        actor: string;
        reason: string;
        command?: SignedCommand;
      },
    ): Promise<{ pointer: LivePointer; why: string | null; touched: readonly VersionKey[] }> {
      const { key, application, type, generation, release, revert, actor, reason, command } = input;
      const { row } = await find(input);
      const result = await records.moveLivePointer(
        { key, application, type, generation, release, revert },
        {
          key,
          project: row.project,
          kind: revert ? 'application.revert' : 'application.live',
          actor,
          subject: `${application}/${type}`,
          digest: row.digest,
          report: row.report,
          reason,
          detail: { release, version: subjectOf(row), generation, ...(command && { command }) },
          at: new Date().toISOString(),
        },
      );
      if (result.moved) {
        const history = await records.liveHistory(application, type);
        const former = history.find(({ generation: before }) => before === result.pointer.generation - 1)?.release;
        const formerRow = former ? await records.release(former) : undefined;
        return { pointer: result.pointer, why: null, touched: [row, ...(formerRow ? [formerRow] : [])].map(keyOf) };
      }
      const pointer = await records.livePointer(application, type);
      const now = pointer.release ?? 'nothing';
      const why = {
        generation: `the live pointer has moved meanwhile: ${now} is live, generation ${pointer.generation}`,
        fenced: `${release} was taken back by a manager`,
        older: revert
          ? `${release} cannot be reverted to: it was never live in ${application}, or is live now`
          : `${release} is not newer than ${now}, which is live`,
      }[result.why];
      return { pointer, why, touched: [] };
    },

    /**
     * Commits `model.lock` to the main branch: what is live, by the pointers of all the application's types as they stand now.
     * A late repetition, and another type that moves meanwhile, so end with what is live, too.
     */
    async commitLive({ application, type }: Omit<Which, 'release'>): Promise<{ commit: string }> {
      const app = await mustHave(records.application(application), `application ${application}`);
      return beating(async (signal) => {
        for (let live = await liveReleases(app); ;) {
          const row = live.find((one) => one.type === type);
          if (!row) throw failure('Conflict', `nothing of type ${type} is live in ${application}`);
          const committed = await commitLock(app, live, row, 'main', 'live', signal);
          const now = await liveReleases(app);
          if (isDeepStrictEqual(now, live)) return committed;
          live = now;
        }
      });
    },
  };

  /** What is live in an application, at most one release a type. */
  async function liveReleases({ application, types }: Application): Promise<readonly Release[]> {
    const pointers = await Promise.all(types.map((type) => records.livePointer(application, type)));
    return Promise.all(
      pointers.flatMap(({ release }) => (release ? [mustHave(records.release(release), `release ${release}`)] : [])),
    );
  }

  async function find({ application, type, release }: Which): Promise<{ app: Application; row: Release }> {
    const app = await mustHave(records.application(application), `application ${application}`);
    const row = await mustHave(records.release(release), `release ${release}`);
    if (row.type !== type || !app.types.includes(type))
      throw failure(
        'InvalidInput',
        `release ${release} is of type ${row.type}, which ${application} does not take here`,
      );
    if (!(await records.mayConsume(app.project, type)))
      throw failure(
        'NotAuthorized',
        `project ${row.project} no longer lets project ${app.project} consume ${type}: ask its manager for the grant`,
      );
    return { app, row };
  }

  /** Makes the lock anew from the records, whatever the file says: a person may have written into it. `row` is what it is committed for. */
  async function commitLock(
    app: Application,
    rows: readonly Release[],
    row: Release,
    branch: string,
    what: string,
    signal: AbortSignal,
  ): Promise<{ commit: string }> {
    await code.ensure(app.repository);
    return code.commit({
      repository: app.repository,
      branch,
      files: { 'model.lock': `${JSON.stringify(lockOf(app, rows), null, 2)}\n` },
      message: `${what}: ${row.model} version ${row.version} (${row.release})`,
      author: row.releasedBy,
      signal,
    });
  }
}

/** Types in the application's own order: the same releases are the same bytes. */
function lockOf({ types }: Application, rows: readonly Release[]): ModelLock {
  const entries = types.flatMap((type) => {
    const row = rows.find((one) => one.type === type);
    if (!row) return [];
    const { release, project, model, version, digest, approvedBy, report } = row;
    const files = row.files.map(({ name, sha256, bytes }) => ({ name, sha256, bytes }));
    return [[type, { release, project, model, version, digest, files, approvedBy, report }] as const];
  });
  return Object.fromEntries(entries);
}
