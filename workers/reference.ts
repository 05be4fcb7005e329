// The reference of all variables as Markdown tables; as a program it updates them in deploy/README.md.
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { groups, schema } from './variables.ts';

const path = resolve(import.meta.dirname, '..', 'deploy', 'README.md');
const markers = [
  '<!-- variables: made by `node --import tsx workers/reference.ts` -->',
  '<!-- /variables -->',
] as const;

/** The text of deploy/README.md, and the same text with an updated reference. */
export function readReference(): { readonly text: string; readonly renewed: string } {
  const text = readFileSync(path, 'utf8');
  const [begin, end] = markers.map((marker) => text.indexOf(marker));
  if (begin === undefined || end === undefined || begin < 0 || end < begin)
    throw new Error(`${path} lacks the lines ${markers.join(' and ')}`);
  const renewed = `${text.slice(0, begin)}${markers[0]}\n\n${tables()}\n\n${text.slice(end)}`;
  return { text, renewed };
}

function tables(): string {
  // The input schema: values and defaults as they are written in the environment.
  const { properties } = documented.parse(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }));
  return Object.entries(groups)
    .map(([heading, variables]) => {
      const rows = Object.keys(variables).map((name) => {
        const { description, default: value, secret, enum: words } = properties[name] ?? { description: '' };
        const choice = words === undefined ? '' : ` One of ${words.map(code).join(', ')}.`;
        const known = value === undefined ? '' : code(String(value));
        return `| ${code(name)} | ${description}${choice} | ${known} | ${secret ? `yes: or ${code(`${name}_FILE`)}` : ''} |`;
      });
      return [`### ${heading}`, '', '| Variable | Meaning | Default | Secret |', '|---|---|---|---|', ...rows].join(
        '\n',
      );
    })
    .join('\n\n');
}

const documented = z.object({
  properties: z.record(
    z.string(),
    z.object({
      description: z.string(),
      default: z.union([z.string(), z.number(), z.boolean()]).optional(),
      secret: z.boolean().optional(),
      enum: z.array(z.string()).optional(),
    }),
  ),
});

const code = (word: string): string => `\`${word}\``;

if (import.meta.filename === process.argv[1]) writeFileSync(path, readReference().renewed);
