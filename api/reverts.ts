// Application commands: revert the live version to an earlier one, or take it down.
import { z } from 'zod';
import { applicationCommands } from '../workflows/domain/command.ts';
import { workflowId } from '../workflows/messages.ts';
import { applicationScope } from './applications.ts';
import { carryOut, commandAnswer, commandFields, lookUpCommand } from './commands.ts';
import type { ApiDeps } from './deps.ts';
import { notFound } from './problems.ts';
import { recordRefused } from './refusals.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { releaseSchema, textSchema } from './schemas.ts';

const commands = '/v1/applications/{application}/types/{type}/commands';
const pointerSubject = ({ application, type }: { application: string; type: string }): string =>
  `${application}/${type}`;
const addressOf = ({ application, type }: { application: string; type: string }): string =>
  `/v1/applications/${application}/types/${type}/commands`;

export const revertRoutes = (deps: ApiDeps): readonly Route[] => {
  const { records } = deps;
  const ofApplication = applicationScope(records);
  const scope = async (asked: Parameters<typeof ofApplication>[0] & { params: { type: string } }) => {
    const scoped = await ofApplication(asked);
    return scoped?.found.types.includes(asked.params.type) ? scoped : undefined;
  };
  return [
    route({
      method: 'post',
      path: commands,
      operationId: 'commandApplication',
      summary:
        'Reverts to an earlier release that was live here, or takes down the live one; `revision` is the generation that you saw',
      action: 'application.revert',
      scope,
      onRefused: async ({ params, principal, roles, body }, action) => {
        const application = await records.application(params.application);
        if (!application) return;
        const { project } = application;
        await recordRefused(records, { principal, roles, action, body, project, subject: pointerSubject(params) });
      },
      body: z.strictObject({
        ...commandFields,
        name: z.enum(applicationCommands),
        /** `revert` names the target release; `take-down` names none. */
        args: z.strictObject({ release: releaseSchema.optional(), reason: textSchema(2_000).default('') }),
      }),
      response: commandAnswer,
      statuses: [200, 202],
      async handler({ params, found, principal, roles, body, request }) {
        const project = await records.project(found.project);
        if (!project) throw notFound(`project "${found.project}"`);
        return carryOut(deps, {
          ...{ principal, roles, body, request },
          project: found.project,
          policyVersion: project.policy.version,
          workflowId: workflowId.application(params),
          subject: pointerSubject(params),
          commands: addressOf(params),
        });
      },
    }),
    route({
      method: 'get',
      path: `${commands}/{commandId}`,
      operationId: 'getApplicationCommand',
      summary: 'The outcome of a command',
      action: 'application.see',
      scope,
      response: commandAnswer,
      statuses: [200, 202],
      handler: ({ params }) =>
        lookUpCommand(deps, {
          workflowId: workflowId.application(params),
          commandId: params.commandId,
          address: `${addressOf(params)}/${params.commandId}`,
        }),
    }),
  ];
};
