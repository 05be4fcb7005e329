// The one failure of the model check: what was found wrong with untrusted bytes, all of it at once.

// Twenty name the fault; a hostile file could make thousands.
const MAX_PROBLEMS = 20;

/** Bytes or text that are no acceptable model, card or golden file. `problems` are sentences for the person who submitted it. */
export class ModelFormatError extends Error {
  readonly problems: readonly string[];

  constructor(subject: string, problems: readonly string[]) {
    const left = problems.length - MAX_PROBLEMS;
    const shown = left > 0 ? [...problems.slice(0, MAX_PROBLEMS), `and ${left} more`] : [...problems];
    super(`${subject}: ${shown.join('; ')}`);
    this.name = 'ModelFormatError';
    this.problems = shown;
  }
}

/** The refusal of a model for these reasons. */
export const refusal = (problems: readonly string[]): ModelFormatError =>
  new ModelFormatError('not an acceptable model', problems);
