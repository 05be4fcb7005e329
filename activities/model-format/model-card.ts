// Parses a model's two companion files, its card (model.json) and its golden samples, and checks that they agree.
import { z } from 'zod';
import { nameProblem } from '../../workflows/domain/names.ts';
import { ModelFormatError } from './failure.ts';
import { jsonProblem } from '../../workflows/domain/json-text.ts';
import { mostTolerance } from '../inference/golden.ts';
import { datatypes } from '../inference/protocol.ts';
import { decodeElements, TensorDataError } from '../inference/tensor-data.ts';
import { compareSignature, shapesAgree, type Signature } from './signature.ts';

// A card is a page of text; golden samples are a few requests with their answers.
const MAX_CARD_BYTES = 256 * 1024;
const MAX_GOLDEN_BYTES = 1024 * 1024;

const slug = z.string().superRefine((text, context) => {
  const message = nameProblem(text);
  if (message) context.addIssue({ code: 'custom', message });
});
const shape = z.array(z.int().min(-1)).max(32);
const tensorName = z.string().min(1).max(512);
const line = z.string().min(1).max(200);

const namesOnce = (tensors: readonly { readonly name: string }[]): boolean =>
  new Set(tensors.map((tensor) => tensor.name)).size === tensors.length;
const tensors = z
  .array(z.strictObject({ name: tensorName, datatype: z.enum(datatypes), shape }))
  .min(1)
  .max(1000)
  .refine(namesOnce, 'a name occurs twice');

