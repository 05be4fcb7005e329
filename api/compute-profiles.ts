// Compute profiles: administrators make them and offer them to projects; whoever starts a run names one of those.
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Records } from '../activities/records.ts';
import type { ComputeProfile } from '../workflows/domain/compute.ts';
import {
  builtInProfiles,
  LONGEST_RUN_SECONDS,
  MOST_GPUS,
  notOffered,
  PROFILES_LIMIT,
} from '../workflows/domain/compute.ts';
import { auditEntry } from './audit-entry.ts';
import type { ApiDeps } from './deps.ts';
import { problem } from './problems.ts';
import type { Route } from './route.ts';
import { route } from './route.ts';
import { distinct, nameSchema } from './schemas.ts';
import { profileView, rowsOf } from './views.ts';

const GIB = 2 ** 30;
const names = distinct<string>((name) => name, 'a name');
const poolNames = z.array(nameSchema).min(1).max(16).refine(names.check, names.message);

/** A label's key, with an optional prefix, and its value, as Kubernetes accepts them. */
const labelKey = z
  .string()
  .max(317)
  .regex(/^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, 'not a label key');
const labelValue = z
  .string()
  .regex(/^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/, 'not a value of a label')
  .max(63);

const profileBody = z.strictObject({
  cpus: z.number().min(0.1).max(1_024),
  memoryBytes: z
    .int()
    .min(GIB / 16)
    .max(16_384 * GIB),
  diskBytes: z
    .int()
    .min(GIB / 1_024)
    .max(16_384 * GIB),
  gpus: z.int().min(0).max(MOST_GPUS).default(0),
  deadlineSeconds: z.int().min(1).max(LONGEST_RUN_SECONDS).default(LONGEST_RUN_SECONDS),
  image: z
    .string()
    .max(512)
    .regex(
      /^[a-z0-9.-]+(:\d+)?(\/[a-z0-9._-]+)+(:\w[\w.-]{0,127})?@sha256:[0-9a-f]{64}$/,
      'an image is named with its registry and digest: registry.example/image@sha256:…',
    )
    .optional(),
  nodeSelector: z
    .record(labelKey, labelValue)
    .refine((labels) => Object.keys(labels).length >= 1 && Object.keys(labels).length <= 16, '1 to 16 labels')
    .refine((labels) => !('kubernetes.io/hostname' in labels), 'a profile selects kinds of nodes, not one node')
    .optional(),
  tolerations: z
    .array(
      z.strictObject({
        key: labelKey,
        operator: z.enum(['Exists', 'Equal']).default('Exists'),
        value: labelValue.optional(),
        effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
      }),
    )
    .min(1)
    .max(16)
    .optional(),
  pools: poolNames.optional(),
});

export const computeRoutes = ({ records }: ApiDeps): readonly Route[] => [
  route({
    method: 'get',
    path: '/v1/compute-profiles',
    operationId: 'listComputeProfiles',
    summary: 'All compute profiles, the built-in ones first',
    action: 'compute.manage',
    response: rowsOf(profileView),
    async handler() {
      return { body: { rows: [...builtInProfiles, ...(await records.computeProfiles())] } };
    },
  }),
  route({
    method: 'put',
    path: '/v1/compute-profiles/{profile}',
    operationId: 'putComputeProfile',
    summary: 'Makes or replaces a compute profile; work that was prepared with the former values keeps them',
    action: 'compute.manage',
    body: profileBody,
    response: profileView,
    async handler({ principal, params: { profile: name }, body }) {
      const profile: ComputeProfile = { name, ...body };
      await records.putComputeProfile(
        profile,
        auditEntry({
          key: `compute.profile/${name}/${randomUUID()}`,
          kind: 'compute.profile',
          actor: principal.name,
          subject: `compute-profiles/${name}`,
          detail: { profile },
        }),
      );
      return { body: profile };
    },
  }),
  route({
    method: 'delete',
    path: '/v1/compute-profiles/{profile}',
    operationId: 'deleteComputeProfile',
    summary: 'Deletes a compute profile that no project is offered',
    action: 'compute.manage',
    response: z.object({ profile: z.string(), removed: z.literal(true) }),
    async handler({ principal, params: { profile } }) {
      await records.deleteComputeProfile(
        profile,
        auditEntry({
          key: `compute.deleted/${profile}/${randomUUID()}`,
          kind: 'compute.deleted',
          actor: principal.name,
          subject: `compute-profiles/${profile}`,
        }),
      );
      return { body: { profile, removed: true as const } };
    },
  }),
  route({
    method: 'get',
    path: '/v1/projects/{project}/compute-profiles',
    operationId: 'listOfferedProfiles',
    summary: 'The compute profiles that the project is offered',
    action: 'project.see',
    response: rowsOf(profileView),
    async handler({ params: { project } }) {
      return { body: { rows: await records.offeredProfiles(project) } };
    },
  }),
  route({
    method: 'put',
    path: '/v1/projects/{project}/compute-profiles',
    operationId: 'offerProfiles',
    summary: 'Sets which compute profiles the project is offered; without this, the built-in ones',
    action: 'project.compute',
    body: z.strictObject({ profiles: z.array(nameSchema).max(PROFILES_LIMIT).refine(names.check, names.message) }),
    response: rowsOf(profileView),
    async handler({ principal, params: { project }, body: { profiles } }) {
      await records.offerProfiles(
        project,
        profiles,
        auditEntry({
          key: `compute.offered/${project}/${randomUUID()}`,
          project,
          kind: 'compute.offered',
          actor: principal.name,
          subject: project,
          detail: { profiles },
        }),
      );
      return { body: { rows: await records.offeredProfiles(project) } };
    },
  }),
];

/** The profile that a request names. Throws what the project is offered instead, or the profile's limit. */
export async function offeredProfile(
  records: Records,
  project: string,
  asked: { readonly compute: string; readonly deadlineSeconds?: number | undefined; readonly where: string },
): Promise<ComputeProfile> {
  const { compute, deadlineSeconds = 0, where } = asked;
  const offered = await records.offeredProfiles(project);
  const profile = offered.find(({ name }) => name === compute);
  if (!profile) throw problem(422, 'no-such-profile', `${where}compute: ${notOffered(compute, project, offered)}`);
  if (deadlineSeconds > profile.deadlineSeconds)
    throw problem(
      422,
      'deadline-too-long',
      `${where}deadlineSeconds: ${deadlineSeconds} s, but the compute profile "${compute}" allows at most ${profile.deadlineSeconds} s`,
    );
  return profile;
}
