// Chooses the command of the `ocdl` program; each command is a module of its own, loaded only when asked for.

type Command = {
  readonly summary: string;
  /** Returns the exit code. */
  readonly run: (argv: readonly string[]) => Promise<number>;
};

const commands: Readonly<Record<string, Command>> = {
  start: {
    summary: 'start the platform on this machine and watch over it (Ctrl-C ends it)',
    run: async (argv) => await (await import('./start.ts')).start(argv),
  },
  doctor: {
    summary: 'check what this machine has and say what is missing and how to get it',
    run: async (argv) => await (await import('./doctor.ts')).doctor(argv),
  },
  restore: {
    summary: 'show which systems were set back to another moment, and accept it',
    run: async (argv) => await (await import('./restore.ts')).restore(argv),
  },
  lock: {
    summary: 'make the requirements lock of a training run from a list of packages',
    run: async (argv) => await (await import('./lock.ts')).lock(argv),
  },
  demo: {
    summary: 'play the case study from training to feedback on a platform of its own',
    run: async (argv) => await (await import('./demo.ts')).demo(argv),
  },
};

/** Runs one command; returns the exit code: 2 for a command line that is not understood. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(usage());
    return name === undefined ? 2 : 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    console.error(`There is no command "${name}".\n\n${usage()}`);
    return 2;
  }
  try {
    return await command.run(rest);
  } catch (error) {
    if (isUsageError(error)) {
      console.error(`ocdl ${name}: ${error.message}`);
      return 2;
    }
    console.error(`ocdl ${name}: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

function usage(): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(8)} ${summary}`);
  return ['Usage: ocdl COMMAND [flags]', '', ...lines, '', '`ocdl COMMAND --help` says more.'].join('\n');
}

function isUsageError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
