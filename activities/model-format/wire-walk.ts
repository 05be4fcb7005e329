// Walks the protobuf wire format of one message without decoding it: fields are ranges of the file, not copies.
import protobuf from 'protobufjs';
import { refusal } from './failure.ts';

/** The bytes violate the wire format or the schema; `at` is the offset in the file. */
export class WireError extends Error {
  constructor(reason: string, at: number) {
    super(`${reason} (at byte ${at})`);
    this.name = 'WireError';
  }
}

/** Receives a field's name and payload range. The payload of a varint is the varint itself. */
export type OnField = (name: string, from: number, to: number) => void;

export interface WireWalk {
  /** Calls `onField` for each known field in [from, to). Skips unknown fields; rejects a repeated singular field. */
  readonly fields: (typeName: string, from: number, to: number, onField: OnField) => void;
  readonly text: (from: number, to: number) => string;
  readonly integer: (from: number, to: number) => number;
}

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

const wireTypes: Readonly<Record<string, number>> = {
  int32: VARINT,
  int64: VARINT,
  uint64: VARINT,
  float: FIXED32,
  double: FIXED64,
};

interface KnownField {
  readonly name: string;
  readonly wire: number;
  readonly repeated: boolean;
  readonly packable: boolean;
}

const knownFields = (type: protobuf.Type): ReadonlyMap<number, KnownField> =>
  new Map(
    type.fieldsArray.map((field) => {
      const wire = wireTypes[field.type] ?? LENGTH;
      return [
        field.id,
        { name: field.name, wire, repeated: field.repeated, packable: field.repeated && wire !== LENGTH },
      ];
    }),
  );

/** Limits on the work of a whole walk, at any nesting. */
export interface WalkLimits {
  readonly maxFields: number;
  readonly maxMessages: number;
}

/** Creates a walk over one file. */
export const createWireWalk = (schema: protobuf.Root, file: Buffer, limits: WalkLimits): WireWalk => {
  const tables = new Map<string, ReadonlyMap<number, KnownField>>();
  const budget = { fields: limits.maxFields, messages: limits.maxMessages };

  const tableOf = (typeName: string): ReadonlyMap<number, KnownField> => {
    const known = tables.get(typeName) ?? knownFields(schema.lookupType(typeName));
    tables.set(typeName, known);
    return known;
  };

  const fields = (typeName: string, from: number, to: number, onField: OnField): void => {
    budget.messages -= 1;
    if (budget.messages < 0) throw refusal([`more than ${limits.maxMessages} messages`]);
    const table = tableOf(typeName);
    const reader = protobuf.Reader.create(file);
    reader.pos = from;
    // Reads must stay inside this message; a payload that extends past its end is truncated.
    reader.len = to;
    const seen = new Set<number>();
    try {
      while (reader.pos < to) nextField(typeName, table, reader, to, seen, onField);
    } catch (error) {
      // The reader throws plain Error and RangeError; other errors come from a callback or are bugs.
      if (error instanceof RangeError) throw new WireError(`${typeName}: truncated`, reader.pos);
      if (error instanceof Error && error.constructor === Error)
        throw new WireError(`${typeName}: ${error.message}`, reader.pos);
      throw error;
    }
  };

  const nextField = (
    typeName: string,
    table: ReadonlyMap<number, KnownField>,
    reader: protobuf.Reader,
    to: number,
    seen: Set<number>,
    onField: OnField,
  ): void => {
    const at = reader.pos;
    budget.fields -= 1;
    if (budget.fields < 0) throw refusal([`more than ${limits.maxFields} fields`]);
    const tag = reader.tag();
    const id = tag >>> 3;
    const wire = tag & 7;
    if (id === 0 || (wire !== VARINT && wire !== FIXED64 && wire !== LENGTH && wire !== FIXED32))
      throw new WireError(`${typeName}: invalid field number ${id} or wire type ${wire}`, at);
    const payloadLength = wire === LENGTH ? reader.uint32() : 0;
    const payload = reader.pos;
    if (wire === LENGTH) reader.pos += payloadLength;
    else reader.skipType(wire);
    if (reader.pos > to) throw new WireError(`${typeName}: truncated`, at);
    const field = table.get(id);
    if (field === undefined) return;
    // Parsers treat these two cases differently (skip or read; first, last or merged), so both are rejected.
    if (wire !== field.wire && !(field.packable && wire === LENGTH))
      throw new WireError(`${typeName}.${field.name}: encoded with the wrong wire type ${wire}`, at);
    if (!field.repeated) {
      if (seen.has(id)) throw new WireError(`${typeName}.${field.name}: occurs twice`, at);
      seen.add(id);
    }
    onField(field.name, payload, reader.pos);
  };

  return {
    fields,
    text: (from, to) => file.toString('utf8', from, to),
    integer: (from, to) => {
      const reader = protobuf.Reader.create(file.subarray(from, to));
      const value: number | protobuf.Long = reader.int64();
      return typeof value === 'number' ? value : value.high * 2 ** 32 + (value.low >>> 0);
    },
  };
};
