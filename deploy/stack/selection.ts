// Which systems a stack consists of, as chosen at its last start.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { KubernetesSystem } from './kubernetes/clusters.ts';

/** Systems that are not part of the stack by default: Kubernetes needs root and a long build. */
export const extraSystems = ['kubernetes', 'kwok'] as const satisfies readonly KubernetesSystem[];

const selectionSchema = z.object({
  /** The servers of `processTable`. */
  servers: z.boolean(),
  kubernetes: z.array(z.enum(extraSystems)),
});
/** What a stack consists of. */
export type StackSelection = z.infer<typeof selectionSchema>;

/** A selection with the settings that decide which processes it has. */
const storedSchema = selectionSchema.extend({ node: z.boolean(), gpus: z.int() });
export type StoredSelection = z.infer<typeof storedSchema>;

export const defaultSelection: StackSelection = { servers: true, kubernetes: [] };

/** Reads the selection of a home's last start. */
export function readSelection(home: string): StoredSelection {
  const path = selectionPath(home);
  if (!existsSync(path)) return { ...defaultSelection, node: false, gpus: 0 };
  return storedSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
}

/** Stores the selection of a start. */
export function writeSelection(home: string, selection: StoredSelection): void {
  writeFileSync(selectionPath(home), JSON.stringify(selection), { mode: 0o600 });
}

function selectionPath(home: string): string {
  return join(home, 'selection.json');
}
