// Test sets, valid and invalid, for both readers: the check at registration and the evaluation job's.
import { gzipSync } from 'node:zlib';

export interface TestSetCase {
  readonly name: string;
  readonly file: 'test.jsonl' | 'test.jsonl.gz';
  readonly bytes: Buffer;
  /** The line that both readers name; `any` where they differ in how far they got, `none` for a valid test set. */
  readonly refused: number | 'any' | 'none';
}

/** A row for a model with one input `x` of two numbers and the classes NO and YES. */
const row = (id: string, x: unknown = [0.25, 0.75], label: unknown = 'YES') =>
  JSON.stringify({ id, inputs: { x }, label });
const sound = [row('a'), row('b', [0.75, 0.25], 'NO'), row('c', [1, 0], 0)];
const text = sound.join('\n');
const zipped = gzipSync(text);
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);
const LONGEST_LINE = 32 << 20;

const plain = (name: string, content: string | Buffer, refused: TestSetCase['refused'] = 'none'): TestSetCase => ({
  ...{ name, file: 'test.jsonl', bytes: Buffer.from(content), refused },
});
const zip = (name: string, bytes: Buffer, refused: TestSetCase['refused'] = 'none'): TestSetCase => ({
  ...{ name, file: 'test.jsonl.gz', bytes, refused },
});
/** A line between two valid ones. */
const second = (name: string, line: string | Buffer, refused: TestSetCase['refused'] = 2) =>
  plain(
    name,
    Buffer.concat([Buffer.from(`${sound[0]}\n`), Buffer.from(line), Buffer.from(`\n${sound[1]}\n`)]),
    refused,
  );
/** A second line with this JSON as a value of its input. */
const input = (name: string, x: string, refused: TestSetCase['refused'] = 2) =>
  second(name, `{"id":"x","inputs":{"x":${x}},"label":"YES"}`, refused);
const label = (name: string, given: string, refused: TestSetCase['refused'] = 2) =>
  second(name, `{"id":"x","inputs":{"x":[0,1]},"label":${given}}`, refused);

