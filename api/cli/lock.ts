// `ocdl lock`: creates the requirements lock of a training run from a list of packages.
import { parseArgs } from 'node:util';
import { makeLock } from '../../deploy/local/lock-file.ts';
import { readSettings } from '../../deploy/local/settings.ts';

const usage = `Usage: ocdl lock FILE [flags]

FILE lists the packages that a training program imports, one per line, such as "scikit-learn>=1.6". The lock pins them and
all of their dependencies to one version, with the digests of their files.

  --output LOCK      file to write; by default FILE with the extension .lock
  --python VERSION   oldest Python version that the lock supports (3.10)
  --upgrade          use the newest versions instead of those in the existing lock`;

/** Creates the lock; returns the exit code. */
export async function lock(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      output: { type: 'string' },
      python: { type: 'string' },
      upgrade: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  const [input, ...more] = positionals;
  if (values.help === true || input === undefined || more.length > 0) {
    console.log(usage);
    return values.help === true ? 0 : 2;
  }
  await makeLock({
    input,
    output: values.output,
    pythonVersion: values.python,
    upgrade: values.upgrade ?? false,
    settings: readSettings(),
    say: (line) => console.log(line),
  });
  return 0;
}
