// Starts a submission from a training run or from a directory in the author's private area.
import { z } from 'zod';
import type { CodeHost } from '../activities/ports.ts';
import type { Project, Records } from '../activities/records.ts';
import { lockMessage, lockProblems } from '../workflows/domain/lock.ts';
import type { RunSpec } from '../workflows/domain/model.ts';
import { LONGEST_RUN_SECONDS } from '../workflows/domain/compute.ts';
import { newVersion } from '../workflows/domain/model.ts';
import { subjectOf } from '../workflows/domain/names.ts';
import type { Beginning } from '../workflows/messages.ts';
import { workflowId } from '../workflows/messages.ts';
import { auditEntry } from './audit-entry.ts';
import { codeRepository } from './code.ts';
import { offeredProfile } from './compute-profiles.ts';
import type { ApiDeps } from './deps.ts';
import { problem } from './problems.ts';
import { recordStart } from './once.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { distinct, nameSchema, pathSchema, textSchema } from './schemas.ts';
import { versionView } from './views.ts';

const names = distinct<string>((name) => name, 'a data set');

const RUN_SECONDS = 3_600;

const run = z.strictObject({
  /** A commit id or a branch, resolved to a commit now. */
  commit: pathSchema,
  entrypoint: pathSchema,
  lock: pathSchema,
  data: z.array(nameSchema).max(50).refine(names.check, names.message),
  parameters: z
    .record(
      z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'a parameter name must be a valid identifier'),
      z.union([textSchema(2_000), z.number(), z.boolean()], {
        error:
          'a parameter is a text of at most 2,000 characters without control characters, a number, or true or false',
      }),
    )
    .default({}),
  seed: z.int().min(0).max(4_294_967_295).default(0),
  compute: nameSchema.default('cpu'),
  /** By default an hour, or less if the profile allows less. */
  deadlineSeconds: z.int().min(1).max(LONGEST_RUN_SECONDS).optional(),
});

export const submissionRoutes = ({ records, code, workflows, signer }: ApiDeps): readonly Route[] => [
  route({
    method: 'post',
    path: '/v1/projects/{project}/models/{model}/submissions',
    operationId: 'startSubmission',
    summary: 'Starts a lifecycle; repeating the request is harmless, a different one under the same id is a conflict',
    action: 'version.start',
    body: z.strictObject({
      submission: nameSchema,
      type: nameSchema,
      from: z.union([z.strictObject({ run }), z.strictObject({ directory: pathSchema })], {
        error:
          'from must be { run: { commit, entrypoint, lock, data, … } } or { directory: "path in your private area" }',
      }),
    }),
    // The program gets the parameters: 1.0 and 1 may mean different things to it.
    isExact: ([from, run, field]) => from === 'from' && run === 'run' && field === 'parameters',
    response: versionView,
    statuses: [200, 201],
    async handler({ project, params: { model }, principal, roles, body: { submission, type, from } }) {
      if (!project.types.includes(type))
        throw problem(422, 'no-such-type', `type: project ${project.project} owns ${project.types.join(', ')}`);
      const ids = { project: project.project, model, submission };
      const beginning: Beginning =
        'run' in from ? { run: await runSpec(records, code, project, from.run) } : { directory: from.directory };
      const input = { ...ids, type, author: principal.name, beginning };
      const row = newVersion(input, signer.newest, new Date().toISOString());
      const id = workflowId.modelLifecycle(ids);
      await recordStart(
        records,
        { workflowId: id, type: 'modelLifecycle', input, askedBy: principal.name, roles, project: project.project },
        auditEntry({
          key: `version.started/${id}`,
          project: project.project,
          kind: 'version.started',
          actor: principal.name,
          subject: subjectOf(ids),
          detail: { request: { type, author: principal.name, beginning }, keyId: row.keyId },
        }),
        [{ kind: 'version', row }],
      );
      // Only after the start is recorded: a refused request must not reference data sets.
      if ('run' in beginning)
        await records.nameDataSets(project.project, beginning.run.data, {
          kind: 'run',
          name: `${model}/${submission}`,
        });
      const { version, closed } = await records.versionStanding(ids);
      const { started } = closed ? { started: false } : await workflows.startLifecycle(input);
      return { status: started ? 201 : 200, body: version };
    },
  }),
];

async function runSpec(
  records: Records,
  code: CodeHost,
  { project }: Project,
  given: z.output<typeof run>,
): Promise<RunSpec> {
  const profile = await offeredProfile(records, project, { ...given, where: 'from.run.' });
  const repository = codeRepository(project);
  await code.ensure(repository);
  const commit = await code.resolve(repository, given.commit);
  if (commit === undefined)
    throw problem(422, 'no-such-commit', `from.run.commit: ${repository} has no such commit, branch or tag`);
  const read = async (file: string): Promise<Uint8Array> => {
    const bytes = await code.read(repository, commit, file);
    if (!bytes) throw problem(422, 'no-such-file', `from.run: there is no ${file} at commit ${commit}`);
    return bytes;
  };
  await read(given.entrypoint);
  const problems = lockProblems(Buffer.from(await read(given.lock)).toString('utf8'));
  if (problems.length > 0) {
    const errors = problems.map(({ line, message }) => ({ where: `${given.lock}, line ${line}`, message }));
    throw problem(422, 'improper-lock', `from.run.lock: ${lockMessage(given.lock, problems)}`, { errors });
  }
  for (const name of given.data) {
    const found = await records.dataSet(project, name);
    if (!found) throw problem(422, 'no-such-data-set', `from.run.data: there is no data set "${name}": register it`);
    if (found.kind !== 'training')
      throw problem(422, 'test-set', `from.run.data: "${name}" is a test set, which must not be used for training`);
  }
  const { entrypoint, lock, data, parameters, seed, compute } = given;
  const deadlineSeconds = given.deadlineSeconds ?? Math.min(RUN_SECONDS, profile.deadlineSeconds);
  return { code: { repository, commit }, entrypoint, lock, data, parameters, seed, compute, deadlineSeconds };
}
