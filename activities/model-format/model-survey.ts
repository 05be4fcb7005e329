// Visits every graph of an ONNX model, including those in attributes, functions and training info, and records what is not allowed.
import type protobuf from 'protobufjs';
import { refusal } from './failure.ts';
import type { TensorSpec } from './signature.ts';
import { readTensorSpec } from './value-info.ts';
import { createWireWalk, type WalkLimits } from './wire-walk.ts';

export interface ModelSurvey {
  readonly irVersion: number;
  readonly opsets: readonly { readonly domain: string; readonly version: number }[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** `domain:type`, sorted and unique; the default domain is written `ai.onnx`. */
  readonly operators: readonly string[];
}

export interface SurveyLimits extends WalkLimits {
  readonly maxDepth: number;
  readonly maxNodes: number;
}

const allowedDomains: ReadonlySet<string> = new Set(['ai.onnx', 'ai.onnx.ml', 'com.microsoft']);
// Operators of allowed domains that open other files or run code from outside the model.
const refusedOperators: ReadonlySet<string> = new Set([
  'com.microsoft:EPContext',
  'com.microsoft:Snpe',
  'com.microsoft:PythonOp',
  'com.microsoft:PythonOpGrad',
  'com.microsoft:TritonOp',
  'com.microsoft:OpenVINO',
]);
// Names and domains are held in memory: exporters write a few hundred bytes each.
const MAX_NAME_BYTES = 1024;
const MAX_NAMES_BYTES = 32 * 1024 * 1024;
// A tensor description consists of a name and a few dimensions.
const MAX_VALUE_INFO_BYTES = 16 * 1024;
// Real models import a few operator sets and have at most hundreds of functions.
const MAX_OPSETS = 64;
const MAX_FUNCTIONS = 10_000;
// Before IR version 4, files also list every initializer as an input, hence the high limit before they are filtered out.
const MAX_VALUES = 200_000;
const MAX_SIGNATURE = 1_000;
const MAX_PROBLEMS = 100;

/** The domains used and imported in one scope (the model or one function). */
interface Scope {
  readonly imported: Set<string>;
  readonly used: Set<string>;
}

/**
 * Surveys the model in `file`. Throws `WireError` where the bytes do not parse and
 * `ModelFormatError` where a limit is exceeded; other faults are returned as `problems`.
 */
export const surveyModel = (
  schema: protobuf.Root,
  file: Buffer,
  limits: SurveyLimits,
): { readonly survey: ModelSurvey; readonly problems: readonly string[] } => {
  const walk = createWireWalk(schema, file, limits);
  const found = { irVersion: 0, nodes: 0, functions: 0, opsetEntries: 0, nameBytes: 0, graph: false };
  const opsets: { domain: string; version: number }[] = [];
  const operators = new Set<string>();
  const inputs: [number, number][] = [];
  const outputs: [number, number][] = [];
  const initializers = new Set<string>();
  const problems = new Set<string>();

  const note = (problem: string): void => {
    if (problems.size < MAX_PROBLEMS) problems.add(problem);
  };
  const name = (from: number, to: number): string => {
    found.nameBytes += to - from;
    if (to - from > MAX_NAME_BYTES) throw refusal([`a name has ${to - from} bytes; the limit is ${MAX_NAME_BYTES}`]);
    if (found.nameBytes > MAX_NAMES_BYTES) throw refusal([`more than ${MAX_NAMES_BYTES} bytes of names`]);
    return walk.text(from, to);
  };
  const collect = (list: [number, number][], from: number, to: number): void => {
    if (list.length >= MAX_VALUES) throw refusal([`more than ${MAX_VALUES} graph inputs or outputs`]);
    list.push([from, to]);
  };

  const visitModel = (): void => {
    const scope: Scope = { imported: new Set(), used: new Set() };
    walk.fields('onnx.ModelProto', 0, file.length, (field, from, to) => {
      if (field === 'ir_version') found.irVersion = walk.integer(from, to);
      else if (field === 'opset_import') opsets.push(visitOpset(from, to, scope));
      else if (field === 'graph') {
        found.graph = true;
        visitGraph(from, to, 0, scope, true);
      } else if (field === 'functions') visitFunction(from, to);
      else if (field === 'training_info')
        walk.fields('onnx.TrainingInfoProto', from, to, (_, start, end) => visitGraph(start, end, 0, scope, false));
    });
    if (!found.graph) note('the model has no graph: it is not ONNX or is truncated');
    if (scope.imported.size === 0) note('the model imports no operator set: it is not ONNX or is truncated');
    else noteMissingImports(scope, 'the model');
  };

  const visitOpset = (from: number, to: number, scope: Scope): { domain: string; version: number } => {
    found.opsetEntries += 1;
    if (found.opsetEntries > MAX_OPSETS + MAX_FUNCTIONS)
      throw refusal([`more than ${MAX_OPSETS + MAX_FUNCTIONS} operator set entries`]);
    const opset = { domain: 'ai.onnx', version: 0 };
    walk.fields('onnx.OperatorSetIdProto', from, to, (field, start, end) => {
      if (field === 'domain') opset.domain = domainName(name(start, end));
      else opset.version = walk.integer(start, end);
    });
    if (scope.imported.size >= MAX_OPSETS) throw refusal([`more than ${MAX_OPSETS} operator sets`]);
    if (!allowedDomains.has(opset.domain)) note(refusedDomain('operator set', opset.domain));
    if (!(opset.version >= 1 && opset.version <= 10_000))
      note(`operator set ${opset.domain} has the invalid version ${opset.version}`);
    scope.imported.add(opset.domain);
    return opset;
  };

  const visitFunction = (from: number, to: number): void => {
    found.functions += 1;
    if (found.functions > MAX_FUNCTIONS) throw refusal([`more than ${MAX_FUNCTIONS} functions`]);
    const scope: Scope = { imported: new Set(), used: new Set() };
    const identity = { name: '', domain: 'ai.onnx' };
    walk.fields('onnx.FunctionProto', from, to, (field, start, end) => {
      if (field === 'name') identity.name = name(start, end);
      else if (field === 'domain') identity.domain = domainName(name(start, end));
      else if (field === 'opset_import') visitOpset(start, end, scope);
      else if (field === 'node') visitNode(start, end, 0, scope);
      else if (field === 'attribute_proto') visitAttribute(start, end, 0, scope);
    });
    if (!allowedDomains.has(identity.domain)) note(refusedDomain(`function ${quoted(identity.name)}`, identity.domain));
    noteMissingImports(scope, `function ${quoted(identity.name)}`);
  };

  const visitGraph = (from: number, to: number, depth: number, scope: Scope, main: boolean): void => {
    if (depth > limits.maxDepth) throw refusal([`graphs nested deeper than ${limits.maxDepth}`]);
    walk.fields('onnx.GraphProto', from, to, (field, start, end) => {
      if (field === 'node') visitNode(start, end, depth, scope);
      else if (field === 'initializer') {
        const tensor = visitTensor(start, end);
        if (main) initializers.add(tensor);
      } else if (field === 'sparse_initializer') {
        const tensor = visitSparseTensor(start, end);
        if (main) initializers.add(tensor);
      } else if (main && field === 'input') collect(inputs, start, end);
      else if (main && field === 'output') collect(outputs, start, end);
    });
  };

  const visitNode = (from: number, to: number, depth: number, scope: Scope): void => {
    found.nodes += 1;
    if (found.nodes > limits.maxNodes) throw refusal([`more than ${limits.maxNodes} nodes`]);
    const node = { type: '', domain: 'ai.onnx' };
    walk.fields('onnx.NodeProto', from, to, (field, start, end) => {
      if (field === 'op_type') node.type = name(start, end);
      else if (field === 'domain') node.domain = domainName(name(start, end));
      else if (field === 'attribute') visitAttribute(start, end, depth, scope);
    });
    const operator = `${node.domain}:${node.type}`;
    if (!allowedDomains.has(node.domain)) note(refusedDomain(`operator ${quoted(node.type)}`, node.domain));
    else if (refusedOperators.has(operator)) note(`operator ${operator} accesses files or code outside the model`);
    else if (!/^\w{1,128}$/.test(node.type)) note(`a node has the invalid operator type ${quoted(node.type)}`);
    else operators.add(operator);
    if (allowedDomains.has(node.domain)) scope.used.add(node.domain);
  };

  const visitAttribute = (from: number, to: number, depth: number, scope: Scope): void =>
    walk.fields('onnx.AttributeProto', from, to, (field, start, end) => {
      if (field === 'g' || field === 'graphs') visitGraph(start, end, depth + 1, scope, false);
      else if (field === 't' || field === 'tensors') visitTensor(start, end);
      else if (field === 'sparse_tensor' || field === 'sparse_tensors') visitSparseTensor(start, end);
    });

  const visitTensor = (from: number, to: number): string => {
    const tensor = { name: '', external: false };
    walk.fields('onnx.TensorProto', from, to, (field, start, end) => {
      if (field === 'name') tensor.name = name(start, end);
      else if (field === 'external_data') tensor.external = true;
      else if (field === 'data_location' && walk.integer(start, end) !== 0) tensor.external = true;
    });
    if (tensor.external)
      note(`tensor ${quoted(tensor.name)} stores its data in another file: export the model with embedded data`);
    return tensor.name;
  };

  const visitSparseTensor = (from: number, to: number): string => {
    const tensor = { name: '' };
    walk.fields('onnx.SparseTensorProto', from, to, (field, start, end) => {
      if (field === 'values') tensor.name = visitTensor(start, end);
      else if (field === 'indices') visitTensor(start, end);
    });
    return tensor.name;
  };

  const noteMissingImports = (scope: Scope, owner: string): void => {
    for (const domain of scope.used)
      if (!scope.imported.has(domain))
        note(`${owner} uses operators of ${domain} but does not import that operator set`);
  };

  const signature = (side: 'input' | 'output', ranges: readonly [number, number][]): TensorSpec[] => {
    const names = new Set<string>();
    const tensors: TensorSpec[] = [];
    for (const [from, to] of ranges) {
      if (to - from > MAX_VALUE_INFO_BYTES)
        throw refusal([`the description of an ${side} has ${to - from} bytes; the limit is ${MAX_VALUE_INFO_BYTES}`]);
      const read = readTensorSpec(schema, file.subarray(from, to), side);
      // An initializer that is also listed as an input is a named constant; callers do not supply it.
      if (side === 'input' && initializers.has(read.name)) continue;
      if (tensors.length >= MAX_SIGNATURE) throw refusal([`more than ${MAX_SIGNATURE} ${side}s`]);
      if (names.has(read.name)) note(`${side} ${quoted(read.name)} occurs twice`);
      names.add(read.name);
      if ('problem' in read) note(read.problem);
      else tensors.push(read);
    }
    if (found.graph && names.size === 0) note(`the model has no ${side}`);
    return tensors;
  };

  visitModel();
  if (found.graph && !(found.irVersion >= 1 && found.irVersion <= 100))
    note(`IR version ${found.irVersion} does not exist in ONNX`);
  const survey: ModelSurvey = {
    irVersion: found.irVersion,
    opsets,
    inputs: signature('input', inputs),
    outputs: signature('output', outputs),
    operators: [...operators].sort(),
  };
  return { survey, problems: [...problems] };
};

const domainName = (domain: string): string => (domain === '' ? 'ai.onnx' : domain);

/** Untrusted text for a message: truncated, with control characters escaped. */
const quoted = (text: string): string => JSON.stringify(text.slice(0, 80));

const refusedDomain = (what: string, domain: string): string =>
  `${what} belongs to domain ${quoted(domain)}: only ${[...allowedDomains].join(', ')} are allowed`;
