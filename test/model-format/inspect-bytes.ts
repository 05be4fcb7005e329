// Inspects bytes in a test through a temporary file, because the model check reads files.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  inspectModel,
  ModelFormatError,
  type ModelInspection,
  type ModelLimits,
} from '../../activities/model-format.ts';

type Inspect<Outcome> = (bytes: Uint8Array, limits?: Partial<ModelLimits>) => Promise<Outcome>;

export const inspectIn =
  (folder: string): Inspect<ModelInspection> =>
  async (bytes, limits) => {
    const path = join(folder, 'model.onnx');
    writeFileSync(path, bytes);
    return inspectModel(path, limits);
  };

/** The problems of bytes that must be refused, one per line; fails if they are accepted. */
export const problemsIn = (folder: string): Inspect<string> => {
  const inspect = inspectIn(folder);
  return async (bytes, limits) => {
    const outcome = await inspect(bytes, limits).catch((error: unknown) => error);
    if (!(outcome instanceof ModelFormatError))
      throw new Error(`was not refused: ${JSON.stringify(outcome)}`, { cause: outcome });
    expect(outcome.problems.length).toBeGreaterThan(0);
    return outcome.problems.join('\n');
  };
};
