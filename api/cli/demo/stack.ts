// The stack under a demo with --stack: the one that runs, or one started for it; and which folder its records belong to.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownerOf } from '../../../deploy/local/home-lock.ts';
import type { Environment } from '../../../deploy/local/settings.ts';
import { readStackSettings } from '../../../deploy/stack/settings.ts';
import { startStack } from '../../../deploy/stack/stack.ts';

export type DemoStack = {
  readonly home: string;
  /** What points the platform at it. */
  readonly variables: Environment;
  /** Ends it, if it was started for this demo. */
  readonly stop: () => Promise<void>;
  /** Settles when one that was started for this demo has ended. */
  readonly ended: Promise<{ readonly error?: Error }>;
};

export type StackWish = {
  readonly env: Environment;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
};

/** Gives the stack, starting it where none runs. `stop` ends it only while it starts: afterwards the platform above ends first. */
export async function openStack({ env, say, stop, force }: StackWish): Promise<DemoStack> {
  const settings = readStackSettings(env);
  const { home } = settings;
  const owner = ownerOf(home);
  const envFile = join(home, 'stack.env');
  if (owner !== undefined && existsSync(envFile)) {
    say(`A stack already runs on ${home} (process ${owner.pid}): it is used, and left running.`);
    const never = new Promise<never>(() => undefined);
    return { home, variables: readEnvFile(envFile), stop: () => Promise.resolve(), ended: never };
  }
  say(`Starting the stack on ${home}; logs in ${home}/logs.`);
  const starting = new AbortController();
  const passOn = (): void => starting.abort();
  stop.addEventListener('abort', passOn, { once: true });
  if (stop.aborted) passOn();
  try {
    const stack = await startStack({ settings, say, verbose: false, stop: starting.signal, force });
    return { home, variables: readEnvFile(stack.started.envFile), stop: stack.stop, ended: stack.ended };
  } finally {
    stop.removeEventListener('abort', passOn);
  }
}

/** In the stack's folder: the demo's folder whose tokens and repositories go with the stack's database. */
const belongingFile = (stackHome: string): string => join(stackHome, 'demo-home');
const tokensFile = (home: string): string => join(home, 'demo-tokens.json');

/** Throws when one of the two folders was removed and the other kept: tokens and records would contradict each other. */
export function checkBelonging(stackHome: string, home: string): void {
  const path = belongingFile(stackHome);
  const belongsTo = existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
  const hasTokens = existsSync(tokensFile(home));
  if (hasTokens && belongsTo !== home)
    throw new Error(
      `${home} holds tokens and repositories for other records than those of the stack on ${stackHome}, which was made anew since, or plays for another folder: ` +
        'remove it, or give another folder with --home',
    );
  if (!hasTokens && belongsTo !== undefined)
    throw new Error(
      `the stack on ${stackHome} holds the records of a demo whose tokens are in ${belongsTo}: ` +
        (belongsTo === home
          ? 'they are gone, so end the stack (npm run stack -- down) and remove its folder too'
          : `give that one with --home, or another stack in OCDL_STACK_HOME`),
    );
}

/** Notes whose the stack's records are. Throws when somebody else has begun them: the administrator's token is shown once. */
export function noteBelonging(stackHome: string, home: string, isNew: boolean): void {
  if (!isNew && !existsSync(tokensFile(home)))
    throw new Error(
      `the stack's database has an administrator already, whose token is not in ${home}: ` +
        `give the demo a stack of its own in OCDL_STACK_HOME, or end this one and remove ${stackHome}`,
    );
  writeFileSync(belongingFile(stackHome), `${home}\n`, { mode: 0o600 });
}

/** NAME=VALUE, one a line, as the stack writes them. */
function readEnvFile(path: string): Environment {
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}
