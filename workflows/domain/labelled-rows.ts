// Which data sets an evaluation can use: exactly one file of labelled rows, as JSON lines.

/** What {@link labelledRows} looks for, for messages. */
export const LABELLED_ROWS = 'one file *.jsonl or *.jsonl.gz';

/** The file of rows; `undefined` if the data set has no labelled rows. */
export const labelledRows = <T extends { readonly name: string }>([file, ...others]: readonly T[]): T | undefined =>
  file && others.length === 0 && /\.jsonl(\.gz)?$/.test(file.name) ? file : undefined;

/** Whether the file of rows is compressed. */
export const isZipped = ({ name }: { readonly name: string }): boolean => name.endsWith('.gz');
