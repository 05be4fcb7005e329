// The demo's own embedded platform: started for it, or found running where an earlier `--keep` has left it up.
import { startPlatform } from '../../../deploy/local/platform.ts';
import { readPlatformState } from '../../../deploy/local/platform-state.ts';
import { ownerOf } from '../../../deploy/local/home-lock.ts';
import { type Environment, readSettings } from '../../../deploy/local/settings.ts';

/** A platform that runs answers at once. */
const ANSWER_WITHIN_MS = 5_000;

export type DemoPlatform = {
  readonly apiUrl: string;
  readonly uiUrl: string;
  readonly adminToken?: string;
  /** Did this demo start it? Only then it ends with the demo. */
  readonly own: boolean;
  readonly stop: () => Promise<void>;
  readonly ended: Promise<{ readonly error?: Error }>;
};

export type PlatformWish = {
  readonly home: string;
  readonly env: Environment;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
};

/** Gives the platform of `home`, starting it where none runs. */
export async function openPlatform({ home, env, say, stop, force }: PlatformWish): Promise<DemoPlatform> {
  const running = readPlatformState(home);
  const owner = ownerOf(home);
  if (running !== undefined && owner?.pid === running.pid && (await answers(running.apiUrl))) {
    say(`A platform already runs on ${home} (process ${owner.pid}): it is used, and left running.`);
    const { apiUrl, uiUrl } = running;
    return { apiUrl, uiUrl, own: false, stop: () => Promise.resolve(), ended: new Promise(() => undefined) };
  }
  // The demo never plays on somebody's real servers, whatever the environment names.
  const none = { TEMPORAL_ADDRESS: '', TEMPORAL_UI_URL: '', DATABASE_URL: '' };
  const settings = readSettings({ ...env, ...none, OCDL_HOME: home });
  return { ...(await startPlatform({ settings, say, stop, force })), own: true };
}

async function answers(apiUrl: string): Promise<boolean> {
  try {
    return (await fetch(new URL('/healthz', apiUrl), { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) })).ok;
  } catch {
    return false;
  }
}
