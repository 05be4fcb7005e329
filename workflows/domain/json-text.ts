// What a JSON text says that parsing it loses silently: repeated names, and numbers whose value or type changes.

/** A place in a JSON text: names and indexes, from the root. */
export type JsonPath = readonly (string | number)[];

export interface JsonProblem {
  readonly path: JsonPath;
  readonly message: string;
}

interface Frame {
  /** The names so far; `undefined` in an array. */
  readonly names: Set<string> | undefined;
  /** The name or index of the current value. */
  at: string | number;
  isName: boolean;
}

/**
 * The first loss in a valid JSON text; `undefined` if there is none. A name given twice is ambiguous, and `__proto__` is
 * dropped by common parsers. Numbers are judged only where `isExact` says so.
 */
export function jsonProblem(text: string, isExact: (path: JsonPath) => boolean = () => false): JsonProblem | undefined {
  const frames: Frame[] = [];
  const path = (): JsonPath => frames.map(({ at }) => at);
  for (let i = 0; i < text.length; i += 1) {
    const frame = frames.at(-1);
    const c = text[i] ?? '';
    if (c === '{') frames.push({ names: new Set(), at: '', isName: true });
    else if (c === '[') frames.push({ names: undefined, at: 0, isName: false });
    else if (c === '}' || c === ']') frames.pop();
    else if (c === ',' && frame) {
      if (typeof frame.at === 'number') frame.at += 1;
      else frame.isName = true;
    } else if (c === '"') {
      const end = endOfString(text, i);
      if (frame?.names && frame.isName) {
        frame.at = JSON.parse(text.slice(i, end + 1)) as string;
        frame.isName = false;
        if (frame.at === '__proto__') return { path: path(), message: 'this name cannot be used: choose another one' };
        if (frame.names.has(frame.at)) return { path: path(), message: 'given twice: give it once' };
        frame.names.add(frame.at);
      }
      i = end;
    } else if (c === '-' || (c >= '0' && c <= '9')) {
      const literal = numberAt(text, i);
      const message = isExact(path()) ? numberProblem(literal) : undefined;
      if (message !== undefined) return { path: path(), message };
      i += literal.length - 1;
    }
  }
  return undefined;
}

/** The index of the quote that ends the string which starts at `start`. */
function endOfString(text: string, start: number): number {
  let end = start + 1;
  while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end;
}

function numberAt(text: string, start: number): string {
  const number = /[-+.0-9eE]+/y;
  number.lastIndex = start;
  return number.exec(text)?.[0] ?? '';
}

/** Why a number would be another one after it is parsed and written again; `undefined` if it stays the same. */
function numberProblem(literal: string): string | undefined {
  const value = Number(literal);
  const written = JSON.stringify(value);
  const isWhole = /^-?[0-9]+$/.test(literal);
  if (isWhole ? written === literal : Number.isFinite(value) && !/^-?[0-9]+$/.test(written)) return undefined;
  const shown = literal.length > 40 ? `${literal.slice(0, 40)}…` : literal;
  return isWhole || !Number.isFinite(value)
    ? `the number ${shown} cannot be kept exactly: give it as a text and convert it where it is used`
    : `the number ${shown} would arrive as the integer ${written}: give an integer, or a text that is converted where it is used`;
}
