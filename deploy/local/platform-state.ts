// Maintains HOME/platform.json with the addresses of a running platform, for the CLI and for people.
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const platformStateSchema = z.object({
  pid: z.int().positive(),
  apiUrl: z.string(),
  uiUrl: z.string(),
  temporalAddress: z.string(),
});
export type PlatformState = z.infer<typeof platformStateSchema>;

/** Writes the state atomically, readable by this user only. */
export function writePlatformState(home: string, state: PlatformState): void {
  const path = statePath(home);
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Reads the state; undefined if no platform has started, or the last one was shut down cleanly. */
export function readPlatformState(home: string): PlatformState | undefined {
  try {
    return platformStateSchema.parse(JSON.parse(readFileSync(statePath(home), 'utf8')));
  } catch {
    return undefined;
  }
}

/** Removes the state at shutdown. */
export function removePlatformState(home: string): void {
  rmSync(statePath(home), { force: true });
}

function statePath(home: string): string {
  return join(home, 'platform.json');
}
