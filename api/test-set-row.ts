// Reads one row of a test set: the checks that need no model. The evaluation job repeats them (deploy/capsule/ocdl).

/** Why a row is refused; the text continues "line 3 …". */
export class RowProblem extends Error {
  override readonly name = 'RowProblem';
}

/** The datatypes that a value fits, as bits; a set of values fits those that all of them fit. */
const BOOL = 1;
const BYTES = 2;
const INTEGER = 4;
const FLOAT = 8;
/** 64-bit integers may be decimal texts: JSON numbers lose digits beyond 2^53. */
const LARGE_INTEGER = 16;

/** What all rows have in common for one input. A model's shapes and datatypes are fixed, apart from the number of rows. */
export interface InputForm {
  readonly values: number;
  /** Bits of the datatypes that all its values fit. */
  readonly kinds: number;
}

export interface Row {
  readonly id: string;
  readonly inputs: ReadonlyMap<string, InputForm>;
}

/** Levels of nesting. A tensor has far fewer dimensions, and Python's parser stops at some hundreds. */
const DEEPEST = 64;
/** Digits and signs of a number: Python reads no longer integer. */
const LONGEST_NUMBER = 4_300;
/** Names in one object. A model has at most 1,000 inputs (its card, activities/model-format), and each name takes memory. */
const MOST_NAMES = 1_000;
/** Characters between two pauses: well below a millisecond of work. */
const SLICE = 1 << 15;

type Where = 'row' | 'inputs' | 'input' | 'label' | 'other';

interface Frame {
  /** The names so far; `undefined` in an array. */
  readonly names: Set<string> | undefined;
  /** What the values in here are part of. */
  readonly where: Where;
  /** The last name in an object. */
  name: string;
  items: number;
}

/** A value of an input while it is read. */
interface Tensor {
  values: number;
  kinds: number;
  /** Length of every array by depth; -1 where the values are. */
  readonly lengths: number[];
}

/**
 * Reads the JSON text of a row. It pauses (yields) at intervals, because a row may have megabytes. Throws {@link RowProblem}.
 */
export function* readRow(text: string): Generator<undefined, Row> {
  const frames: Frame[] = [];
  const inputs = new Map<string, Tensor>();
  const found: { id?: string; hasInputs: boolean; hasLabel: boolean } = { hasInputs: false, hasLabel: false };
  let [at, pauseAt] = [0, SLICE];
  for (let wantsValue = true; ;) {
    at = skipSpace(text, at);
    if (at >= pauseAt) {
      pauseAt = at + SLICE;
      yield;
    }
    const frame = frames.at(-1);
    const c = text[at];
    if (!wantsValue) {
      // After a value: a comma, the end of what it is in, or the end of the text.
      if (!frame) {
        if (c !== undefined) throw notJson('has text after its end', at);
        break;
      }
      if (c === (frame.names ? '}' : ']')) at = close(at);
      else if (c === ',') {
        at = skipSpace(text, at + 1);
        if (frame.names) at = yield* readName(frame, frame.names, at);
        wantsValue = true;
      } else throw notJson(`lacks a comma or "${frame.names ? '}' : ']'}"`, at);
      continue;
    }
    if (frame) frame.items += 1;
    const where = placeOf(frame);
    if (c === '{' || c === '[') {
      const isObject = c === '{';
      if (frames.length === DEEPEST) throw new RowProblem(`is nested deeper than ${DEEPEST} levels`);
      if (where === 'row' && !isObject) throw new RowProblem('is not a JSON object');
      open(where, isObject);
      const inside: Frame = { names: isObject ? new Set() : undefined, where, name: '', items: 0 };
      frames.push(inside);
      at = skipSpace(text, at + 1);
      if (text[at] === (isObject ? '}' : ']')) {
        at = close(at);
        wantsValue = false;
      } else if (inside.names) at = yield* readName(inside, inside.names, at);
    } else {
      const end = yield* scalarEnd(text, at);
      scalar(where, frame, text[at] ?? '', at, end);
      at = end;
      wantsValue = false;
    }
  }
  if (found.id === undefined || found.id === '') throw new RowProblem('has no id (a non-empty string)');
  if (!found.hasInputs || inputs.size === 0) throw noInputs();
  if (!found.hasLabel) throw new RowProblem('has no label (the name of a class, or its position as an integer)');
  return { id: found.id, inputs };

  /** What a value is: the row itself, one of its three members, an input's value, or something else, which is ignored. */
  function placeOf(frame: Frame | undefined): Where {
    if (!frame) return 'row';
    if (frame.where === 'inputs') return 'input';
    if (frame.where !== 'row') return frame.where;
    return frame.name === 'inputs' ? 'inputs' : frame.name === 'label' ? 'label' : 'other';
  }

  function* readName(frame: Frame, names: Set<string>, start: number): Generator<undefined, number> {
    if (text[start] !== '"') throw notJson('lacks a name in quotes', start);
    const end = yield* scalarEnd(text, start);
    frame.name = stringAt(text, start, end);
    if (names.has(frame.name)) throw new RowProblem(`is not valid JSON: ${shown(frame.name)} is given twice`);
    names.add(frame.name);
    if (names.size > MOST_NAMES) throw new RowProblem(`has an object with more than ${MOST_NAMES} names`);
    const colon = skipSpace(text, end);
    if (text[colon] !== ':') throw notJson('lacks a colon', colon);
    return colon + 1;
  }

  function open(where: Where, isObject: boolean): void {
    if (where === 'inputs' && !isObject) throw noInputs();
    if (where === 'inputs') found.hasInputs = true;
    if (where === 'label') throw invalidLabel();
    if (where === 'input' && isObject) throw new RowProblem(`has an object in input ${shown(inputName())}`);
  }

  function close(end: number): number {
    const closed = frames.pop();
    if (closed?.where === 'input') fits(tensor(), depth(), closed.items);
    return end + 1;
  }

  function scalar(where: Where, frame: Frame | undefined, first: string, start: number, end: number): void {
    if (where === 'row') throw new RowProblem('is not a JSON object');
    if (where === 'label') {
      if (first === 'n') return;
      const isPosition = /^(?:-0|[0-9]+)$/.test(text.slice(start, Math.min(end, start + LONGEST_NUMBER)));
      if (first !== '"' && !isPosition) throw invalidLabel();
      found.hasLabel = true;
    } else if (where === 'input') {
      const into = tensor();
      const kinds = kindsOf(text, start, end, inputName());
      fits(into, depth(), -1);
      into.values += 1;
      into.kinds &= kinds;
      if (into.kinds === 0)
        throw new RowProblem(`mixes values in input ${shown(inputName())} that have no datatype in common`);
    } else if (frame?.where === 'row' && frame.name === 'id' && first === '"') found.id = stringAt(text, start, end);
  }

  function inputName(): string {
    return frames[1]?.name ?? '';
  }

  function tensor(): Tensor {
    const known = inputs.get(inputName());
    if (known) return known;
    const made: Tensor = { values: 0, kinds: ~0, lengths: [] };
    inputs.set(inputName(), made);
    return made;
  }

  /** Arrays that a value of an input is in: all but the row and its inputs. */
  function depth(): number {
    return frames.length - 2;
  }

  function fits(into: Tensor, at: number, length: number): void {
    const other = (into.lengths[at] ??= length);
    if (other !== length) throw new RowProblem(`has arrays of different lengths in input ${shown(inputName())}`);
  }
}

