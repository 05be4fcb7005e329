// The stack of a demo with --stack: a running one, or one started by the demo; and the demo folder that its records belong to.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownerOf } from '../../../deploy/local/home-lock.ts';
import type { Environment } from '../../../deploy/local/settings.ts';
import { readStackSettings } from '../../../deploy/stack/settings.ts';
import { startStack } from '../../../deploy/stack/stack.ts';

export type DemoStack = {
  readonly home: string;
  /** The variables that connect the platform to the stack. */
  readonly variables: Environment;
  /** Stops the stack if this demo started it. */
  readonly stop: () => Promise<void>;
  /** Settles when a stack that this demo started has ended. */
  readonly ended: Promise<{ readonly error?: Error }>;
};

export type StackWish = {
  readonly env: Environment;
  readonly say: (line: string) => void;
  readonly stop: AbortSignal;
  readonly force: AbortSignal;
};

/** Returns the stack; starts it if none is running. The `stop` signal applies only during the start: later the platform stops first. */
export async function openStack({ env, say, stop, force }: StackWish): Promise<DemoStack> {
  const settings = readStackSettings(env);
  const { home } = settings;
  const owner = ownerOf(home);
  const envFile = join(home, 'stack.env');
  if (owner !== undefined && existsSync(envFile)) {
    say(`A stack is already running on ${home} (process ${owner.pid}): the demo uses it and leaves it running.`);
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

/** The file in the stack's folder that names the demo folder with the tokens and repositories for the stack's database. */
const belongingFile = (stackHome: string): string => join(stackHome, 'demo-home');
const tokensFile = (home: string): string => join(home, 'demo-tokens.json');

/** Throws if one of the two folders was removed and the other kept: tokens and records would not match. */
export function checkBelonging(stackHome: string, home: string): void {
  const path = belongingFile(stackHome);
  const belongsTo = existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
  const hasTokens = existsSync(tokensFile(home));
  if (hasTokens && belongsTo !== home)
    throw new Error(
      `the tokens and repositories in ${home} do not match the records of the stack on ${stackHome}, which was recreated since or is used with another demo folder: ` +
        'remove this folder, or set --home to another one',
    );
  if (!hasTokens && belongsTo !== undefined)
    throw new Error(
      `the stack on ${stackHome} has the records of a demo whose tokens are in ${belongsTo}: ` +
        (belongsTo === home
          ? 'that folder was removed, so stop the stack (npm run stack -- down) and remove its folder too'
          : `use it with --home, or set OCDL_STACK_HOME to another stack`),
    );
}

/** Records which demo folder the stack's records belong to. Throws if they already belong to another one: the administrator's token is shown only once. */
export function noteBelonging(stackHome: string, home: string, isNew: boolean): void {
  if (!isNew && !existsSync(tokensFile(home)))
    throw new Error(
      `the stack's database already has an administrator, whose token is not in ${home}: ` +
        `set OCDL_STACK_HOME to a separate stack for the demo, or stop this one and remove ${stackHome}`,
    );
  writeFileSync(belongingFile(stackHome), `${home}\n`, { mode: 0o600 });
}

/** NAME=VALUE, one per line, as written by the stack. */
function readEnvFile(path: string): Environment {
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}
