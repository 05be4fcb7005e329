// The model check: what it reads from valid models, and that invalid bytes are refused with a reason.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspectModel, ModelFormatError } from '../../activities/model-format.ts';
import { inspectIn, problemsIn } from './inspect-bytes.ts';
import {
  addModel,
  encodeModel,
  FLOAT,
  floats,
  identityModel,
  INT64,
  model,
  node,
  opset,
  value,
  type Message,
} from './onnx-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'model-format-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inspect = inspectIn(folder);
const problemsOf = problemsIn(folder);

/** A model whose only node has the attributes. */
const withAttributes = (attribute: Message[]): Message =>
  model({
    node: [node('Identity', ['x'], ['y'], { attribute })],
    input: [value('x', FLOAT, [1])],
    output: [value('y', FLOAT, [1])],
  });

const nested = (depth: number, inner: Message): Message =>
  depth === 0
    ? inner
    : { node: [node('If', ['c'], ['y'], { attribute: [{ name: 'then_branch', g: nested(depth - 1, inner) }] })] };

const external = { ...floats('w', [2], []), external_data: [{ key: 'location', value: '/etc/passwd' }] };
const foreign = { node: [node('PyOp', ['x'], ['y'], { domain: 'ai.onnx.contrib' })] };

describe('a valid model', () => {
  it('is described by its operators, operator sets and tensors, with open sizes as -1', async () => {
    const bytes = encodeModel(addModel());
    expect(await inspect(bytes)).toEqual({
      irVersion: 8,
      opsets: [{ domain: 'ai.onnx', version: 17 }],
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
      operators: ['ai.onnx:Add'],
      externalData: false,
      bytes: bytes.length,
    });
  });

  it('has datatypes named as in the protocol', async () => {
    const types = { f: 1, u8: 2, i8: 3, u16: 4, i16: 5, i32: 6, i64: 7, s: 8, b: 9, h: 10, d: 11, u32: 12, u64: 13 };
    const { inputs } = await inspect(encodeModel(identityModel(types)));
    expect(inputs.map(({ datatype }) => datatype).join(' ')).toBe(
      'FP32 UINT8 INT8 UINT16 INT16 INT32 INT64 BYTES BOOL FP16 FP64 UINT32 UINT64',
    );
  });

  it('has operators of subgraphs and of other allowed domains, each listed once', async () => {
    const inner = {
      node: [
        node('Scaler', ['x'], ['y'], { domain: 'ai.onnx.ml' }),
        node('Gelu', ['x'], ['y'], { domain: 'com.microsoft' }),
      ],
    };
    const { operators } = await inspect(
      encodeModel({
        ...withAttributes([{ name: 'a', graphs: [inner, inner] }]),
        opset_import: [opset('ai.onnx', 17), opset('ai.onnx.ml', 3), opset('com.microsoft', 1)],
      }),
    );
    expect(operators).toEqual(['ai.onnx.ml:Scaler', 'ai.onnx:Identity', 'com.microsoft:Gelu']);
  });

  it('has no initializers among its inputs (files before IR version 4 list them there)', async () => {
    const old = addModel();
    const graph = old.graph as { input: Message[] };
    graph.input.push(value('one', FLOAT, [2]));
    const { inputs } = await inspect(encodeModel({ ...old, ir_version: 3 }));
    expect(inputs.map(({ name }) => name)).toEqual(['x']);
  });

  it('shows if the number of dimensions is not stated', async () => {
    const bytes = encodeModel(
      model({
        ...(withAttributes([]).graph as Message),
        output: [{ name: 'y', type: { tensor_type: { elem_type: INT64 } } }],
      }),
    );
    expect((await inspect(bytes)).outputs).toEqual([{ name: 'y', datatype: 'INT64', shape: [], rankUnknown: true }]);
  });

  it('may nest up to the limit', async () => {
    const leaf = { node: [node('Identity', ['x'], ['y'])] };
    const at = (depth: number): Buffer =>
      encodeModel(model({ ...(withAttributes([]).graph as Message), ...nested(depth, leaf) }));
    await expect(inspect(at(8))).resolves.toMatchObject({ operators: ['ai.onnx:Identity', 'ai.onnx:If'] });
    expect(await problemsOf(at(9))).toContain('nested deeper than 8');
  });
});

