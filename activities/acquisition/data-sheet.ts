// The data sheet for people: what a data set is, where it came from, and what vouches for it, as Markdown.
import type { DataSheet } from '../../workflows/domain/import.ts';
import { describeSource } from '../../workflows/domain/import.ts';

/** The sheet as Markdown. What came from outside is shown as code, so that it cannot pose as the sheet's own words. */
export function sheetText(sheet: DataSheet): string {
  const files = sheet.files.flatMap(({ name, sha256, bytes, origin, entries, leftOut }) => [
    `## ${code(name)}`,
    '',
    `- SHA-256: ${code(sha256)}`,
    `- bytes: ${bytes}`,
    `- from: ${code(origin.address)}, ${origin.bytes} bytes${origin.sha256 === null ? '' : `, SHA-256 ${code(origin.sha256)}`}`,
    `- state there: ${origin.validator === null ? 'not told' : code(origin.validator)}`,
    `- held to: ${origin.checked === null ? 'no published digest' : `${origin.checked.algorithm} ${code(origin.checked.digest)}`}`,
    ...(entries === null ? [] : [`- a folder of ${entries} files, as a tar`]),
    ...(leftOut.count === 0 ? [] : [`- left out: ${leftOut.count}`]),
    ...leftOut.examples.map(({ path, why }) => `  - ${code(path)}: ${code(why)}`),
    '',
  ]);
  return [
    `# Data set ${sheet.dataset}`,
    '',
    `- project: ${sheet.project}`,
    `- source: ${code(describeSource(sheet.source))}`,
    `- revision: ${sheet.revision === null ? 'none told' : code(sheet.revision)}`,
    `- licence: ${sheet.licence === null ? 'not told by the source: ask before you use it' : code(sheet.licence)}`,
    `- imported by ${sheet.importedBy} at ${sheet.importedAt}, as ${sheet.import}`,
    `- files: ${sheet.files.length}, bytes: ${sheet.bytes}`,
    ...sheet.notes.map((note) => `- note: ${code(note)}`),
    '',
    ...files,
  ].join('\n');
}

const code = (text: string): string => `\`${text.replace(/[`\r\n\u0000-\u001f\u007f]/g, '?')}\``;
