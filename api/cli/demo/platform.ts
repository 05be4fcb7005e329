// The demo's own platform, embedded or on the stack: started for it, or found running where an earlier `--keep` has left it up.
import { startPlatform } from '../../../deploy/local/platform.ts';
import { readPlatformState } from '../../../deploy/local/platform-state.ts';
import { ownerOf } from '../../../deploy/local/home-lock.ts';
import { type Environment, readSettings, withoutSystems } from '../../../deploy/local/settings.ts';
import { checkBelonging, noteBelonging, openStack } from './stack.ts';

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
  /** Play on the stack's real servers. */
  readonly stack: boolean;
  readonly env: Environment;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
};

/** Gives the platform of `home`, starting it where none runs. */
export async function openPlatform(wish: PlatformWish): Promise<DemoPlatform> {
  const { home, env, say, stop, force } = wish;
  const running = readPlatformState(home);
  const owner = ownerOf(home);
  if (running !== undefined && owner?.pid === running.pid && (await answers(running.apiUrl))) {
    say(`A platform already runs on ${home} (process ${owner.pid}): it is used, and left running.`);
    const { apiUrl, uiUrl } = running;
    return { apiUrl, uiUrl, own: false, stop: () => Promise.resolve(), ended: new Promise(() => undefined) };
  }
  if (wish.stack) return await openOnStack(wish);
  // The demo never plays on somebody's real servers, whatever the environment names.
  const settings = readSettings({ ...withoutSystems(env), ...own(home) });
  return { ...(await startPlatform({ settings, say, stop, force })), own: true };
}

/** Its jobs reach its own API, whatever address the environment names for another platform's. */
const own = (home: string): Environment => ({ OCDL_HOME: home, OCDL_API_URL: '' });

async function openOnStack({ home, env, say, stop, force }: PlatformWish): Promise<DemoPlatform> {
  const stack = await openStack({ env, say, stop, force });
  try {
    checkBelonging(stack.home, home);
    const settings = readSettings({ ...withoutSystems(env), ...stack.variables, ...own(home) });
    const platform = await startPlatform({ settings, say, stop, force });
    const end = async (): Promise<void> => {
      await platform.stop();
      await stack.stop();
    };
    try {
      noteBelonging(stack.home, home, platform.adminToken !== undefined);
    } catch (error) {
      await platform.stop();
      throw error;
    }
    return { ...platform, own: true, stop: end, ended: Promise.race([platform.ended, stack.ended]) };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

async function answers(apiUrl: string): Promise<boolean> {
  try {
    return (await fetch(new URL('/healthz', apiUrl), { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) })).ok;
  } catch {
    return false;
  }
}
