// Selects the command of the `ocdl` program; each command is a separate module that is loaded on demand.

type Command = {
  readonly summary: string;
  /** Returns the exit code. */
  readonly run: (argv: readonly string[]) => Promise<number>;
};

const commands: Readonly<Record<string, Command>> = {
  start: {
    summary: 'start the platform on this machine and supervise it (Ctrl-C stops it)',
    run: async (argv) => await (await import('./start.ts')).start(argv),
  },
  doctor: {
    summary: 'check this machine and the configured systems, and say how to fix problems',
    run: async (argv) => await (await import('./doctor.ts')).doctor(argv),
  },
  restore: {
    summary: 'show which systems were restored to an earlier state, and accept it',
    run: async (argv) => await (await import('./restore.ts')).restore(argv),
  },
  lock: {
    summary: 'create the requirements lock of a training run from a list of packages',
    run: async (argv) => await (await import('./lock.ts')).lock(argv),
  },
  demo: {
    summary: 'run the case study from training to feedback on a separate platform',
    run: async (argv) => await (await import('./demo.ts')).demo(argv),
  },
};

/** Runs one command; returns the exit code: 2 for an invalid command line. */
export async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(usage());
    return name === undefined ? 2 : 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined) {
    console.error(`Unknown command "${name}".\n\n${usage()}`);
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
  return ['Usage: ocdl COMMAND [flags]', '', ...lines, '', '`ocdl COMMAND --help` shows the flags of a command.'].join(
    '\n',
  );
}

function isUsageError(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
