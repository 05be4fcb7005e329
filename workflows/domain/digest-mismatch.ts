// The wording of a digest mismatch, the same in every message of the platform.

/** States what has which digest and which one was expected, such as "model.onnx has sha256:…, expected sha256:…". */
export const digestMismatch = (what: string, found: string, expected: string, algorithm = 'sha256'): string =>
  `${what} has ${algorithm}:${found}, expected ${algorithm}:${expected}`;