/** A name in a message, at a bounded length. */
export const shown = (name: string): string => JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);

const noInputs = () => new RowProblem('has no inputs (an object with a value for each input)');
const invalidLabel = () => new RowProblem('has a label that is neither a text nor an integer from 0');
const notJson = (what: string, at: number) => new RowProblem(`is not valid JSON: it ${what} at character ${at + 1}`);

/** The datatypes that a value fits. Infinite numbers fit none, nor does `null`. */
function kindsOf(text: string, start: number, end: number, input: string): number {
  const first = text[start];
  if (first === '"')
    return end - start <= 23 && /^"-?[0-9]{1,20}"$/.test(text.slice(start, end)) ? BYTES | LARGE_INTEGER : BYTES;
  if (first === 't' || first === 'f') return BOOL;
  if (first === 'n') throw new RowProblem(`has null in input ${shown(input)}, which has no such value`);
  const literal = text.slice(start, end);
  if (!Number.isFinite(Number(literal)))
    throw new RowProblem(`has a number in input ${shown(input)} that is too large for any datatype`);
  return /[.eE]/.test(literal) ? FLOAT : INTEGER | LARGE_INTEGER | FLOAT;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  for (;;) {
    const c = text.charCodeAt(at);
    if (c !== 0x20 && c !== 0x09 && c !== 0x0a && c !== 0x0d) return at;
    at += 1;
  }
}

/** The index after the text, number or word that starts at `start`. */
function* scalarEnd(text: string, start: number): Generator<undefined, number> {
  const first = text[start];
  if (first === undefined) throw new RowProblem('is not valid JSON: it ends too early');
  if (first === '"') return yield* stringEnd(text, start);
  const word = WORDS[first];
  if (word !== undefined && text.startsWith(word, start)) return start + word.length;
  let end = start;
  while (end - start <= LONGEST_NUMBER && /[-+.0-9eE]/.test(text[end] ?? '')) end += 1;
  if (end - start > LONGEST_NUMBER) throw new RowProblem(`has a number of more than ${LONGEST_NUMBER} characters`);
  if (!NUMBER.test(text.slice(start, end))) throw notJson('has something that is no value', start);
  return end;
}

const WORDS: Readonly<Record<string, string>> = { t: 'true', f: 'false', n: 'null' };
const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$/;

function* stringEnd(text: string, start: number): Generator<undefined, number> {
  for (let at = start + 1, pauseAt = at + SLICE; ; at += 1) {
    if (at >= pauseAt) {
      pauseAt = at + SLICE;
      yield;
    }
    const c = text.charCodeAt(at);
    if (c === 0x22) return at + 1;
    if (Number.isNaN(c)) throw new RowProblem('is not valid JSON: it ends in a text');
    if (c < 0x20) throw notJson('has a control character in a text', at);
    if (c !== 0x5c) continue;
    const [found] = ESCAPE.exec(text.slice(at + 1, at + 6)) ?? [];
    if (found === undefined) throw notJson('has an invalid escape in a text', at);
    at += found.length;
  }
}

const ESCAPE = /^(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/;

/** A copy of the text without its quotes: a slice would keep the whole row in memory. */
const stringAt = (text: string, start: number, end: number): string => JSON.parse(text.slice(start, end)) as string;
