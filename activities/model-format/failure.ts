// The failure of the model check: lists all problems found in untrusted bytes.

// Twenty problems identify the fault; a hostile file could produce thousands.
const MAX_PROBLEMS = 20;

/** The bytes or text are not an acceptable model, card or golden file. `problems` are sentences for the submitter. */
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

/** The rejection of a model, with its reasons. */
export const refusal = (problems: readonly string[]): ModelFormatError =>
  new ModelFormatError('not an acceptable model', problems);
