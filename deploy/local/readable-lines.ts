// Turns a child's log lines (JSON of pino, JSON of Temporal, or plain text) into short lines for a terminal.
import { z } from 'zod';

// For the command line, which reaches no lower than this.
export { messageOf } from '../../activities/failures.ts';

const logLineSchema = z.looseObject({
  level: z.union([z.number(), z.string()]),
  msg: z.string().optional(),
  err: z.looseObject({ message: z.string() }).optional(),
  error: z.string().optional(),
});

const warningLevel = 40;
const levels: Readonly<Record<string, number>> = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 };

/** Returns the line to show on the terminal, or undefined; with `verbose` every line is shown. */
export function terminalLineOf(line: string, verbose: boolean): string | undefined {
  const parsed = parseLogLine(line);
  if (parsed === undefined) return verbose && line.trim() !== '' ? printable(line) : undefined;
  const level = typeof parsed.level === 'number' ? parsed.level : (levels[parsed.level.toLowerCase()] ?? warningLevel);
  if (level < warningLevel && !verbose) return undefined;
  const word = level >= 60 ? 'FATAL ' : level >= 50 ? 'ERROR ' : level >= warningLevel ? 'WARN ' : '';
  const cause = parsed.err?.message ?? parsed.error;
  const message = parsed.msg ?? '';
  const whole = cause === undefined || message.includes(cause) ? message : `${message}: ${cause}`;
  return printable(`${word}${whole}`);
}

/** Removes characters that could move the cursor or forge a line: log texts may contain untrusted input. */
export function printable(text: string): string {
  const clean = text.replace(/[\s\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
  // 500 characters are about four terminal lines; the log file has the rest. The end is kept because it holds a nested error's cause.
  return clean.length > 500 ? `${clean.slice(0, 249)} … ${clean.slice(-248)}` : clean;
}

function parseLogLine(line: string): z.infer<typeof logLineSchema> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return logLineSchema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}