const card = z
  .strictObject({
    name: slug,
    type: slug,
    framework: line,
    signature: z.strictObject({ inputs: tensors, outputs: tensors }),
    classes: z
      .array(line)
      .min(2)
      .max(1000)
      .refine((classes) => new Set(classes).size === classes.length, 'a class occurs twice'),
    prediction: z.strictObject({ output: tensorName, positive: line.optional() }),
    threshold: z.number().min(0).max(1).default(0.5),
    preprocessing: z.strictObject({ name: line, version: z.int().min(0), description: z.string().max(10_000) }),
    data: z
      .array(z.strictObject({ name: line, sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits') }))
      .max(1000),
    run: line.optional(),
    metrics: z.record(line, z.number()),
    revises: z.int().min(1).nullable().optional(),
  })
  .superRefine(({ signature, classes, prediction }, context) => {
    const issue = (field: string, message: string): void =>
      context.addIssue({ code: 'custom', path: ['prediction', field], message });
    if (!signature.outputs.some((output) => output.name === prediction.output))
      issue('output', `'${prediction.output}' is not an output of the signature`);
    if (prediction.positive === undefined) {
      if (classes.length === 2) issue('positive', 'must name one of the two classes');
    } else if (!classes.includes(prediction.positive))
      issue('positive', `'${prediction.positive}' is not one of the classes`);
  });

/** What a scientist declares about a model: the content of `model.json`. */
export type ModelCard = z.infer<typeof card>;

const tensorValue = z.object({
  name: tensorName,
  datatype: z.enum(datatypes),
  shape: z.array(z.int().min(0)).max(32),
  data: z.array(z.unknown()),
  parameters: z.record(z.string(), z.unknown()).optional(),
});
const tensorValues = z.array(tensorValue).min(1).max(1000).refine(namesOnce, 'a name occurs twice');

const golden = z.strictObject({
  samples: z
    .array(
      z.strictObject({
        request: z.object({
          id: z.string().optional(),
          parameters: z.record(z.string(), z.unknown()).optional(),
          inputs: tensorValues,
          outputs: z.array(z.object({ name: tensorName })).optional(),
        }),
        response: z.object({
          model_name: z.string().optional(),
          model_version: z.string().optional(),
          id: z.string().optional(),
          outputs: tensorValues,
        }),
        tolerance: z.number().min(0),
      }),
    )
    .min(1)
    .max(100),
});

/** Requests with their expected responses, in the Open Inference Protocol v2: the content of `golden.json`. */
export type Golden = z.infer<typeof golden>;

/** Parses the model card in `text`. Throws `ModelFormatError` with all problems found. */
export const parseModelJson = (text: string): ModelCard => parseJson('model.json', text, MAX_CARD_BYTES, card);

/** Parses the golden samples in `text`. Throws `ModelFormatError` with all problems found. */
export const parseGolden = (text: string): Golden => parseJson('golden.json', text, MAX_GOLDEN_BYTES, golden);

const parseJson = <Schema extends z.ZodType>(
  file: string,
  text: string,
  maxBytes: number,
  schema: Schema,
): z.infer<Schema> => {
  const bytes = Buffer.byteLength(text);
  if (bytes > maxBytes) throw new ModelFormatError(file, [`the file has ${bytes} bytes; the limit is ${maxBytes}`]);
  const parsed = schema.safeParse(json(file, text));
  if (parsed.success) return parsed.data;
  throw new ModelFormatError(
    file,
    parsed.error.issues.map((issue) => `${issue.path.length > 0 ? `${issue.path.join('.')}: ` : ''}${issue.message}`),
  );
};

const json = (file: string, text: string): unknown => {
  const value = parsed(file, text);
  const problem = jsonProblem(text);
  if (problem) throw new ModelFormatError(file, [`${problem.path.join('.').slice(0, 200)}: ${problem.message}`]);
  return value;
};

const parsed = (file: string, text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ModelFormatError(file, [`not JSON: ${error instanceof Error ? error.message : 'unreadable'}`]);
  }
};

/** All contradictions in a submission; empty when card, golden samples and model agree. */
export const checkSubmission = (submission: {
  readonly card: ModelCard;
  readonly golden: Golden;
  readonly inspection: Signature;
}): string[] => [
  ...compareSignature(submission.card.signature, submission.inspection),
  ...submission.golden.samples.flatMap((sample, index) => sampleProblems(sample, index, submission.card)),
];

type Sample = Golden['samples'][number];
type Value = z.infer<typeof tensorValue>;

const sampleProblems = (sample: Sample, index: number, { signature, prediction }: ModelCard): string[] => {
  const at = `golden sample ${index + 1}`;
  const given = new Set(sample.request.inputs.map((input) => input.name));
  const answered = new Set(sample.response.outputs.map((output) => output.name));
  const outputs = new Set(signature.outputs.map((output) => output.name));
  return [
    ...signature.inputs.filter(({ name }) => !given.has(name)).map(({ name }) => `${at}: input '${name}' is missing`),
    ...sample.request.inputs.flatMap((input) => valueProblems(`${at}: input`, input, signature.inputs)),
    ...(sample.request.outputs ?? [])
      .filter(({ name }) => !outputs.has(name))
      .map(({ name }) => `${at}: requests '${name}', which is not an output of the signature`),
    ...sample.response.outputs.flatMap((output) => valueProblems(`${at}: output`, output, signature.outputs)),
    ...toleranceProblems(at, sample),
    ...(answered.has(prediction.output) ? [] : [`${at}: the response has no prediction output '${prediction.output}'`]),
  ];
};

const valueProblems = (at: string, value: Value, specs: Signature['inputs']): string[] => {
  const spec = specs.find(({ name }) => name === value.name);
  if (spec === undefined) return [`${at} '${value.name}' is not in the signature`];
  const problems: string[] = [];
  if (spec.datatype !== value.datatype)
    problems.push(`${at} '${value.name}' is ${value.datatype} but the signature says ${spec.datatype}`);
  if (!shapesAgree(spec, value))
    problems.push(
      `${at} '${value.name}' has shape [${value.shape.join(', ')}] but the signature says [${spec.shape.join(', ')}]`,
    );
  const expected = value.shape.reduce((product, size) => product * size, 1);
  const elements = value.data.flat(value.shape.length).length;
  if (elements !== expected)
    problems.push(`${at} '${value.name}' has ${elements} elements, but its shape requires ${expected}`);
  else if (expected === 0) problems.push(`${at} '${value.name}' has no elements, so it checks nothing`);
  else if (spec.datatype === value.datatype) problems.push(...elementProblems(`${at} '${value.name}'`, value));
  return problems;
};

/** The model's service reads the elements in the same way: what it would refuse is refused here. */
const elementProblems = (at: string, { datatype, shape, data }: Value): string[] => {
  try {
    decodeElements(datatype, shape, data);
    return [];
  } catch (error) {
    if (!(error instanceof TensorDataError)) throw error;
    return [`${at} ${error.message}`];
  }
};

/** The author chooses the tolerance, but not beyond what the datatype's precision can explain. */
const toleranceProblems = (at: string, { tolerance, response }: Sample): string[] =>
  response.outputs.flatMap(({ name, datatype }) => {
    const most = mostTolerance(datatype);
    return tolerance <= most
      ? []
      : [`${at}: the tolerance is ${tolerance}, but for the ${datatype} output '${name}' at most ${most} is allowed`];
  });