export const testSetCases: readonly TestSetCase[] = [
  plain('a line break at the end', `${text}\n`),
  plain('no line break at the end', text),
  plain('carriage returns', sound.join('\r\n')),
  plain('a byte order mark', `\uFEFF${text}`),
  plain('blank lines at the end', `${text}\n\n \t\r\n\v\f\n`),
  plain('a byte order mark and carriage returns and blank lines', `\uFEFF${sound.join('\r\n')}\r\n\r\n`),
  plain('an empty file', '', 'any'),
  plain('blank lines only', '\uFEFF\n \n', 'any'),
  plain('a blank first line', `\n${text}`, 1),
  plain('a byte order mark in a blank first line', `\uFEFF\n${text}`, 1),
  plain('two byte order marks', `\uFEFF\uFEFF${text}`, 1),
  plain('UTF-16', Buffer.from(text, 'utf16le'), 1),
  plain('a JSON array', JSON.stringify([{ id: 'a' }]), 1),
  second('a blank line in the middle', '  '),
  second('a byte order mark in the middle', `\uFEFF${row('x')}`),
  second('an id that was given before', row('a')),
  second(
    'ids that differ in lone surrogates',
    `{"id":"\\ud800","inputs":{"x":[0,1]},"label":0}\n{"id":"\\ud801","inputs":{"x":[0,1]},"label":0}`,
    'none',
  ),
  second('an id that was given before in escapes', '{"id":"\\u0061","inputs":{"x":[0,1]},"label":0}'),
  second(
    'other members, nested',
    `{"id":"x","inputs":{"x":[0,1]},"label":0,"note":{"id":1,"label":null,"inputs":${nested(40)}}}`,
    'none',
  ),
  second(
    'members that are named as those of an object',
    '{"__proto__":1,"constructor":2,"id":"x","inputs":{"x":[0,1]},"label":0}',
    'none',
  ),
  second('white space', ' { "id" :\t"x" , "inputs" : { "x" : [ 0 , 1 ] } , "label" : 0 } \r', 'none'),
  second('text and escapes', '{"id":"x\\n\\u20ac\\"€","inputs":{"x":[0,1]},"label":"\\u0059ES"}', 'none'),
  second('white space that JSON does not have', `${row('x')}\v`),
  second('bytes that are not UTF-8', Buffer.from(row('ü'), 'latin1')),
  second('a NUL', '{"id":"\0","inputs":{"x":[0,1]},"label":0}'),
  second('a tab in a text', '{"id":"\t","inputs":{"x":[0,1]},"label":0}'),
  second('an invalid escape', '{"id":"\\x","inputs":{"x":[0,1]},"label":0}'),
  second('an incomplete escape', '{"id":"\\u00"}'),
  second('a text without an end', '{"id":"x'),
  second('a row without an end', '{"id": "x", "inp'),
  second('a row that ends in an array', '{"id":"x","inputs":{"x":[0,1'),
  second('two rows in a line', `${row('x')}${row('y')}`),
  second('two rows in a line, with a carriage return', `${row('x')}\r${row('y')}`),
  second('a comma at the end', `${row('x')},`),
  second('a comma before the end', '{"id":"x","inputs":{"x":[0,1],},"label":0}'),
  second('no comma', '{"id":"x" "inputs":{"x":[0,1]},"label":0}'),
  second('no colon', '{"id","x"}'),
  second('the wrong bracket', '{"id":"x","inputs":{"x":[0,1}},"label":0}'),
  second('a name without quotes', '{id:"x","inputs":{"x":[0,1]},"label":0}'),
  second('single quotes', "{'id':'x'}"),
  second('a name given twice', '{"id":"x","inputs":{"x":[0,1]},"label":"YES","label":"NO"}'),
  second('a name given twice in escapes', '{"id":"x","inputs":{"x":[0,1]},"label":"YES","l\\u0061bel":"NO"}'),
  second('an input given twice', '{"id":"x","inputs":{"x":[0,1],"x":[0,1]},"label":"YES"}'),
  second('a name given twice in what is ignored', '{"id":"x","inputs":{"x":[0,1]},"label":0,"note":[{"a":1,"a":1}]}'),
  second('a text', '"x"'),
  second('null', 'null'),
  second('an array', '[]'),
  second('nesting that no parser follows', nested(100_000)),
  second('a line that is too long', Buffer.alloc(LONGEST_LINE, row('x').padEnd(1_024))),
  second(
    'the longest line',
    Buffer.concat([Buffer.from(row('x')), Buffer.alloc(LONGEST_LINE - row('x').length - 1, ' ')]),
    'none',
  ),
  second('no id', '{"inputs":{"x":[0,1]},"label":0}'),
  second('an empty id', row('')),
  second('an id that is a number', '{"id":1,"inputs":{"x":[0,1]},"label":0}'),
  second('no inputs', '{"id":"x","label":0}'),
  second('inputs that are empty', '{"id":"x","inputs":{},"label":0}'),
  second('inputs that are an array', '{"id":"x","inputs":[0,1],"label":0}'),
  second('another input than before', '{"id":"x","inputs":{"y":[0,1]},"label":0}'),
  second('no label', '{"id":"x","inputs":{"x":[0,1]}}'),
  label('a label that is null', 'null'),
  label('a label that is a fraction', '1.0'),
  label('a label with an exponent', '1e0'),
  label('a label that is negative', '-1'),
  label('a label that is true', 'true'),
  label('a label that is an array', '["YES"]'),
  label('a label that is an object', '{"YES":1}'),
  label('a label that is not a number', 'NaN'),
  label('a label that is negative zero', '-0', 'none'),
  input('other nesting of as many values', '[[0.5],[1e0]]', 'none'),
  input('integers where there were fractions', '[1,-0]', 'none'),
  input('numbers of many digits', `[0.${'1'.repeat(4_000)},1E-400]`, 'none'),
  input('fewer values than before', '[1]'),
  input('no values', '[]'),
  input('a value instead of several', '1'),
  input('more values than before', '[0,1,2]'),
  input('arrays of different lengths', '[[0],[1,2]]'),
  input('arrays and values', '[0,[1]]'),
  input('texts where there were numbers', '["0","1"]'),
  input('true and false where there were numbers', '[true,false]'),
  input('a text among numbers', '[0,"one"]'),
  input('true among numbers', '[0,true]'),
  input('a value that is null', '[0,null]'),
  input('null', 'null'),
  input('an object', '{"0":1,"1":2}'),
  input('an object in an array', '[{},{}]'),
  input('NaN', '[0,NaN]'),
  input('Infinity', '[0,Infinity]'),
  input('-Infinity', '[0,-Infinity]'),
  input('a fraction that is too large for any datatype', '[0,1e999]'),
  input('an integer that is too large for any datatype', `[0,${'9'.repeat(400)}]`),
  input('an integer of too many digits to read', `[0,${'9'.repeat(5_000)}]`),
  input('a zero before other digits', '[0,01]'),
  input('a plus sign', '[0,+1]'),
  input('no digits before the point', '[0,.5]'),
  input('no digits after the point', '[0,5.]'),
  input('a minus sign alone', '[0,-]'),
  input('hexadecimal digits', '[0,0x1]'),
  input('a word that JSON does not have', '[0,nul]'),
  zip('a gzip file', zipped),
  zip('a gzip file of several members', Buffer.concat(sound.map((line) => gzipSync(`${line}\n`)))),
  zip('a gzip file with a byte order mark and blank lines', gzipSync(`\uFEFF${text}\n\n`)),
  zip('a row without a label in a gzip file', gzipSync(`${text}\n{"id":"x","inputs":{"x":[0,1]}}\n`), 4),
  zip('a gzip file that is cut', zipped.subarray(0, 60), 'any'),
  zip('a gzip file without its last byte', zipped.subarray(0, -1), 'any'),
  zip('a gzip file without its last member', Buffer.concat([zipped, gzipSync(`\n${row('x')}`).subarray(0, 12)]), 'any'),
  zip('a gzip file with damaged bytes', Buffer.from(zipped).fill(0xff, 20, 40), 'any'),
  zip('a gzip file with a wrong checksum', Buffer.from(zipped).fill(0, zipped.length - 8, zipped.length - 4), 'any'),
  zip('a gzip file with something behind it', Buffer.concat([zipped, Buffer.from('more')]), 'any'),
  zip('an empty gzip file', gzipSync(''), 'any'),
  zip('an empty file named as a gzip file', Buffer.alloc(0), 'any'),
  zip('a text named as a gzip file', Buffer.from(text), 'any'),
  plain('a gzip file named as a text', zipped, 1),
];

/** What only the check at registration refuses: it does not know which inputs a model takes. */
export const onlyAtRegistration: readonly TestSetCase[] = [
  second('an input that the first row does not have', '{"id":"x","inputs":{"x":[0,1],"y":1},"label":0}'),
  plain('no input that the first row has', `{"id":"a","inputs":{"x":[0,1],"y":1},"label":0}\n${sound[1]}`, 2),
  second('nesting that is deeper than any tensor', `{"id":"x","inputs":{"x":[0,1]},"label":0,"note":${nested(100)}}`),
  zip('a gzip file with zero bytes behind it', Buffer.concat([zipped, Buffer.alloc(9)]), 'any'),
  zip(
    'a gzip file with zero bytes and more rows behind it',
    Buffer.concat([zipped, Buffer.alloc(9), gzipSync(`\n${row('x')}`)]),
    'any',
  ),
];
