// What all plain activities use: one transaction, files beside a version, jobs, and rows of decisions.
import { Context } from '@temporalio/activity';
import type pg from 'pg';
import { once } from '../../../activities/model-center.ts';
import type { Signer } from '../../../activities/signing.ts';
import { newToken } from '../../../activities/tokens.ts';
import type { Decision, NamedArtifact, Version } from '../../../workflows/domain/model.ts';
import type { StorePath } from '../../../workflows/domain/names.ts';
import { stagingFolder, storePath } from '../../../workflows/domain/names.ts';
import type { InstantSystems } from './instant-systems.ts';
import { audit, insert, set, type Statement } from './plain-rows.ts';
import { runJob as runToEnd } from '../../contracts/run-job.ts';

export const now = (): string => new Date().toISOString();
export const signal = (): AbortSignal => Context.current().cancellationSignal;
export const workflow = (): string => Context.current().info.workflowExecution?.workflowId ?? '';

export interface PlainDeps {
  readonly pool: pg.Pool;
  readonly systems: InstantSystems;
  readonly signer: Pick<Signer, 'seal'>;
  readonly scratch: string;
}

export type PlainGround = ReturnType<typeof openPlainGround>;

/** Opened once for all plain activities. */
export function openPlainGround({ pool, systems, signer }: Omit<PlainDeps, 'scratch'>) {
  const { areas, cluster } = systems;

  return { write, beside, runJob, artifactAt, decisionRows };

  /** One transaction. */
  async function write(...statements: readonly Statement[]): Promise<void> {
    const client = await pool.connect();
    try {
      await client.query('begin');
      for (const { text, values } of statements) await client.query(text, [...values]);
      await client.query('commit');
    } catch (error) {
      await client.query('rollback');
      throw error;
    } finally {
      client.release();
    }
  }

  function beside(of: Pick<Version, 'project' | 'model' | 'submission'>, file: string, content: object) {
    return areas.write(
      staged(of, `record/${file}.json`),
      once(Buffer.from(JSON.stringify(signer.seal(content), null, 1))),
    );
  }

  /** A job with a token of its own, which is revoked at its end. */
  async function runJob(name: string, inputs: readonly NamedArtifact[], outputs: { name: string; path: StorePath }[]) {
    const { token, tokenId, sha256 } = newToken();
    const columns = {
      token_id: tokenId,
      sha256,
      kind: 'job',
      name,
      expires_at: now(),
      job: JSON.stringify({ outputs }),
    };
    const entry = (kind: string) => audit(`${kind}/${tokenId}`, kind, { subject: name });
    await write(entry('token.issued'), insert('authoritative.tokens', columns));
    systems.expectJob(name, outputs);
    await runToEnd(
      { cluster, api: { tokenOf: () => token } },
      {
        ...{ name, inputs, argv: [], lock: '', parameters: {}, compute: 'cpu', deadlineSeconds: 60 },
        outputs: outputs.map((output) => ({ name: output.name, required: true })),
        resources: { cpus: 1, memoryBytes: 1, diskBytes: 1 },
        data: { api: '', job: name },
      },
    );
    await write(entry('token.revoked'), set('authoritative.tokens', { revoked_at: now() }, { token_id: tokenId }));
  }

  async function artifactAt(path: StorePath, name: string): Promise<NamedArtifact> {
    const uri = areas.uri(path);
    const found = await areas.stat(uri);
    return { uri, sha256: await areas.digest(uri), bytes: found?.bytes ?? 0, name };
  }

  /** A decision and the command it answers. */
  function decisionRows(
    decision: Decision,
    { digest, revision }: { readonly digest: string | null; readonly revision: number },
    status: 'pending' | 'complete',
  ): readonly Statement[] {
    const { commandId, name, actor, reason, report, at } = decision;
    const id = { workflow_id: workflow(), command_id: commandId };
    const by = { name, actor };
    const text = { subject: 'p', mark: '', command: JSON.stringify(decision), status: 'done' };
    return [
      insert('authoritative.commands', { ...id, ...by, ...text, project: 'p' }),
      insert('authoritative.decisions', {
        ...{ ...id, ...by, reason, report, policy_version: 1, at, detail: '{}', digest, revision, status },
      }),
    ];
  }
}

/** A path in a version's staging folder. */
export const staged = (
  { project, model, submission }: Pick<Version, 'project' | 'model' | 'submission'>,
  file: string,
) => storePath({ area: 'staging', project, path: `${stagingFolder(model, submission)}/${file}` });

/** The value. Throws if it is missing. */
export function mustHave<T>(found: T | null | undefined): T {
  if (found === undefined || found === null) throw new Error('a file or digest of the plain passage is missing');
  return found;
}
