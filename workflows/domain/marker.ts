// Validates environment markers of requirements (PEP 508) without evaluating them.

/** Markers in use have two or three comparisons. */
const LONGEST = 1_000;
const DEEPEST = 10;

const VARIABLES: ReadonlySet<string> = new Set([
  'os_name',
  'sys_platform',
  'platform_machine',
  'platform_python_implementation',
  'platform_release',
  'platform_system',
  'platform_version',
  'python_version',
  'python_full_version',
  'implementation_name',
  'implementation_version',
]);
const COMPARISONS: ReadonlySet<string> = new Set(['===', '==', '~=', '!=', '<=', '>=', '<', '>', 'in', 'not in']);

const TOKEN =
  /[ \t]*(?:(not[ \t]+in\b|[a-z_]+)|('[A-Za-z0-9 ._+*~#-]*'|"[A-Za-z0-9 ._+*~#-]*")|(===|==|~=|!=|<=|>=|<|>)|([()]))/y;

/** Why `text` is not a valid marker; `undefined` if it is valid. */
export function markerProblem(text: string): string | undefined {
  if (text.length > LONGEST) return `it has ${text.length} characters, and at most ${LONGEST} are allowed`;
  const tokens = tokensOf(text);
  if (typeof tokens === 'string') return tokens;
  const state = { at: 0 };
  const problem = readOr(tokens, state, 0);
  if (problem !== undefined) return problem;
  const left = tokens[state.at];
  return left === undefined ? undefined : `"${left}" is not expected there`;
}

function tokensOf(text: string): readonly string[] | string {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; text.slice(at).trim() !== ''; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (match === null) return `"${text.slice(at).trim().slice(0, 20)}" is not part of a marker`;
    const [, word, quoted, comparison, bracket] = match;
    tokens.push(word?.replace(/[ \t]+/, ' ') ?? quoted ?? comparison ?? bracket ?? '');
  }
  return tokens;
}

type Cursor = { at: number };

function readOr(tokens: readonly string[], cursor: Cursor, depth: number): string | undefined {
  for (;;) {
    const problem = readOne(tokens, cursor, depth);
    if (problem !== undefined) return problem;
    const joint = tokens[cursor.at];
    // Both join two comparisons; their precedence does not matter for the syntax.
    if (joint !== 'and' && joint !== 'or') return undefined;
    cursor.at += 1;
  }
}

function readOne(tokens: readonly string[], cursor: Cursor, depth: number): string | undefined {
  if (tokens[cursor.at] !== '(') return readComparison(tokens, cursor);
  if (depth >= DEEPEST) return `its brackets are nested deeper than ${DEEPEST}`;
  cursor.at += 1;
  const problem = readOr(tokens, cursor, depth + 1);
  if (problem !== undefined) return problem;
  if (tokens[cursor.at] !== ')') return 'a bracket is not closed';
  cursor.at += 1;
  return undefined;
}

function readComparison(tokens: readonly string[], cursor: Cursor): string | undefined {
  const [left = '', comparison = '', right = ''] = tokens.slice(cursor.at, cursor.at + 3);
  const isValue = (token: string): boolean => VARIABLES.has(token) || /^['"]/.test(token);
  if (!isValue(left)) return left === '' ? 'a comparison is missing' : `"${left}" is neither a variable nor a text`;
  if (!COMPARISONS.has(comparison)) return `"${comparison}" is not a comparison`;
  if (!isValue(right))
    return right === '' ? 'a comparison has no right side' : `"${right}" is neither a variable nor a text`;
  if (!VARIABLES.has(left) && !VARIABLES.has(right)) return `${left} and ${right} are both texts`;
  cursor.at += 3;
  return undefined;
}
