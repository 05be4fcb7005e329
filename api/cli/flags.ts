// Parses the command line of commands that take only flags.
import { parseArgs } from 'node:util';

/** Returns the flags that are set; undefined if help was requested (and printed). Throws on unknown flags. */
export function parseFlags<const Name extends string>(
  argv: readonly string[],
  command: string,
  flags: Readonly<Record<Name, string>>,
): ((name: Name) => boolean) | undefined {
  const described = Object.entries<string>(flags);
  const { values } = parseArgs({
    args: [...argv],
    options: Object.fromEntries(
      [...described.map(([name]) => name), 'help'].map((name) => [name, { type: 'boolean' }]),
    ),
  });
  if (values.help === true) {
    const lines = described.map(([name, meaning]) => `  --${name.padEnd(10)} ${meaning}`);
    console.log([`Usage: ocdl ${command}${lines.length === 0 ? '' : ' [flags]'}`, ...lines].join('\n'));
    return undefined;
  }
  return (name) => values[name] === true;
}
