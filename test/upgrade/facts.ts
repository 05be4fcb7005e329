// What a platform has acknowledged, as lines of text: the new program must still confirm everything.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { ProjectName, Scene } from './scene.ts';
import { types } from './scene.ts';

const page = <Row extends z.ZodType>(row: Row) => z.object({ rows: z.array(row), next: z.unknown().optional() });
const file = z.object({ name: z.string(), sha256: z.string() });
const submissionSchema = z.object({ model: z.string(), submission: z.string() });
const evaluationSchema = z.object({
  evaluation: z.string(),
  state: z.string(),
  passed: z.boolean().nullable(),
  report: z.object({ sha256: z.string() }).nullable(),
});
const releaseSchema = z.object({
  ...{ release: z.string(), digest: z.string(), approvedBy: z.array(z.string()), releasedBy: z.string() },
  ...{ submission: z.string(), files: z.array(file) },
  /** The earlier program does not tell, and serves the files all the same. */
  withdrawn: z.object({}).nullish(),
});
const dataSetSchema = z.object({ dataset: z.string(), kind: z.string(), files: z.array(file) });
const memberSchema = z.object({ user: z.string(), roles: z.array(z.string()) });
const importSchema = z.object({ import: z.string(), state: z.string(), files: z.array(file) });
const scanSchema = z.object({
  scan: z.string(),
  findings: z.array(
    z.object({ finding: z.string(), label: z.object({ verdict: z.string(), by: z.string().optional() }).nullable() }),
  ),
});
const deliverySchema = z.object({ release: z.string(), state: z.string() });
const outcomeSchema = z.object({ outcome: z.object({ status: z.string() }).nullable() });
/** One page holds all that the proof makes. */
const ALL = '?limit=500';

/** Everything that is decided, recorded or finished, a line each. */
export async function acknowledged(scene: Scene): Promise<readonly string[]> {
  const [mia, dev, eve] = [scene.as('mia'), scene.as('dev'), scene.as('eve')];
  const facts: string[] = [];
  for (const project of ['p', 'q'] as const) facts.push(...(await versionFacts(scene, project)));
  for (const { user, roles } of (await mia.get('/v1/projects/p/members', page(memberSchema))).rows)
    facts.push(`member ${user}: ${roles.join(', ')}`);
  for (const row of (await mia.get(`/v1/projects/p/evaluations${ALL}`, page(evaluationSchema))).rows)
    if (row.state !== 'running') {
      facts.push(`evaluation ${row.evaluation} ${row.state}, passed: ${row.passed}, report ${row.report?.sha256}`);
      if (row.report) facts.push(await bytesFact(scene, `/v1/projects/p/evaluations/${row.evaluation}/report`));
    }
  for (const type of types)
    for (const { release, digest, approvedBy, releasedBy, submission, files, withdrawn } of (
      await mia.get(`/v1/types/${type}/releases${ALL}`, page(releaseSchema))
    ).rows) {
      facts.push(`release ${release} of ${digest}, approved by ${approvedBy.join(', ')}, released by ${releasedBy}`);
      // The files of a release that was withdrawn are served beside its version only.
      const folder = withdrawn ? scene.pathOf(submission) : `/v1/releases/${release}`;
      for (const { name } of files)
        facts.push(await bytesFact(scene, `${folder}/files/${name}`, `file ${name} of release ${release}`));
    }
  for (const { dataset, kind, files } of (await mia.get(`/v1/projects/p/datasets`, page(dataSetSchema))).rows)
    facts.push(`data set ${dataset} (${kind}): ${filesText(files)}`);
  for (const { import: id, state, files } of (await mia.get(`/v1/projects/p/imports${ALL}`, page(importSchema))).rows)
    if (['done', 'failed', 'cancelled'].includes(state)) facts.push(`import ${id} ${state}: ${filesText(files)}`);
  for (const { scan } of (await eve.get(`/v1/projects/p/scans${ALL}`, page(scanSchema.pick({ scan: true })))).rows)
    for (const { finding, label } of (await eve.get(`/v1/projects/p/scans/${scan}`, scanSchema)).findings)
      if (label) facts.push(`label ${scan}/${finding}: ${label.verdict}`);
  for (const { release, state } of (await dev.get(`/v1/applications/scanner/deliveries${ALL}`, page(deliverySchema)))
    .rows)
    // What is live is replaced by the next release.
    if (state === 'failed') facts.push(`delivery of ${release} failed`);
  return facts;
}

async function versionFacts(scene: Scene, project: ProjectName): Promise<readonly string[]> {
  const mia = scene.as('mia');
  const facts: string[] = [];
  const { rows } = await mia.get(`/v1/projects/${project}/versions${ALL}`, page(submissionSchema));
  for (const { submission } of rows) {
    const { version, digest, author, decisions } = await scene.version(submission, project);
    facts.push(`version ${project}/${submission} of ${author}`);
    if (digest !== null) facts.push(`version ${project}/${submission} is number ${version}, sha256 ${digest}`);
    for (const { commandId, name, actor, reason } of decisions) {
      facts.push(`decision on ${project}/${submission}: ${name} by ${actor} ("${reason}"), command ${commandId}`);
      const asked = `${scene.pathOf(submission, project)}/commands/${commandId}`;
      facts.push(`command ${commandId}: ${(await mia.get(asked, outcomeSchema)).outcome?.status}`);
    }
  }
  return facts;
}

/** The digest of what is served under a path. */
async function bytesFact(scene: Scene, path: string, what = path): Promise<string> {
  const bytes = await scene.read('mia', path);
  return `${what} has sha256 ${createHash('sha256').update(bytes).digest('hex')}`;
}

const filesText = (files: readonly z.infer<typeof file>[]): string =>
  files.map(({ name, sha256 }) => `${name} ${sha256}`).join(', ') || 'no files';
