// Judges a command by the domain's tables and the current state: without locks when it arrives, and again under locks when it is decided.
import { sql } from 'kysely';
import { failure } from '../../failures.ts';
import type { CommandBody } from '../../../workflows/domain/command.ts';
import { parseWorkflowId, partsOf, workflowId } from '../../../workflows/domain/ids.ts';
import { judgeLabels } from '../../../workflows/domain/labels.ts';
import type { Refusal } from '../../../workflows/domain/lifecycle.ts';
import { judge } from '../../../workflows/domain/lifecycle.ts';
import { judgePointer } from '../../../workflows/domain/live-pointer.ts';
import type { Application, LivePointer, Scan } from '../../../workflows/domain/model.ts';
import type { Pending } from '../../../workflows/domain/standing.ts';
import { pendingColumn } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { lock } from './connection.ts';
import { releaseLock } from './releases.ts';
import type { ProjectColumns, ProjectNow, VersionNow } from './standings.ts';
import { closedMessage, lockProject, projectColumns, projectOf, standingFor, versionNow } from './standings.ts';

/** An application's pointer, with everything needed to judge a decision about it. */
export interface PointerNow extends ProjectNow {
  readonly app: Application;
  readonly pointer: LivePointer;
  readonly pending: Pending | null;
}

/** A scan, with everything needed to judge a label. */
export interface ScanNow extends ProjectNow {
  readonly scan: Scan;
  readonly pending: Pending | null;
}

/** Why the command is refused in the current state; undefined if it may be carried out. Locks nothing. */
export async function judgeNow(db: Database, id: string, body: CommandBody): Promise<Refusal | undefined> {
  const parsed = parseWorkflowId(id);
  const of = (name: string): string => parsed?.of[name] ?? '';
  switch (parsed?.workflow) {
    case 'modelLifecycle': {
      const key = { project: of('project'), model: of('model'), submission: of('submission') };
      const now = await versionNow(db, key, false);
      return refusalOf(judgeVersion(now, body, now.at));
    }
    case 'application': {
      const now = await pointerNow(db, { application: of('application'), type: of('type') }, false);
      return refusalOf(judgeMove(now, body));
    }
    case 'feedback':
      return judgeScan(await scanNow(db, { project: of('project'), scan: of('scan') }, false), body);
    case 'trainingRun':
    case 'evaluation':
    case 'release':
    case 'delivery':
    case 'dataImport':
    case undefined:
      return { refused: 'wrong-workflow', message: `${id} takes no commands` };
  }
}

const refusalOf = (verdict: object): Refusal | undefined => ('refused' in verdict ? (verdict as Refusal) : undefined);

/**
 * Judges by the lifecycle's table and the version's current state. `givenAt`: an undo recorded before the deadline
 * counts, even if it is decided later.
 */
export function judgeVersion(now: VersionNow, body: CommandBody, givenAt: string): ReturnType<typeof judge> {
  if (now.closed) return { refused: 'closed', message: closedMessage(now.version) };
  if (body.name === 'undo' && now.version.state === 'rejected' && now.undoUntil !== null)
    if (Date.parse(now.undoUntil) <= Date.parse(givenAt))
      return { refused: 'wrong-state', message: `the rejection could be undone until ${now.undoUntil}` };
  return judge(standingFor(now), body, now.members.get(body.actor) ?? []);
}

export const judgeMove = ({ app, pointer, pending, members }: PointerNow, body: CommandBody) =>
  judgePointer({ pointer, owner: app.owner, busy: pending?.commandId ?? null }, body, members.get(body.actor) ?? []);

export const judgeScan = ({ scan, pending, members }: ScanNow, body: CommandBody): Refusal | undefined =>
  judgeLabels(scan, body, members.get(body.actor) ?? [], pending?.commandId ?? null);

interface PointerColumns extends ProjectColumns {
  readonly app: Application;
  readonly generation: number | null;
  readonly release: string | null;
  readonly moved_at: string | null;
  readonly pending: Pending | null;
}

/** The application and type of an application workflow. */
export const applicationOf = (workflowId: string) => partsOf(workflowId, 'application', 'application', 'type');

/**
 * Reads an application's pointer, in one statement. If `locked`, application, project, named release and pointer are locked
 * first and cannot change until the transaction ends.
 */
export async function pointerNow(
  db: Database,
  { application, type }: { application: string; type: string },
  locked: false | { readonly release?: string | undefined },
): Promise<PointerNow> {
  if (locked) await lockPointer(db as Work, { application, type }, locked.release);
  const { rows } = await sql<PointerColumns>`
    select ${projectColumns}, a.row as app, p.generation, p.release, p.moved_at,
      ${pendingColumn(workflowId.application({ application, type }))}
    from authoritative.applications a join authoritative.projects project on project.project = a.row->>'project'
    left join authoritative.live_pointers p on p.application = a.application and p.type = ${type}
    where a.application = ${application}`.execute(db);
  const found = rows[0];
  if (!found) throw failure('NotFound', `there is no application ${application}`);
  const { app, generation, release, moved_at, pending } = found;
  if (generation === null) throw failure('NotFound', `application ${application} does not consume type ${type}`);
  return { ...projectOf(found), app, pointer: { application, type, generation, release, movedAt: moved_at }, pending };
}

/** Locks application, project, release and pointer, always in this order. */
async function lockPointer(
  trx: Work,
  { application, type }: { application: string; type: string },
  release: string | undefined,
): Promise<void> {
  const found = await trx
    .selectFrom('authoritative.applications')
    .select('row')
    .where('application', '=', application)
    .forShare()
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no application ${application}`);
  await lockProject(trx, found.row.project);
  if (release !== undefined) await lock(trx, releaseLock(release));
  await trx
    .selectFrom('authoritative.live_pointers')
    .select('generation')
    .where('application', '=', application)
    .where('type', '=', type)
    .forUpdate()
    .executeTakeFirst();
}

interface ScanColumns extends ProjectColumns {
  readonly scan: Scan | null;
  readonly pending: Pending | null;
}

/** Reads a scan, in one statement. If `locked`, project and scan are locked first and cannot change until the transaction ends. */
export async function scanNow(
  db: Database,
  { project, scan }: { project: string; scan: string },
  locked: boolean,
): Promise<ScanNow> {
  if (locked) {
    await lockProject(db, project);
    await db
      .selectFrom('projection.scans')
      .select('revision')
      .where('project', '=', project)
      .where('scan', '=', scan)
      .forUpdate()
      .executeTakeFirst();
  }
  const { rows } = await sql<ScanColumns>`
    select ${projectColumns}, s.row as scan, ${pendingColumn(workflowId.feedback({ project, scan }))}
    from authoritative.projects project
    left join projection.scans s on s.project = project.project and s.scan = ${scan}
    where project.project = ${project}`.execute(db);
  const found = rows[0];
  if (!found) throw failure('NotFound', `there is no project ${project}`);
  if (!found.scan) throw failure('NotFound', `there is no scan ${scan} in project ${project}`);
  return { ...projectOf(found), scan: found.scan, pending: found.pending };
}
