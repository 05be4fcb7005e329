// Hostile bytes: the work is bounded, and the only failure is the typed one.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ModelFormatError } from '../../activities/model-format.ts';
import { inspectIn, problemsIn } from './inspect-bytes.ts';
import { addModel, encodeModel, FLOAT, floats, model, node, opset, value, type Message } from './onnx-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'hostile-model-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const inspect = inspectIn(folder);
const problemsOf = problemsIn(folder);

describe('hostile bytes', () => {
  const message = (tag: number[], payload: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> => {
    const length: number[] = [];
    for (let rest = payload.length; ; rest >>>= 7) {
      length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
      if (rest <= 0x7f) break;
    }
    return Buffer.concat([Buffer.from([...tag, ...length]), payload]);
  };
  const GRAPH = [0x3a];

  it('thousands of nested graphs are refused at the limit, before the stack overflows', async () => {
    // A graph in an attribute of a node of a graph: fields 6, 5 and 1.
    let graph = Buffer.from([0x0a, 0x00]);
    for (let depth = 0; depth < 3000; depth += 1) graph = message([0x0a], message([0x2a], message([0x32], graph)));
    expect(await problemsOf(message(GRAPH, graph))).toContain('nested deeper than 8');
  });

  it('millions of empty nodes are refused at the limit', async () => {
    const nodes = Buffer.alloc(4_000_000, Buffer.from([0x0a, 0x00]));
    expect(await problemsOf(message(GRAPH, nodes))).toContain('more than 200000 nodes');
  });

  it('millions of empty tensors are refused at the limit, within seconds', async () => {
    // Field 5 of a graph, with only a data location (field 14) of external data.
    const tensors = Buffer.alloc(8_000_000, Buffer.from([0x2a, 0x02, 0x70, 0x01]));
    expect(await problemsOf(message(GRAPH, tensors))).toContain('more than 1500000 messages');
  });

  it('millions of fields are refused at the limit, in bounded memory', async () => {
    const before = process.memoryUsage().heapUsed;
    // Field 99 is unknown and empty; 2.5 million of them.
    const unknown = Buffer.alloc(7_500_000, Buffer.from([0x9a, 0x06, 0x00]));
    expect(await problemsOf(message(GRAPH, unknown), { maxFields: 2_000_000 })).toContain('more than 2000000 fields');
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(200 * 1024 * 1024);
  });

  it('a repeated singular field is rejected, because parsers differ on which one counts', async () => {
    const good = encodeModel(
      model({
        node: [node('Identity', ['x'], ['y'])],
        input: [value('x', FLOAT, [1])],
        output: [value('y', FLOAT, [1])],
      }),
    );
    const second = message(GRAPH, Buffer.from([0x0a, 0x00]));
    expect(await problemsOf(Buffer.concat([good, second]))).toContain('occurs twice');
  });

  it('an enormous name is refused', async () => {
    const bad = addModel();
    (bad.graph as { node: Message[] }).node.push(node('A'.repeat(100_000), ['x'], ['z']));
    expect(await problemsOf(encodeModel(bad))).toContain('a name has 100000 bytes');
  });

  it('random bit flips give an inspection or a ModelFormatError, within two seconds', async () => {
    const source = encodeModel({
      ...addModel(),
      functions: [
        { name: 'F', domain: 'ai.onnx', opset_import: [opset('', 17)], node: [node('Identity', ['a'], ['b'])] },
      ],
      training_info: [{ algorithm: { sparse_initializer: [{ values: floats('s', [1], [1]) }] } }],
    });
    const random = generator(20_201_123);
    const outcomes = { accepted: 0, refused: 0 };
    for (let round = 0; round < 1500; round += 1) {
      const bytes = Buffer.from(source);
      const flips = 1 + (random() % 8);
      for (let flip = 0; flip < flips; flip += 1) {
        const at = random() % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (random() % 8));
      }
      const started = performance.now();
      try {
        await inspect(bytes);
        outcomes.accepted += 1;
      } catch (error) {
        if (!(error instanceof ModelFormatError)) throw error;
        outcomes.refused += 1;
      }
      expect(performance.now() - started).toBeLessThan(20_000);
    }
    // Both must occur, otherwise the flips test nothing.
    expect(outcomes.accepted).toBeGreaterThan(10);
    expect(outcomes.refused).toBeGreaterThan(100);
  });
});

/** A small generator with a fixed seed (mulberry32), so that a failure can be repeated. */
function generator(seed: number): () => number {
  const state = { value: seed };
  return () => {
    state.value = (state.value + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state.value ^ (state.value >>> 15), 1 | state.value);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
