// Renders the data sheet as Markdown: what the data set is, where it came from and which checksums were verified.
import type { DataSheet } from '../../workflows/domain/import.ts';
import { describeSource } from '../../workflows/domain/import.ts';

/** The sheet as Markdown. External text is rendered as code, so that it cannot imitate the sheet's own text. */
export function sheetText(sheet: DataSheet): string {
  const files = sheet.files.flatMap(({ name, sha256, bytes, origin, entries, leftOut }) => [
    `## ${code(name)}`,
    '',
    `- SHA-256: ${code(sha256)}`,
    `- bytes: ${bytes}`,
    `- from: ${code(origin.address)}, ${origin.bytes} bytes${origin.sha256 === null ? '' : `, SHA-256 ${code(origin.sha256)}`}`,
    `- version at the source: ${origin.validator === null ? 'not given' : code(origin.validator)}`,
    `- verified against: ${origin.checked === null ? 'no published digest' : `${origin.checked.algorithm} ${code(origin.checked.digest)}`}`,
    ...(entries === null ? [] : [`- folder of ${entries} files, stored as a tar`]),
    ...(leftOut.count === 0 ? [] : [`- files skipped: ${leftOut.count}`]),
    ...leftOut.examples.map(({ path, why }) => `  - ${code(path)}: ${code(why)}`),
    '',
  ]);
  return [
    `# Data set ${sheet.dataset}`,
    '',
    `- project: ${sheet.project}`,
    `- source: ${code(describeSource(sheet.source))}`,
    `- revision: ${sheet.revision === null ? 'none given' : code(sheet.revision)}`,
    `- licence: ${sheet.licence === null ? 'not given by the source: ask its owner before you use the data' : code(sheet.licence)}`,
    `- imported by ${sheet.importedBy} at ${sheet.importedAt}, as ${sheet.import}`,
    `- files: ${sheet.files.length}, bytes: ${sheet.bytes}`,
    ...sheet.notes.map((note) => `- note: ${code(note)}`),
    '',
    ...files,
  ].join('\n');
}

const code = (text: string): string => `\`${text.replace(/[`\r\n\u0000-\u001f\u007f]/g, '?')}\``;
