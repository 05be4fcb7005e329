// Code: commits to the project's own repository.
import { z } from 'zod';
import type { ApiDeps } from './deps.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { branchSchema, pathSchema, textSchema } from './schemas.ts';

/** The repository with a project's training code. */
export const codeRepository = (project: string): string => `${project}/code`;

const content = z.union([z.string(), z.strictObject({ base64: z.base64() })]);

export const codeRoutes = ({ code }: ApiDeps): readonly Route[] => [
  route({
    method: 'post',
    path: '/v1/projects/{project}/code/commits',
    operationId: 'commitCode',
    summary: "Commits files to the project's code repository; the same files again make no new commit",
    action: 'code.commit',
    isLarge: true,
    body: z.strictObject({
      branch: branchSchema,
      message: textSchema(2_000).min(1),
      files: z.record(pathSchema, content).refine((files) => {
        const count = Object.keys(files).length;
        return count > 0 && count <= 500;
      }, 'between 1 and 500 files'),
    }),
    response: z.object({ commit: z.string(), repository: z.string() }),
    statuses: [201],
    async handler({ params: { project }, principal, body: { branch, message, files }, request }) {
      const repository = codeRepository(project);
      await code.ensure(repository);
      const { commit } = await code.commit({
        repository,
        branch,
        message,
        author: principal.name,
        files: Object.fromEntries(
          Object.entries(files).map(([path, file]) => [
            path,
            typeof file === 'string' ? file : new Uint8Array(Buffer.from(file.base64, 'base64')),
          ]),
        ),
        signal: request.signal,
      });
      return { status: 201, body: { commit, repository } };
    },
  }),
];
