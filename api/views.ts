// Output schemas: the domain's objects as the API shows them. Storage locations (URIs) are never exposed.
import { z } from 'zod';
import type {
  AuditCheck,
  AuditRow,
  Project,
  ScanSummary,
  StandingMember,
  TypeAccess,
  VersionSummary,
} from '../activities/records.ts';
import type { Outcome } from '../workflows/domain/command.ts';
import type { ComputeProfile, Placement } from '../workflows/domain/compute.ts';
import { versionStates } from '../workflows/domain/lifecycle.ts';
import type {
  Application,
  DataSet,
  Delivery,
  Evaluation,
  LivePointer,
  NamedArtifact,
  Policy,
  RunRecord,
  Scan,
  StandingRelease,
  Version,
  Withdrawal,
} from '../workflows/domain/model.ts';
import { deliveryStates } from '../workflows/domain/model.ts';
import type { ArtifactUri } from '../workflows/domain/names.ts';
import { roles } from '../workflows/domain/roles.ts';
import type { Waiting } from './gateway.ts';
import { digestSchema } from './schemas.ts';

/** An object without its URIs. */
export type Shown<T> = T extends string | number | boolean | null | undefined
  ? T
  : T extends readonly (infer Item)[]
    ? readonly Shown<Item>[]
    : { [Key in keyof T as T[Key] extends ArtifactUri ? never : Key]: Shown<T[Key]> };

const list = <T extends z.ZodType>(item: T) => z.array(item).readonly();
const text = z.string();
const textOrNull = z.string().nullable();
const numbers = z.record(z.string(), z.number());

/** A page of rows. Pass `next` as `after` of the next request. */
export const pageOf = <T extends z.ZodType>(row: T) => z.object({ rows: list(row), next: z.string().optional() });
export const rowsOf = <T extends z.ZodType>(row: T) => z.object({ rows: list(row) });

export const fileView = z.object({
  name: text,
  sha256: digestSchema,
  bytes: z.number(),
}) satisfies z.ZodType<Shown<NamedArtifact>>;

export const policyView = z.object({
  version: z.number(),
  quorum: z.number(),
  undoWithinSeconds: z.number(),
  thresholds: numbers,
}) satisfies z.ZodType<Shown<Policy>>;

export const projectView = z.object({ project: text, types: list(text), policy: policyView }) satisfies z.ZodType<
  Shown<Project>
>;
export const memberView = z.object({
  user: text,
  roles: list(z.enum(roles)),
  disabled: z.boolean(),
}) satisfies z.ZodType<Shown<StandingMember>>;

export const profileView = z.object({
  ...{ name: text, cpus: z.number(), memoryBytes: z.number(), diskBytes: z.number(), gpus: z.number() },
  deadlineSeconds: z.number(),
  image: text.optional(),
  nodeSelector: z.record(z.string(), z.string()).optional(),
  tolerations: list(
    z.object({
      key: text,
      operator: z.enum(['Exists', 'Equal']),
      value: text.optional(),
      effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
    }),
  ).optional(),
  pools: list(text).optional(),
}) satisfies z.ZodType<ComputeProfile>;

const placementView = z.object({ profile: profileView, pool: text, reason: text }) satisfies z.ZodType<Placement>;

const runSpecView = z.object({
  code: z.object({ repository: text, commit: text }),
  entrypoint: text,
  lock: text,
  data: list(text),
  parameters: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  seed: z.number(),
  compute: text,
  deadlineSeconds: z.number(),
});

const runView = z.object({
  attempt: z.number(),
  spec: runSpecView,
  inputs: list(fileView),
  environment: digestSchema,
  outputs: list(fileView),
  metrics: numbers,
  log: fileView.nullable(),
  placement: placementView.optional(),
  startedAt: text,
  endedAt: text,
}) satisfies z.ZodType<Shown<RunRecord>>;

export const waitingView = z.object({
  step: text,
  attempts: z.number(),
  reason: text,
  nextTryAt: textOrNull,
}) satisfies z.ZodType<Shown<Waiting>>;

export const versionSummaryView = z.object({
  project: text,
  model: text,
  type: text,
  submission: text,
  author: text,
  state: z.enum(versionStates),
  revision: z.number(),
  version: z.number().nullable(),
  revises: z.number().nullable(),
  digest: digestSchema.nullable(),
  tags: list(text),
  detail: text,
  updatedAt: text,
}) satisfies z.ZodType<Shown<VersionSummary>>;

export const versionView = versionSummaryView.extend({
  files: list(fileView),
  run: runView.nullable(),
  tags: list(text),
  decisions: list(
    z.object({
      ...{ commandId: text, name: text, actor: text, reason: text, report: textOrNull, at: text },
      policyVersion: z.number().optional(),
      compute: text.optional(),
    }),
  ),
  detail: text,
  keyId: text,
}) satisfies z.ZodType<Shown<Version>>;

