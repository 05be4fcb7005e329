// Inspects an untrusted ONNX file: parses only the protobuf; loads and runs nothing.
import { readFileSync } from 'node:fs';
import { constants, open } from 'node:fs/promises';
import protobuf from 'protobufjs';
import { refusal } from './model-format/failure.ts';
import { foreignKind, likelyKind } from './model-format/file-kind.ts';
import { surveyModel, type ModelSurvey, type SurveyLimits } from './model-format/model-survey.ts';
import { WireError } from './model-format/wire-walk.ts';

export { ModelFormatError } from './model-format/failure.ts';
export { compareSignature, type TensorSpec } from './model-format/signature.ts';
export {
  checkSubmission,
  parseGolden,
  parseModelJson,
  type Golden,
  type ModelCard,
} from './model-format/model-card.ts';

/** What a model file declares: its operators, inputs and outputs. */
export interface ModelInspection extends ModelSurvey {
  /** Always false: a model that references other files is rejected. */
  readonly externalData: false;
  readonly bytes: number;
}

export interface ModelLimits extends SurveyLimits {
  readonly maxBytes: number;
}

export const defaultModelLimits: ModelLimits = {
  maxBytes: 512 * 1024 * 1024,
  // ONNX Runtime's own control flow rarely nests deeper than three levels.
  maxDepth: 8,
  maxNodes: 200_000,
  // A forest of three million tree nodes has about ten attribute values per node; walking them takes seconds.
  maxFields: 30_000_000,
  // Nodes, attributes, tensors, graphs: each visited message costs about a microsecond.
  maxMessages: 1_500_000,
};

/**
 * Inspects the ONNX model at `path`. Throws `ModelFormatError` with all problems found when the model is not
 * acceptable; if the file cannot be opened, the system's own error.
 */
export const inspectModel = async (path: string, limits: Partial<ModelLimits> = {}): Promise<ModelInspection> => {
  const bounds = { ...defaultModelLimits, ...limits };
  const bytes = await readBounded(path, bounds.maxBytes);
  const foreign = foreignKind(bytes);
  if (foreign !== undefined) throw refusal([`this is ${foreign}, not an ONNX model`]);
  const { survey, problems } = surveyed(bytes, bounds);
  if (problems.length > 0) throw refusal(problems);
  return { ...survey, externalData: false, bytes: bytes.length };
};

const surveyed = (bytes: Buffer, limits: SurveyLimits): ReturnType<typeof surveyModel> => {
  try {
    return surveyModel(schema(), bytes, limits);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    const kind = likelyKind(bytes);
    throw refusal([
      kind === undefined
        ? `not an ONNX model, or truncated or damaged: ${error.message}`
        : `this looks like ${kind}, not an ONNX model: ${error.message}`,
    ]);
  }
};

/** Reads through one open handle, so that the checked file is the measured file. */
const readBounded = async (path: string, maxBytes: number): Promise<Buffer> => {
  // Without O_NONBLOCK, opening a named pipe would block until a writer appears.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = await file.stat();
    if (!status.isFile()) throw refusal(['not a regular file']);
    if (status.size === 0) throw refusal(['the file is empty']);
    if (status.size > maxBytes) throw refusal([`the file has ${status.size} bytes; the limit is ${maxBytes}`]);
    const bytes = Buffer.allocUnsafeSlow(status.size);
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, filled);
      if (bytesRead === 0) throw refusal(['the file became shorter while it was being read']);
      filled += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
};

const loaded: { schema?: protobuf.Root } = {};

/** The trimmed ONNX schema for reflection, parsed on first use. */
const schema = (): protobuf.Root =>
  (loaded.schema ??= protobuf.parse(readFileSync(new URL('./onnx.proto', import.meta.url), 'utf8'), {
    keepCase: true,
  }).root);
