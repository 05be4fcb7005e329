// The files beside a model: the requirements of model.json and golden.json, and that they match each other and the model.
import {
  checkSubmission,
  ModelFormatError,
  parseGolden,
  parseModelJson,
  type ModelCard,
} from '../../activities/model-format.ts';

const card = {
  name: 'vulnerability-detector',
  type: 'code-vulnerability',
  framework: 'scikit-learn 1.5',
  signature: {
    inputs: [{ name: 'code', datatype: 'BYTES', shape: [-1, 1] }],
    outputs: [
      { name: 'label', datatype: 'INT64', shape: [-1] },
      { name: 'probabilities', datatype: 'FP32', shape: [-1, 2] },
    ],
  },
  classes: ['safe', 'vulnerable'],
  prediction: { output: 'probabilities', positive: 'vulnerable' },
  preprocessing: { name: 'raw-text', version: 1, description: 'The text of one function.' },
  data: [{ name: 'train', sha256: 'a'.repeat(64) }],
  metrics: { f1: 0.9 },
};

const sample = {
  request: { inputs: [{ name: 'code', datatype: 'BYTES', shape: [2, 1], data: ['a', 'b'] }] },
  response: {
    outputs: [
      {
        name: 'probabilities',
        datatype: 'FP32',
        shape: [2, 2],
        data: [
          [0.5, 0.5],
          [0.1, 0.9],
        ],
      },
    ],
  },
  tolerance: 0.001,
};

const problemsOf = (parse: () => unknown): string => {
  try {
    parse();
  } catch (error) {
    if (error instanceof ModelFormatError) return error.problems.join('\n');
    throw error;
  }
  throw new Error('was accepted');
};

it('refuses a name that is given twice', () => {
  const twice = JSON.stringify(card).replace('"classes":', '"classes":["vulnerable","safe"],"classes":');
  expect(problemsOf(() => parseModelJson(twice))).toBe('classes: given twice: give it once');
  const golden = JSON.stringify({ samples: [sample] }).replace('"tolerance":', '"tolerance":1,"tolerance":');
  expect(problemsOf(() => parseGolden(golden))).toBe('samples.0.tolerance: given twice: give it once');
});

describe('model.json', () => {
  it('is read; the default threshold is one half', () => {
    expect(parseModelJson(JSON.stringify(card))).toEqual({ ...card, threshold: 0.5 });
    expect(parseModelJson(JSON.stringify({ ...card, threshold: 0.7, revises: null, run: 'r-1' }))).toMatchObject({
      threshold: 0.7,
      revises: null,
    });
  });

  const { metrics, ...withoutMetrics } = card;
  const wrong: [string, unknown, RegExp][] = [
    ['an unknown key', { ...card, extra: 1 }, /extra/],
    ['an unknown nested key', { ...card, prediction: { ...card.prediction, label: 'x' } }, /prediction: .*label/],
    ['a missing part', { ...withoutMetrics, metric: metrics }, /metrics/],
    ['an invalid name', { ...card, name: 'Big Model' }, /name: /],
    ['a name too long', { ...card, name: 'a'.repeat(64) }, /name: /],
    ['a path as type', { ...card, type: '../etc' }, /type: /],
    ['one class', { ...card, classes: ['safe'] }, /classes/],
    ['a class twice', { ...card, classes: ['safe', 'safe'] }, /a class occurs twice/],
    [
      'a positive that is not a class',
      { ...card, prediction: { output: 'label', positive: 'bad' } },
      /'bad' is not one of the classes/,
    ],
    ['two classes without a positive', { ...card, prediction: { output: 'label' } }, /must name one/],
    [
      'a prediction that is not an output',
      { ...card, prediction: { output: 'x', positive: 'safe' } },
      /'x' is not an output/,
    ],
    ['a threshold over one', { ...card, threshold: 2 }, /threshold/],
    ['a metric that is text', { ...card, metrics: { f1: 'high' } }, /metrics.f1/],
    ['a malformed digest', { ...card, data: [{ name: 'd', sha256: 'abc' }] }, /data.0.sha256/],
    [
      'an input twice',
      { ...card, signature: { ...card.signature, inputs: [0, 1].map(() => card.signature.inputs[0]) } },
      /a name occurs twice/,
    ],
    [
      'an unknown datatype',
      { ...card, signature: { ...card.signature, inputs: [{ name: 'x', datatype: 'STRING', shape: [] }] } },
      /datatype/,
    ],
    ['an invalid number of the revised version', { ...card, revises: 0 }, /revises/],
    ['a list', [], /object/],
    ['null', null, /object/],
  ];
  it.each(wrong)('refuses %s', (_, content, words) => {
    expect(problemsOf(() => parseModelJson(JSON.stringify(content)))).toMatch(words);
  });

  it('refuses malformed JSON, an infinite metric and a file that is too large; reports all problems together', () => {
    expect(problemsOf(() => parseModelJson('{'))).toContain('not JSON');
    expect(problemsOf(() => parseModelJson('['.repeat(200_000)))).toContain('not JSON');
    expect(problemsOf(() => parseModelJson(JSON.stringify(card).replace('0.9', '1e999')))).toContain('metrics.f1');
    expect(problemsOf(() => parseModelJson(' '.repeat(256 * 1024) + '{}'))).toContain('the limit is');
    const both = problemsOf(() => parseModelJson(JSON.stringify({ ...card, name: 'X', classes: [] })));
    expect(both).toMatch(/name: [^]*classes: /);
  });
});