describe('a file that is not an ONNX model', () => {
  const cases: [string, Buffer, string][] = [
    ['empty', Buffer.alloc(0), 'empty'],
    [
      'a pickle',
      Buffer.from('80049515000000000000008c05706f736978948c0673797374656d9493942e', 'hex'),
      'a Python pickle',
    ],
    ['a pickle of protocol 0', Buffer.from("cos\nsystem\n(S'true'\ntR."), 'a Python pickle'],
    ['a zip', Buffer.from('504b0304140000000800', 'hex'), 'a zip archive'],
    ['an HDF5 file', Buffer.from('894844460d0a1a0a00', 'hex'), 'HDF5'],
    ['an ORT model', Buffer.concat([Buffer.from([0x12, 6, 0, 0]), Buffer.from('ORTM')]), 'ORT format'],
    ['JSON', Buffer.from('{"graph": []}'), 'JSON text'],
    ['text', Buffer.from('hello, this is not a model\n'), 'plain text'],
    ['zeroes', Buffer.alloc(100), 'not an ONNX model'],
    ['an LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n'), 'Git LFS'],
  ];
  it.each(cases)('%s: is refused with a specific message', async (_, bytes, words) => {
    expect(await problemsOf(bytes)).toContain(words);
  });

  it('a model that ONNX Runtime would read as its own format is refused although it parses as ONNX', async () => {
    const bytes = encodeModel(addModel());
    const disguised = Buffer.concat([Buffer.from([0x32, 6]), Buffer.from('xxORTM'), bytes]);
    expect(await problemsOf(disguised)).toContain('ORT format');
  });

  it('a folder, and a file over the size limit, are refused; a missing file is the system’s own error', async () => {
    await expect(inspectModel(folder)).rejects.toBeInstanceOf(ModelFormatError);
    expect(await problemsOf(encodeModel(addModel()), { maxBytes: 20 })).toContain('the limit is 20');
    await expect(inspectModel(join(folder, 'missing'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('no graph, no operator set and an impossible IR version are reported together', async () => {
    expect(await problemsOf(encodeModel({ ir_version: 8, opset_import: [opset('', 17)] }))).toContain('no graph');
    expect(await problemsOf(encodeModel({ ...addModel(), opset_import: [] }))).toContain('imports no operator set');
    expect(await problemsOf(encodeModel({ ...addModel(), ir_version: 12345 }))).toContain('IR version 12345');
  });

  it('a model truncated at any byte is refused', async () => {
    const bytes = encodeModel(addModel());
    for (let part = 1; part < 20; part += 1)
      await problemsOf(bytes.subarray(0, Math.floor((bytes.length * part) / 20)));
    for (let length = 0; length < bytes.length; length += 1) await problemsOf(bytes.subarray(0, length));
  });
});

describe('a model may not contain', () => {
  const attribute = (more: Message): Message => withAttributes([{ name: 'a', ...more }]);
  const fn = (more: Message): Message => ({
    ...addModel(),
    functions: [{ name: 'F', domain: 'ai.onnx', opset_import: [opset('', 17)], ...more }],
  });
  const graphWith = (more: Message): Message => model({ ...(addModel().graph as Message), ...more });

  const externals: [string, Message][] = [
    ['an initializer', graphWith({ initializer: [external] })],
    [
      'an initializer marked only by its location',
      graphWith({ initializer: [{ ...floats('w', [1], [1]), data_location: 1 }] }),
    ],
    ['sparse values', graphWith({ sparse_initializer: [{ values: external }] })],
    ['sparse indices', graphWith({ sparse_initializer: [{ values: floats('w', [1], [1]), indices: external }] })],
    ['a tensor of an attribute', attribute({ t: external })],
    ['one of many tensors of an attribute', attribute({ tensors: [floats('w', [1], [1]), external] })],
    ['a sparse tensor of an attribute', attribute({ sparse_tensors: [{ values: external }] })],
    ['an initializer of a subgraph', attribute({ g: { initializer: [external] } })],
    [
      'an attribute in a function',
      fn({ node: [node('Constant', [], ['y'], { attribute: [{ name: 'value', t: external }] })] }),
    ],
    ['a default attribute of a function', fn({ attribute_proto: [{ name: 'value', t: external }] })],
    ['a training graph', { ...addModel(), training_info: [{ algorithm: { initializer: [external] } }] }],
  ];
  it.each(externals)('external data in %s', async (_, bad) => {
    expect(await problemsOf(encodeModel(bad))).toContain('stores its data in another file');
  });

  const domains: [string, Message][] = [
    ['an operator set', { ...addModel(), opset_import: [opset('', 17), opset('ai.onnx.contrib', 1)] }],
    ['an operator', graphWith(foreign)],
    ['an operator in a subgraph', attribute({ g: foreign })],
    ['an operator two subgraphs down', attribute({ graphs: [nested(1, foreign)] })],
    ['a function', fn({ domain: 'ai.onnx.contrib' })],
    ['an operator in a function', fn(foreign)],
    ['an operator set of a function', fn({ opset_import: [opset('ai.onnx.contrib', 1)] })],
    ['an operator in a training graph', { ...addModel(), training_info: [{ initialization: foreign }] }],
    [
      'a domain that only begins like an allowed one',
      graphWith({ node: [node('Add', ['x', 'one'], ['y'], { domain: 'ai.onnx\0ai.onnx.contrib' })] }),
    ],
  ];
  it.each(domains)('another domain in %s', async (_, bad) => {
    expect(await problemsOf(encodeModel(bad))).toContain('ai.onnx.contrib');
  });

  it('an operator whose set is not imported, or that reads files', async () => {
    const scaler = graphWith({ node: [node('Scaler', ['x'], ['y'], { domain: 'ai.onnx.ml' })] });
    expect(await problemsOf(encodeModel(scaler))).toContain('does not import');
    const context = graphWith({ node: [node('EPContext', ['x'], ['y'], { domain: 'com.microsoft' })] });
    expect(await problemsOf(encodeModel(context))).toContain('com.microsoft:EPContext');
  });

  it('an output that is not a tensor, or has an unsupported type', async () => {
    const sequence = { name: 'p', type: { sequence_type: { elem_type: { map_type: { key_type: 7 } } } } };
    expect(await problemsOf(encodeModel(graphWith({ output: [sequence] })))).toContain('zipmap');
    expect(await problemsOf(encodeModel(graphWith({ output: [value('c', 14, [1])] })))).toContain('cannot be served');
  });

  it('several problems: all are reported together', async () => {
    const problems = await problemsOf(encodeModel(graphWith({ ...foreign, initializer: [external] })));
    expect(problems).toContain('ai.onnx.contrib');
    expect(problems).toContain('another file');
  });
});
