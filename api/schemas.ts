// Input schemas: names, paths, ids, pages and common body parts.
import { z } from 'zod';
import { isCommandId } from '../workflows/domain/command.ts';
import { gateNames, metricNames, unknownName } from '../workflows/domain/known-names.ts';
import {
  areaPathProblem,
  NAME_LIMIT,
  NAME_PATTERN,
  nameProblem,
  pathProblem,
  reservedActors,
} from '../workflows/domain/names.ts';
import type { Digest } from '../workflows/domain/names.ts';

/** Validates a text with one of the domain's own checks. */
export const judged = (judge: (text: string) => string | undefined) =>
  z.string().superRefine((text, context) => {
    const message = judge(text);
    if (message) context.addIssue({ code: 'custom', message });
  });

/** A name of a project, model, type, user, application … */
export const nameSchema = judged(nameProblem).meta({ pattern: NAME_PATTERN.source, maxLength: NAME_LIMIT });
/** A name that the audit uses for an actor. Excludes names that the audit reserves. */
export const actorSchema = judged((text) =>
  (reservedActors as readonly string[]).includes(text)
    ? `"${text}" is reserved in the audit: choose another name`
    : nameProblem(text),
).meta({ pattern: NAME_PATTERN.source, maxLength: NAME_LIMIT });
/** A relative path in an area, data set or repository. */
export const pathSchema = judged(pathProblem);
/** A path of an existing file, including files that the platform stored below or beside a person's. */
export const storedPathSchema = judged(areaPathProblem);
export const digestSchema = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'a digest is the SHA-256 in 64 lower-case hexadecimal digits') as unknown as z.ZodType<
  Digest,
  string
>;

export const commandIdSchema = judged((text) =>
  isCommandId(text) ? undefined : 'a command id has 8 to 64 letters, digits, "-" or "_" (a UUID is one)',
);
/** `<type>-<sequence>`: a name, longer by its number. */
export const releaseSchema = z
  .string()
  .max(80)
  .regex(/^[a-z][a-z0-9]*(-[a-z0-9]+)*-[1-9][0-9]*$/, 'a release is named <type>-<number>');
export const findingSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'a finding id has 1 to 64 letters, digits, ".", "_" or "-"');
export const tokenIdSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,63}$/, 'not a token id');
/** Also names a Kubernetes object. */
const jobSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'a job id has 1 to 63 of a-z, 0-9 and "-", and does not start with "-"');
export const areaSchema = z.enum(['private', 'common', 'staging'], { error: 'an area is private, common or staging' });
/** Text for people. Control characters are refused, because they could forge log lines or terminal output. */
export const textSchema = (limit: number) =>
  z
    .string()
    .max(limit)
    .regex(/^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$/, 'control characters are not allowed');
/** A time that PostgreSQL reads as JavaScript writes it. */
export const whenSchema = z.iso.datetime({ offset: true }).refine((text) => {
  const year = new Date(text).getUTCFullYear();
  return year >= 1 && year <= 9_999;
}, 'a time lies in the years 1 to 9999 (UTC)');

export const branchSchema = judged(
  (text) => pathProblem(text) ?? (/\.lock(\/|$)|\.\.|\.(\/|$)/.test(text) ? 'not a valid Git branch name' : undefined),
);

const parameters: Readonly<Record<string, z.ZodType<string>>> = {
  path: storedPathSchema,
  name: storedPathSchema,
  commandId: commandIdSchema,
  release: releaseSchema,
  tokenId: tokenIdSchema,
  job: jobSchema,
  area: areaSchema,
};

/** The schema of a path parameter, by its name. Default: a name. */
export const parameterSchema = (name: string): z.ZodType<string> => parameters[name] ?? nameSchema;

/** Path parameters that extend to the end of the path, including slashes. */
export const isTail = (name: string): boolean => name === 'path' || name === 'name';

/** Page parameters: `after` is the `next` of the previous page. */
export const pageFields = {
  after: textSchema(1_024).min(1).optional(),
  limit: z
    .string()
    .regex(/^[1-9][0-9]{0,2}$/, 'a number from 1 to 500')
    .transform(Number)
    .pipe(z.int().max(500))
    .default(100),
} as const;
export const pageQuery = z.strictObject(pageFields);

export const flagSchema = z.enum(['true', 'false']).transform((text) => text === 'true');

/** Rejects repeated items, which would otherwise be merged. */
export const distinct = <T>(key: (item: T) => string, what: string) => ({
  check: (items: readonly T[]): boolean => new Set(items.map(key)).size === items.length,
  message: `${what} must not be given twice`,
});

/** An existing gate. */
export const gateSchema = judged((name) => unknownName('gate', name)).meta({ enum: [...gateNames] });

/**
 * Minimum values of metrics that the evaluator measures, all between 0 and 1. With other names or values no report could
 * pass.
 */
export const thresholdsSchema = z
  .record(
    z.string(),
    z.number().min(0, 'a metric lies between 0 and 1').max(1, 'a metric lies between 0 and 1: write 0.7, not 70'),
  )
  .superRefine((thresholds, context) => {
    for (const name of Object.keys(thresholds)) {
      const message = unknownName('metric', name);
      if (message) context.addIssue({ code: 'custom', path: [name.slice(0, 64)], message });
    }
  })
  .meta({ propertyNames: { enum: [...metricNames] }, example: { average_precision: 0.7 } });
/** Project rules that its manager may set. The policy version increments automatically. */
export const policyFields = {
  quorum: z.int().min(1).max(10),
  undoWithinSeconds: z.int().min(0).max(2_592_000),
  thresholds: thresholdsSchema,
} as const;
