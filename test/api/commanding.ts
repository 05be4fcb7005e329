// Commands through the API in tests: on the version rf-1, the pointer of scanner, the scan scan-1, or a separate version.
import { randomUUID } from 'node:crypto';
import type { SignedCommand } from '../../workflows/domain/command.ts';
import type { Version } from '../../workflows/domain/model.ts';
import type { Digest } from '../../workflows/domain/names.ts';
import { DIGEST, recordVersion, REPORT, versionRow } from './passage.ts';
import type { World } from './world.ts';
import { PROJECT, sha256, TYPE } from './world.ts';

export const submission = `/v1/projects/${PROJECT}/models/random-forest/submissions/rf-1`;
export const ofPointer = `/v1/applications/scanner/types/${TYPE}`;
export const ofScan = `/v1/projects/${PROJECT}/scans/scan-1`;
export const approve = { name: 'approve', revision: 3, digest: DIGEST, report: sha256(REPORT) };
export const tag = { name: 'tag', revision: 3, args: { tags: ['tried'] } };
export const WAIT = { prefer: 'wait=5' };

/** The approval of another version, by its bytes. */
export const approveOf = (path: string) => ({ ...approve, digest: sha256(path.slice(path.lastIndexOf('/') + 1)) });

/** Lets the gateway do nothing with commands, and forget those that it got. */
export function forgetSent({ deps: { workflows } }: World): void {
  workflows.onCommand = async () => undefined;
  workflows.sent.length = 0;
  delete workflows.throws.send;
}

export const commandingIn = (world: () => World) => ({
  give: (who: string, body: object, headers: Record<string, string> = {}, path = submission) =>
    world().ask(who, 'POST', `${path}/commands`, body, headers),

  /** Ids of the commands that were signalled. */
  sent: (): readonly string[] => world().deps.workflows.sent.map(({ command }) => command.body.commandId),

  last: (): { workflowId: string; command: SignedCommand } => {
    const one = world().deps.workflows.sent.at(-1);
    if (!one) throw new Error('nothing was sent');
    return one;
  },

  /** Refused commands in the audit. */
  refusals: async (subject: string) =>
    (await world().deps.records.audit({ subject, limit: 500 })).rows
      .map(({ entry }) => entry)
      .filter(({ kind }) => kind === 'command.refused'),

  /** A separate version; returns the path of its submission. */
  another: async (given: Partial<Version> = {}): Promise<string> => {
    const id = `rf-${randomUUID().slice(0, 8)}`;
    await recordVersion(world(), versionRow({ submission: id, digest: sha256(id) as Digest, ...given }));
    return submission.replace('rf-1', id);
  },
});
