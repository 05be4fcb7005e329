// Workflow ids: each is the business key, so that starting twice is harmless. The inverse of the id makers is below.

export const workflowId = {
  modelLifecycle: (i: { project: string; model: string; submission: string }) =>
    `model/${i.project}/${i.model}/${i.submission}`,
  trainingRun: (i: { project: string; model: string; submission: string; attempt: number }) =>
    `run/${i.project}/${i.model}/${i.submission}/${i.attempt}`,
  evaluation: (i: { project: string; evaluation: string }) => `evaluation/${i.project}/${i.evaluation}`,
  release: (i: { release: string }) => `release/${i.release}`,
  application: (i: { application: string; type: string }) => `application/${i.application}/${i.type}`,
  delivery: (i: { application: string; release: string }) => `delivery/${i.application}/${i.release}`,
  feedback: (i: { project: string; scan: string }) => `feedback/${i.project}/${i.scan}`,
  dataImport: (i: { project: string; import: string }) => `import/${i.project}/${i.import}`,
} as const;

export type WorkflowName = keyof typeof workflowId;

const fields = {
  model: ['modelLifecycle', ['project', 'model', 'submission']],
  run: ['trainingRun', ['project', 'model', 'submission', 'attempt']],
  evaluation: ['evaluation', ['project', 'evaluation']],
  release: ['release', ['release']],
  application: ['application', ['application', 'type']],
  delivery: ['delivery', ['application', 'release']],
  feedback: ['feedback', ['project', 'scan']],
  import: ['dataImport', ['project', 'import']],
} as const satisfies Record<string, readonly [WorkflowName, readonly string[]]>;

/** Inverse of {@link workflowId}: the workflow that an id names and its parts; `undefined` for foreign ids. */
export function parseWorkflowId(
  id: string,
): { readonly workflow: WorkflowName; readonly of: Readonly<Record<string, string>> } | undefined {
  const [prefix = '', ...parts] = id.split('/');
  if (!Object.hasOwn(fields, prefix)) return undefined;
  const [workflow, names] = fields[prefix as keyof typeof fields];
  if (parts.length !== names.length) return undefined;
  return { workflow, of: Object.fromEntries(names.map((name, i) => [name, parts[i] ?? ''])) };
}

/** The parts of an id of this workflow. Throws for the id of another workflow, which is a bug of the caller. */
export function partsOf<const Name extends string>(
  id: string,
  workflow: WorkflowName,
  ...names: readonly Name[]
): { readonly [K in Name]: string } {
  const parsed = parseWorkflowId(id);
  if (parsed?.workflow !== workflow) throw new TypeError(`"${id}" is not the id of a workflow of type ${workflow}`);
  return Object.fromEntries(names.map((name) => [name, parsed.of[name] ?? ''])) as { [K in Name]: string };
}
