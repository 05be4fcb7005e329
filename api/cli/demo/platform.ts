// The demo's platform, embedded or on the stack: started by the demo, or left running by an earlier run with `--keep`.
import { startPlatform } from '../../../deploy/local/platform.ts';
import { readPlatformState } from '../../../deploy/local/platform-state.ts';
import { ownerOf } from '../../../deploy/local/home-lock.ts';
import { type Environment, readSettings, withoutSystems } from '../../../deploy/local/settings.ts';
import { checkBelonging, noteBelonging, openStack } from './stack.ts';

/** A running platform answers immediately. */
const ANSWER_WITHIN_MS = 5_000;

export type DemoPlatform = {
  readonly apiUrl: string;
  readonly uiUrl: string;
  readonly adminToken?: string;
  /** Whether this demo started the platform and stops it at its end. */
  readonly own: boolean;
  readonly stop: () => Promise<void>;
  readonly ended: Promise<{ readonly error?: Error }>;
};

export type PlatformWish = {
  readonly home: string;
  /** Run on the stack's real servers. */
  readonly stack: boolean;
  readonly env: Environment;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
};

/** Returns the platform of `home`; starts it if none is running. */
export async function openPlatform(wish: PlatformWish): Promise<DemoPlatform> {
  const { home, env, say, stop, force } = wish;
  const running = readPlatformState(home);
  const owner = ownerOf(home);
  if (running !== undefined && owner?.pid === running.pid && (await answers(running.apiUrl))) {
    say(`A platform is already running on ${home} (process ${owner.pid}): the demo uses it and leaves it running.`);
    const { apiUrl, uiUrl } = running;
    return { apiUrl, uiUrl, own: false, stop: () => Promise.resolve(), ended: new Promise(() => undefined) };
  }
  if (wish.stack) return await openOnStack(wish);
  // The demo ignores external systems in the environment, so that it never changes real data.
  const settings = readSettings({ ...withoutSystems(env), ...own(home) });
  return { ...(await startPlatform({ settings, say, stop, force })), own: true };
}

/** Jobs must use the demo's API, not the address of another platform in the environment. */
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
