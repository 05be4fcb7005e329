// Judges a command by the domain's tables and the current state: without locks when it arrives, and again under locks when it is decided.
import { failure } from '../../failures.ts';
import type { CommandBody } from '../../../workflows/domain/command.ts';
import { parseWorkflowId, workflowId } from '../../../workflows/domain/ids.ts';
import { judgeLabels } from '../../../workflows/domain/labels.ts';
import type { Refusal } from '../../../workflows/domain/lifecycle.ts';
import { judge } from '../../../workflows/domain/lifecycle.ts';
import { judgePointer } from '../../../workflows/domain/live-pointer.ts';
import type { Application, LivePointer, Scan } from '../../../workflows/domain/model.ts';
import type { Pending } from '../../../workflows/domain/standing.ts';
import { pendingOf } from './commands.ts';
import type { Database, Work } from './connection.ts';
import { lock } from './connection.ts';
import { releaseLock } from './releases.ts';
import type { ProjectNow, VersionNow } from './standings.ts';
import { closedMessage, projectNow, standingFor, versionNow } from './standings.ts';

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

/**
 * Reads an application's pointer. If `locked`, project, named release and pointer cannot change until the transaction
 * ends.
 */
export async function pointerNow(
  db: Database,
  { application, type }: { application: string; type: string },
  locked: false | { readonly release?: string | undefined },
): Promise<PointerNow> {
  const found = await db
    .selectFrom('authoritative.applications')
    .select('row')
    .where('application', '=', application)
    .executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no application ${application}`);
  const project = await projectNow(db, found.row.project, locked !== false);
  if (locked && locked.release !== undefined) await lock(db as Work, releaseLock(locked.release));
  let query = db
    .selectFrom('authoritative.live_pointers')
    .selectAll()
    .where('application', '=', application)
    .where('type', '=', type);
  if (locked) query = query.forUpdate();
  const pointer = await query.executeTakeFirst();
  if (!pointer) throw failure('NotFound', `application ${application} does not consume type ${type}`);
  const { generation, release, moved_at } = pointer;
  return {
    ...project,
    app: found.row,
    pointer: { application, type, generation, release, movedAt: moved_at },
    pending: await pendingOf(db, workflowId.application({ application, type })),
  };
}

/** Reads a scan. With `lock`, project and scan cannot change until the transaction ends. */
export async function scanNow(
  db: Database,
  { project, scan }: { project: string; scan: string },
  locked: boolean,
): Promise<ScanNow> {
  const members = await projectNow(db, project, locked);
  let query = db.selectFrom('projection.scans').select('row').where('project', '=', project).where('scan', '=', scan);
  if (locked) query = query.forUpdate();
  const found = await query.executeTakeFirst();
  if (!found) throw failure('NotFound', `there is no scan ${scan} in project ${project}`);
  return { ...members, scan: found.row, pending: await pendingOf(db, workflowId.feedback({ project, scan })) };
}