describe('golden.json', () => {
  it('is read, and refused if it has no sample, too many samples, or no tolerance', () => {
    expect(parseGolden(JSON.stringify({ samples: [sample] })).samples).toHaveLength(1);
    expect(problemsOf(() => parseGolden('{"samples": []}'))).toContain('samples');
    expect(problemsOf(() => parseGolden(JSON.stringify({ samples: Array(101).fill(sample) })))).toContain('samples');
    expect(problemsOf(() => parseGolden(JSON.stringify({ samples: [{ ...sample, tolerance: -1 }] })))).toContain(
      'tolerance',
    );
    expect(problemsOf(() => parseGolden('x'.repeat(1024 * 1024 + 1)))).toContain('the limit is');
  });
});

describe('checkSubmission', () => {
  const parsed: ModelCard = parseModelJson(JSON.stringify(card));
  const inspection = parsed.signature;
  const check = (golden: unknown): string =>
    checkSubmission({ card: parsed, golden: parseGolden(JSON.stringify({ samples: [golden] })), inspection }).join(
      '\n',
    );
  const input = sample.request.inputs[0];
  const output = sample.response.outputs[0];

  it('finds no problem in a valid submission', () => {
    expect(check(sample)).toBe('');
  });

  const misfits: [string, unknown, string][] = [
    ['a missing input', { ...sample, request: { inputs: [{ ...input, name: 'text' }] } }, "input 'code' is missing"],
    [
      'an unknown input',
      { ...sample, request: { inputs: [{ ...input, name: 'text' }] } },
      "input 'text' is not in the signature",
    ],
    [
      'another datatype',
      { ...sample, request: { inputs: [{ ...input, datatype: 'FP32' }] } },
      'is FP32 but the signature says BYTES',
    ],
    ['another shape', { ...sample, request: { inputs: [{ ...input, shape: [2] }] } }, 'has shape [2]'],
    [
      'too few elements',
      { ...sample, request: { inputs: [{ ...input, data: ['a'] }] } },
      'has 1 elements, but its shape requires 2',
    ],
    [
      'an unknown requested output',
      { ...sample, request: { ...sample.request, outputs: [{ name: 'q' }] } },
      "requests 'q'",
    ],
    [
      'no prediction in the response',
      { ...sample, response: { outputs: [{ name: 'label', datatype: 'INT64', shape: [1], data: [1] }] } },
      'has no prediction output',
    ],
    [
      'an output of another datatype',
      { ...sample, response: { outputs: [{ ...output, datatype: 'FP64' }] } },
      'is FP64',
    ],
  ];
  const answer = (data: unknown[], tolerance = 0, more: object = {}) => ({
    ...{ ...sample, tolerance },
    response: { outputs: [{ ...output, ...more, data }] },
  });
  it.each([
    [
      'null',
      { ...sample, request: { inputs: [{ ...input, data: [null, 'b'] }] } },
      "input 'code' has null at element 0",
    ],
    ['a number as text', answer(['0.5', '0.5', '0.1', '0.9']), 'must be a number'],
    ['no elements', answer([], 0, { shape: [0, 2] }), 'has no elements, so it checks nothing'],
    ['a tolerance without bound', answer(output?.data ?? [], 1_000_000), 'at most 0.001 is allowed'],
    ['a tolerance just above its bound', answer(output?.data ?? [], 0.0011), 'the tolerance is 0.0011'],
  ])('refuses %s in a golden sample', (_, golden, words) => {
    expect(check(golden)).toContain(words);
  });

  it('refuses an integer that JSON numbers cannot hold, and takes it as a decimal string', () => {
    const wide = {
      ...parsed,
      signature: { ...parsed.signature, inputs: [{ name: 'code', datatype: 'INT64', shape: [-1] }] },
    };
    const given = (data: unknown[]) => ({
      ...sample,
      request: { inputs: [{ name: 'code', datatype: 'INT64', shape: [2], data }] },
    });
    const problems = (data: unknown[]) =>
      checkSubmission({
        card: wide as ModelCard,
        golden: parseGolden(JSON.stringify({ samples: [given(data)] })),
        inspection: wide.signature as ModelCard['signature'],
      }).join();
    expect(problems([2 ** 53, 1])).toContain('beyond 2^53 as a decimal string');
    expect(problems(['9007199254740993', 1])).toBe('');
  });

  it.each(misfits)('names %s', (_, golden, words) => {
    expect(check(golden)).toContain(words);
  });

  it('reports conflicts with the model together with those of the samples', () => {
    const golden = parseGolden(
      JSON.stringify({ samples: [{ ...sample, request: { inputs: [{ ...input, shape: [2] }] } }] }),
    );
    const problems = checkSubmission({ card: parsed, golden, inspection: { ...inspection, outputs: [] } });
    expect(problems).toHaveLength(3);
  });
});
