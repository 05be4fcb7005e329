// Delivers one release into one application: the checks, the lock file in its repository, the gates, the live pointer.
import { isDeepStrictEqual } from 'node:util';
import type { SignedCommand } from '../workflows/domain/command.ts';
import { ApplicationFailure } from '@temporalio/common';
import { digestMismatch } from '../workflows/domain/digest-mismatch.ts';
import { parseWorkflowId, workflowId } from '../workflows/domain/ids.ts';
import type { Application, GateResult, Release } from '../workflows/domain/model.ts';
import { subjectOf } from '../workflows/domain/names.ts';
import type { ApplicationStanding } from '../workflows/domain/standing.ts';
import { failure, isFinal } from './failures.ts';
import { gates } from './gates/gate.ts';
import { beating, currentRun, currentWorkflow, ofWorkflow } from './heartbeat.ts';
import { mustHave } from './model-center.ts';
import type { ArtifactStore, Cluster, CodeHost } from './ports.ts';
import type { DeliveryKey, Records } from './records.ts';
import { unlessForged } from './workflow-audit.ts';

export type DeliveryActivities = ReturnType<typeof createDeliveryActivities>;

/** Content of `model.lock`: what the application runs, by type. */
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
    /** Accepts a release if it is announced, approved and not withdrawn, and the stored bytes are the approved ones. */
    async receiveRelease({ release }: Pick<DeliveryKey, 'release'>): Promise<{
      gates: readonly string[];
      missing: readonly string[];
    }> {
      const { app, row, of } = await find(release);
      if (row.state !== 'announced') throw failure('Conflict', `release ${release} is not announced yet`);
      if (await records.fenced(release)) throw failure('Fenced', `release ${release} was withdrawn`);
      const { version } = await records.versionStanding(row);
      if (
        version.digest !== row.digest ||
        row.approvedBy.length === 0 ||
        !version.decisions.some(({ name }) => name === 'approve')
      )
        throw failure('NotAuthorized', `release ${release} has no approval of ${row.digest}`);
      await bytesAreWhole(row);
      return { gates: app.gates, missing: await records.missingGates(of) };
    },

    /**
     * Commits `model.lock` on the branch `ocdl/<release>` of the application's repository: the entry point to its own
     * CI/CD (paper 3.3).
     */
    async lockModel({ release }: Pick<DeliveryKey, 'release'>): Promise<{ commit: string }> {
      const { app, row } = await find(release);
      const others = (await liveReleases(app)).filter(({ type }) => type !== row.type);
      return beating((signal) => commitLock(app, [...others, row], row, `ocdl/${row.release}`, 'candidate', signal));
    },

    /** Runs one gate and records its result. A throw means that the gate could not run, so it has not passed. */
    async runGate({ gate, release }: Pick<DeliveryKey, 'release'> & { gate: string }): Promise<GateResult> {
      const { app, row, of } = await find(release);
      const { files } = row;
      if (!Object.hasOwn(gates, gate))
        throw failure('GateUnavailable', `there is no gate "${gate}", only ${Object.keys(gates).join(', ')}`);
      const run = gates[gate as keyof typeof gates];
      await records.beginGates(of);
      const started = performance.now();
      const verdict = await beating((signal, report) =>
        run({ application: app, release: row, files, cluster, releases, signal, report }),
      );
      const result = { gate, ...verdict, seconds: Math.round(performance.now() - started) / 1000 };
      return records.recordGate(of, result, currentRun());
    },

    /** Decides a person's move of the live pointer: to an earlier release, whose bytes must be intact, or to none. */
    async decidePointer({ command }: { command: SignedCommand }): Promise<ApplicationStanding> {
      const id = currentWorkflow();
      const to = command.body.args.release;
      const row = command.body.name === 'revert' && to !== undefined ? await records.release(to) : undefined;
      const doubt = row && (await beatingReason(() => bytesAreWhole(row)));
      return unlessForged(
        records,
        () => records.decidePointer(id, command, doubt),
        () => records.applicationStanding(id),
      );
    },

    /**
     * Moves the live pointer to a release that has passed, by compare-and-set. `why`: the reason it could not. `wake`:
     * the versions whose deliveries changed, both the new live one and the previous one. `standing`: the application
     * afterwards.
     */
    async moveLivePointer({ release }: Pick<DeliveryKey, 'release'>): Promise<{
      why: string | null;
      wake: readonly string[];
      standing?: ApplicationStanding;
    }> {
      const found = await find(release);
      const moved = await move(release, found);
      return { ...moved, standing: await records.applicationStanding(workflowId.application(found.of)) };
    },

    /**
     * Commits `model.lock` to the main branch: what is live, by the current pointers of all the application's types.
     * Because it reads them all, a late retry or a concurrent move of another type also ends with what is live.
     */
    async commitLive({ application, type }: Omit<DeliveryKey, 'release'>): Promise<{ commit: string }> {
      const app = await mustHave(records.application(application), `application ${application}`);
      return beating(async (signal) => {
        for (let live = await liveReleases(app); ;) {
          const row = live.find((one) => one.type === type);
          const committed = row
            ? await commitLock(app, live, row, 'main', 'live', signal)
            : await commitNothing(app, live, type, signal);
          const now = await liveReleases(app);
          if (isDeepStrictEqual(now, live)) return committed;
          live = now;
        }
      });
    },
  };

  async function move(
    release: string,
    { app, row, of }: Awaited<ReturnType<typeof find>>,
  ): Promise<{ why: string | null; wake: readonly string[] }> {
    const { application, type } = of;
    const key = `${workflowId.delivery(of)}/live`;
    const subject = `${application}/${type}`;
    for (;;) {
      const { generation, release: before } = await records.livePointer(application, type);
      const result = await records.moveLivePointer(
        { key, application, type, generation, release, revert: false },
        {
          ...{ key, project: app.project, kind: 'application.live', actor: application, subject },
          ...{ digest: row.digest, report: row.report, reason: 'all gates passed' },
          detail: { release, version: subjectOf(row), generation, gates: app.gates },
          at: new Date().toISOString(),
        },
      );
      if (result.moved) {
        // If an earlier attempt made the move, only the history has the previous release.
        const moved = result.pointer.generation;
        const former = moved === generation + 1 ? before : await liveAtGeneration(of, moved - 1);
        const formerRow = former ? await records.release(former) : undefined;
        const touched = [row, ...(formerRow ? [formerRow] : [])];
        return { why: null, wake: touched.map((one) => workflowId.modelLifecycle(one)) };
      }
      // A person moved the pointer meanwhile. A newer release still replaces it, so retry.
      if (result.why === 'generation') continue;
      // Another gate was configured meanwhile. The delivery starts again with it.
      if (result.why === 'gates') return { why: 'gates that are configured now have not passed', wake: [] };
      const now = (await records.livePointer(application, type)).release ?? 'nothing';
      const why =
        result.why === 'fenced'
          ? `${release} was withdrawn by a manager`
          : `${release} is not newer than ${now}, which is live`;
      await records.concludeDelivery(of, why);
      return { why, wake: [] };
    }
  }

  async function liveAtGeneration({ application, type }: DeliveryKey, generation: number): Promise<string | null> {
    const page = { application, type, after: String(generation + 1), limit: 1 };
    const newest = (await records.liveHistory(page)).rows[0];
    return newest?.generation === generation ? newest.release : null;
  }

  /** The live releases of an application, at most one per type. */
  async function liveReleases({ application, types }: Application): Promise<readonly Release[]> {
    const pointers = await Promise.all(types.map((type) => records.livePointer(application, type)));
    return Promise.all(
      pointers.flatMap(({ release }) => (release ? [mustHave(records.release(release), `release ${release}`)] : [])),
    );
  }

  /**
   * A release being delivered to the application that this activity works for, also when it runs in the application's
   * delivery.
   */
  async function find(release: string): Promise<{ app: Application; row: Release; of: DeliveryKey }> {
    const parsed = parseWorkflowId(currentWorkflow());
    const application =
      parsed?.workflow === 'delivery'
        ? ofWorkflow('delivery', 'application').application
        : ofWorkflow('application', 'application').application;
    if (parsed?.workflow === 'delivery' && parsed.of['release'] !== release)
      throw failure('NotAuthorized', `workflow ${currentWorkflow()} does not deliver ${release}`);
    const [app, row] = await Promise.all([
      mustHave(records.application(application), `application ${application}`),
      mustHave(records.release(release), `release ${release}`),
    ]);
    const { type } = row;
    if (!app.types.includes(type))
      throw failure('InvalidInput', `release ${release} is of type ${type}, which ${application} does not consume`);
    if (!(await records.mayConsume(app.project, type)))
      throw failure(
        'NotAuthorized',
        `project ${row.project} no longer lets project ${app.project} consume ${type}: ask its manager for the grant`,
      );
    return { app, row, of: { application, type, release } };
  }

  /** Checks that every file in the release store has its approved digest. */
  async function bytesAreWhole({ release, files }: Release): Promise<void> {
    await beating(async (signal, report) => {
      for (const { name, uri, sha256 } of files) {
        report({ checking: name });
        const stored = await releases.digest(uri, signal);
        if (stored !== sha256)
          throw failure('DigestMismatch', digestMismatch(`${name} of ${release} in the release store`, stored, sha256));
      }
    });
  }

  /** Commits `model.lock` without this type, because no release of it is live. */
  async function commitNothing(
    app: Application,
    rows: readonly Release[],
    type: string,
    signal: AbortSignal,
  ): Promise<{ commit: string }> {
    await code.ensure(app.repository);
    return code.commit({
      ...{ repository: app.repository, branch: 'main', author: app.owner, signal },
      files: { 'model.lock': `${JSON.stringify(lockOf(app, rows), null, 2)}\n` },
      message: `taken down: ${type}`,
    });
  }

  /**
   * Rebuilds the lock from the records, ignoring the file's content: a person may have edited it. `row` is the release it
   * is committed for.
   */
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

/** The reason if the work failed with a non-retryable failure, otherwise undefined. Retryable failures are thrown again. */
async function beatingReason(work: () => Promise<void>): Promise<{ reason: string; message: string } | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof ApplicationFailure) || !isFinal(error)) throw error;
    return { reason: error.type ?? 'Conflict', message: error.message };
  }
}

/** Types in the application's own order, so that the same releases give the same bytes. */
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
