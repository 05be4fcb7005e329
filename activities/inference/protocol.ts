// The messages of the Open Inference Protocol v2 (REST), for the service of one model and its client.
import { z } from 'zod';

/** The tensor datatypes of the Open Inference Protocol v2 that ONNX Runtime supports. */
export const datatypes = [
  'BOOL',
  'UINT8',
  'UINT16',
  'UINT32',
  'UINT64',
  'INT8',
  'INT16',
  'INT32',
  'INT64',
  'FP16',
  'FP32',
  'FP64',
  'BYTES',
] as const;
export type Datatype = (typeof datatypes)[number];

const name = z.string().min(1).max(512);
// Elements are not checked here: there may be millions, and they are checked once against the datatype.
const value = z.object({
  name,
  shape: z.array(z.int().min(0)).max(32),
  datatype: z.enum(datatypes),
  data: z.array(z.unknown()),
});
const parameters = z.record(z.string(), z.unknown()).optional();

/** A tensor in a request or response; `data` is flat or nested according to the shape. */
export type TensorValue = z.infer<typeof value>;

export const inferRequest = z.object({
  id: z.string().max(1000).optional(),
  parameters,
  inputs: z.array(value.extend({ parameters })).min(1).max(1000),
  outputs: z.array(z.object({ name, parameters })).max(1000).optional(),
});
export type InferRequest = z.input<typeof inferRequest>;

export const inferResponse = z.object({
  model_name: z.string().optional(),
  model_version: z.string().optional(),
  id: z.string().optional(),
  outputs: z.array(value),
});
export type InferResponse = z.infer<typeof inferResponse>;

const tensorMetadata = z.object({ name, datatype: z.enum(datatypes), shape: z.array(z.int()) });
/** A model's metadata of a tensor; -1 stands for any size. */
export type TensorMetadata = z.infer<typeof tensorMetadata>;

export const modelMetadata = z.object({
  name,
  versions: z.array(z.string()).optional(),
  platform: z.string(),
  inputs: z.array(tensorMetadata),
  outputs: z.array(tensorMetadata),
});
export type ModelMetadata = z.infer<typeof modelMetadata>;

/** The part of a model card that a service needs. */
export const servedCard = z.object({
  name,
  signature: z.object({ inputs: z.array(tensorMetadata).min(1), outputs: z.array(tensorMetadata).min(1) }),
});
export type ServedCard = z.infer<typeof servedCard>;

/** `path: message` of each issue, in one line. */
export const issuesOf = (error: z.ZodError): string =>
  error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`).join('; ');
