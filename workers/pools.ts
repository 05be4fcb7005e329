// The pools of this installation, in order: what operators write in OCDL_POOLS, and what watchers record of each.
import { z } from 'zod';
import type { PoolRow } from '../activities/records.ts';
import { MOST_GPUS } from '../workflows/domain/compute.ts';
import { nameProblem } from '../workflows/domain/names.ts';

/** Trainings and evaluations that run at a time; the rest wait in the record. Each uses one core of a small machine. */
export const places = {
  local: { training: 2, evaluation: 2 },
  kubernetes: { training: 100, evaluation: 100 },
} as const;

const MOST_POOLS = 16;
const count = z.int().min(0).max(10_000);
const pool = z
  .strictObject({
    name: z.string().superRefine((text, context) => {
      const message = nameProblem(text);
      if (message) context.addIssue({ code: 'custom', message });
    }),
    kind: z.enum(['local', 'kubernetes']),
    context: z.string().min(1).optional(),
    places: z.strictObject({ training: count, evaluation: count }).optional(),
    gpus: z.int().min(0).max(MOST_GPUS).optional(),
  })
  .refine(({ kind, context }) => kind === 'kubernetes' || context === undefined, 'a local pool has no context');

export type PoolSetting = z.output<typeof pool>;

/** The value of OCDL_POOLS. Two pools on one cluster would remove each other's jobs. */
export const poolsSchema = z
  .string()
  .transform((text, context): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      context.addIssue({
        code: 'custom',
        message: 'must be a JSON list of pools, such as [{"name":"lab","kind":"local"}]',
      });
      return z.NEVER;
    }
  })
  .pipe(z.array(pool).min(1).max(MOST_POOLS))
  .refine((all) => isDistinct(all.map(({ name }) => name)), 'two pools have the same name')
  .refine(
    (all) => isDistinct(all.map(({ kind, context = '' }) => `${kind} ${context}`)),
    'two pools are on the same cluster: each kubernetes pool needs a context of its own, and there is at most one local pool',
  );

const isDistinct = (texts: readonly string[]): boolean => new Set(texts).size === texts.length;

/** The pools as their watchers record them. `machine`: where local processes run. */
export function poolRows(
  settings: readonly PoolSetting[],
  machine: { readonly name: string; readonly gpus: number },
): readonly PoolRow[] {
  return settings.map(({ name, kind, gpus, ...given }, rank) => ({
    // Jobs of local processes are lost with their machine; those on Kubernetes are found again by any worker.
    id: kind === 'local' ? `${name} ${machine.name}` : name,
    ...{ name, kind, rank, places: given.places ?? places[kind] },
    gpus: gpus ?? (kind === 'local' ? machine.gpus : MOST_GPUS),
  }));
}