export const evaluationView = z.object({
  evaluation: text,
  project: text,
  model: text,
  submission: textOrNull,
  actor: text,
  dataset: text,
  state: z.enum(['running', 'done', 'failed']),
  digest: digestSchema.nullable(),
  report: fileView.nullable(),
  passed: z.boolean().nullable(),
  metrics: z.record(z.string(), z.number().nullable()),
  placement: placementView.optional(),
  detail: text,
  updatedAt: text,
}) satisfies z.ZodType<Shown<Evaluation>>;

export const dataSetView = z.object({
  project: text,
  dataset: text,
  kind: z.enum(['training', 'test']),
  files: list(fileView),
  registeredBy: text,
  registeredAt: text,
}) satisfies z.ZodType<Shown<DataSet>>;

/** The decision that withdrew a release. */
export const withdrawalView = z.object({
  decision: text,
  by: text,
  reason: text,
  at: text,
}) satisfies z.ZodType<Shown<Withdrawal>>;

export const releaseView = z.object({
  release: text,
  type: text,
  sequence: z.number(),
  project: text,
  model: text,
  submission: text,
  version: z.number(),
  digest: digestSchema,
  files: list(fileView),
  report: textOrNull,
  approvedBy: list(text),
  releasedBy: text,
  state: z.enum(['allotted', 'announced']),
  releasedAt: text,
  withdrawn: withdrawalView.nullable(),
}) satisfies z.ZodType<Shown<StandingRelease>>;

export const applicationView = z.object({
  application: text,
  revision: z.number(),
  project: text,
  owner: text,
  types: list(text),
  gates: list(text),
  repository: text,
}) satisfies z.ZodType<Shown<Application>>;

/**
 * The owner of a type that an application consumes, and whether its project may currently consume it. Grants can be
 * revoked.
 */
export const subscriptionView = z.object({ type: text, owner: textOrNull, granted: z.boolean() });

export const liveView = z.object({
  application: text,
  type: text,
  generation: z.number(),
  release: textOrNull,
  movedAt: textOrNull,
}) satisfies z.ZodType<Shown<LivePointer>>;

export const deliveryView = z.object({
  application: text,
  release: text,
  type: text,
  state: z.enum(deliveryStates),
  gates: list(z.object({ gate: text, passed: z.boolean(), detail: text, seconds: z.number() })),
  detail: text,
  updatedAt: text,
}) satisfies z.ZodType<Shown<Delivery>>;

const scanFields = {
  scan: text,
  project: text,
  application: text,
  type: text,
  release: text,
  state: z.enum(['open', 'labelled']),
  revision: z.number(),
  commit: textOrNull,
  keyId: text,
  updatedAt: text,
};

export const scanSummaryView = z.object({
  ...scanFields,
  findingCount: z.number(),
  labelCount: z.number(),
}) satisfies z.ZodType<Shown<ScanSummary>>;

export const scanView = z.object({
  ...scanFields,
  findings: list(
    z.object({
      finding: text,
      name: text,
      path: text,
      vulnerable: z.boolean(),
      probability: z.number(),
      source: digestSchema,
      label: z.object({ verdict: z.enum(['true', 'false']), by: text, at: text }).nullable(),
    }),
  ),
}) satisfies z.ZodType<Shown<Scan>>;

export const outcomeView = z.discriminatedUnion('status', [
  z.object({ status: z.literal('refused'), reason: z.string(), message: text }),
  z.object({ status: z.literal('accepted') }),
  z.object({ status: z.literal('done'), message: text }),
  z.object({ status: z.literal('failed'), reason: text, message: text }),
]) satisfies z.ZodType<Shown<Outcome> | { status: 'refused'; reason: string; message: string }>;
/** `seq`, `previous` and `hash` are null until the row is linked into the chain, about a second after it was written. */
export const auditRowView = z.object({
  seq: z.number().nullable(),
  previous: textOrNull,
  hash: textOrNull,
  entry: z.object({
    key: text,
    project: textOrNull,
    kind: text,
    actor: text,
    subject: text,
    digest: textOrNull,
    report: textOrNull,
    reason: text,
    detail: z.record(z.string(), z.unknown()),
    at: text,
  }),
}) satisfies z.ZodType<AuditRow>;

export const auditCheckView = z.object({
  rows: z.number().meta({ description: 'All rows, linked or not' }),
  broken: z.number().nullable().meta({ description: 'The number of the first broken row; null: the chain is intact' }),
  unlinked: z.number().meta({ description: 'Rows that have no place in the chain yet: those of the last second' }),
  overdue: z.number().meta({
    description: 'Of those, rows older than ten seconds: a number above 0 means that no process links rows',
  }),
}) satisfies z.ZodType<AuditCheck>;

export const typeView = z.object({ type: text, owner: text, consumers: list(text) }) satisfies z.ZodType<
  Shown<TypeAccess>
>;
