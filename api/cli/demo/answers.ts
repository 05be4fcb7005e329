// Schemas of the API's responses with only the fields that the demo uses.
import { z } from 'zod';

const text = z.string();

/** A response that is not read. */
export const anySchema = z.unknown();

export const tokenSchema = z.object({ token: text });
export const meSchema = z.object({ name: text });
export const projectSchema = z.object({ project: text });
export const commitSchema = z.object({ commit: text, repository: text });

export const outcomeAnswerSchema = z.object({
  address: text,
  outcome: z
    .object({ status: z.enum(['refused', 'accepted', 'done', 'failed']), message: text.default('') })
    .nullable(),
});

const metricsSchema = z.record(text, z.number().nullable());

export const versionSchema = z.object({
  submission: text,
  state: text,
  revision: z.number(),
  version: z.number().nullable(),
  digest: text.nullable(),
  detail: text,
  run: z.object({ startedAt: text, endedAt: text, metrics: z.record(text, z.number()) }).nullable(),
});
export type Version = z.infer<typeof versionSchema>;
export const shownVersionSchema = z.object({ version: versionSchema });
/** Lists return summaries; here the id of each submission is enough. */
export const versionPageSchema = z.object({
  rows: z.array(z.object({ submission: text })),
  next: z.string().optional(),
});

export const evaluationSchema = z.object({
  evaluation: text,
  state: z.enum(['running', 'done', 'failed']),
  digest: text.nullable(),
  report: z.object({ sha256: text }).nullable(),
  passed: z.boolean().nullable(),
  metrics: metricsSchema,
  detail: text,
});
export type Evaluation = z.infer<typeof evaluationSchema>;

export const reportSchema = z.object({
  testSet: z.object({ rows: z.number(), positives: z.number().nullable() }),
  threshold: z.number(),
  metrics: metricsSchema,
  checks: z.array(z.object({ metric: text, minimum: z.number(), value: z.number().nullable(), passed: z.boolean() })),
  passed: z.boolean(),
  baseline: z.object({ metrics: metricsSchema, delta: metricsSchema }).nullable(),
});
export type Report = z.infer<typeof reportSchema>;

export const releaseRowsSchema = z.object({
  rows: z.array(z.object({ release: text, sequence: z.number(), submission: text, version: z.number() })),
});

export const deliverySchema = z.object({
  state: text,
  detail: text,
  gates: z.array(z.object({ gate: text, passed: z.boolean(), detail: text, seconds: z.number() })),
});
export type Delivery = z.infer<typeof deliverySchema>;

export const liveSchema = z.object({ release: text.nullable(), generation: z.number(), movedAt: text.nullable() });

export const scanSchema = z.object({
  scan: text,
  state: text,
  revision: z.number(),
  commit: text.nullable(),
  findings: z.array(
    z.object({
      finding: text,
      path: text,
      vulnerable: z.boolean(),
      probability: z.number(),
      label: z.object({ verdict: z.enum(['true', 'false']) }).nullable(),
    }),
  ),
});
export type Scan = z.infer<typeof scanSchema>;
