// What parsing a JSON text would lose: repeated names anywhere, and numbers where they must stay the same.
import { describe, expect, it } from '@jest/globals';
import { jsonProblem } from '../../workflows/domain/json-text.ts';

describe('a name', () => {
  it.each<[string, (string | number)[]]>([
    ['{"a":1,"a":1}', ['a']],
    ['{"a":{"b":1},"c":[{"d":1},{"e":{"f":[],"g":"}","f":[]}}]}', ['c', 1, 'e', 'f']],
    ['{"a":1,"\\u0061":2}', ['a']],
    ['{"":1,"":2}', ['']],
    ['{"x":{"__proto__":{"a":1}}}', ['x', '__proto__']],
    ['{"\\u005f_proto__":1}', ['__proto__']],
  ])('is refused in %s', (text, path) => {
    expect(jsonProblem(text)?.path).toEqual(path);
  });

  it.each([
    '{}',
    '[]',
    '"a"',
    '1',
    'null',
    '{"a":"a","b":"a"}',
    '{"a":{"a":{"a":["a","a"]}}}',
    '[{"a":1},{"a":1}]',
    '{"a\\"":1,"a":"\\\\","b":"{\\"a\\":1,\\"a\\":2}"}',
    ' { "a" : [ "a" , "a" ] , "constructor" : 1 } ',
    '{"a":"__proto__"}',
  ])('is accepted in %s', (text) => {
    expect(jsonProblem(text)).toBeUndefined();
  });
});

describe('a number', () => {
  const problem = (literal: string) => jsonProblem(`{"p":{"a":${literal}},"q":1.0}`, (path) => path[0] === 'p');

  it.each(['1.0', '-0.0', '1e5', '1E0', '0.1e1', '1e-400', '100.00'])('%s would arrive as an integer', (literal) => {
    expect(problem(literal)).toMatchObject({ path: ['p', 'a'], message: expect.stringContaining(literal) as unknown });
    expect(problem(literal)?.message).toContain('would arrive as the integer');
  });

  it.each(['12345678901234567890', '9007199254740993', '-0', '1e400', '-1e400', '9'.repeat(400)])(
    '%s cannot be kept',
    (literal) => {
      expect(problem(literal)?.message).toContain('cannot be kept exactly');
      expect(problem(literal)?.message.length).toBeLessThan(200);
    },
  );

  it.each(['0', '-7', '9007199254740991', '0.5', '1.25', '-1.5e-7', '1e-7', '1e21', '0.30000000000000004', '2.50'])(
    '%s is kept',
    (literal) => {
      expect(problem(literal)).toBeUndefined();
    },
  );
});

it('takes a time that grows with the text', () => {
  const text = `{${Array.from({ length: 200_000 }, (_, i) => `"n${i}":"${'\\"'.repeat(5)}"`).join(',')}}`;
  const begun = performance.now();
  expect(jsonProblem(text)).toBeUndefined();
  expect(jsonProblem(`"${'\\\\'.repeat(3_000_000)}"`)).toBeUndefined();
  expect(performance.now() - begun).toBeLessThan(5_000);
});
