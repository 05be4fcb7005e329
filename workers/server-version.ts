// The oldest supported version of the Temporal server.

/** Workflows need features of this server version, such as updates of search attributes with summaries. */
export const oldestServer = [1, 29] as const;

/** Compares two versions by their first two numbers. */
export function atLeast(version: readonly [number, number], oldest: readonly [number, number]): boolean {
  return version[0] > oldest[0] || (version[0] === oldest[0] && version[1] >= oldest[1]);
}
