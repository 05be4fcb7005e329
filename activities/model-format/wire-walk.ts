// Walks the protobuf wire format of one message without decoding it: fields are ranges of the file, never copies.
import protobuf from 'protobufjs';
import { refusal } from './failure.ts';

/** The bytes do not follow the wire format or the schema; `at` is the offset in the file. */
export class WireError extends Error {
  constructor(reason: string, at: number) {
    super(`${reason} (at byte ${at})`);
    this.name = 'WireError';
  }
}

/** A field of a message: where its payload lies. A varint's payload is the varint itself. */
export type OnField = (name: string, from: number, to: number) => void;

export interface WireWalk {
  /** Calls `onField` for each known field in [from, to); unknown fields are skipped, singular ones may stand once. */
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

/** What bounds the work of a whole walk, whatever the nesting. */
export interface WalkLimits {
  readonly maxFields: number;
  readonly maxMessages: number;
}

/** A walk over one file. */
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
    // Reads may not leave this message; a payload that would is a truncation.
    reader.len = to;
    const seen = new Set<number>();
    try {
      while (reader.pos < to) nextField(typeName, table, reader, to, seen, onField);
    } catch (error) {
      // The reader throws bare Error and RangeError; anything else is a verdict from further in, or a fault of ours.
      if (error instanceof RangeError) throw new WireError(`${typeName}: ends too early`, reader.pos);
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
      throw new WireError(`${typeName}: no such field: number ${id}, wire type ${wire}`, at);
    const payloadLength = wire === LENGTH ? reader.uint32() : 0;
    const payload = reader.pos;
    if (wire === LENGTH) reader.pos += payloadLength;
    else reader.skipType(wire);
    if (reader.pos > to) throw new WireError(`${typeName}: ends too early`, at);
    const field = table.get(id);
    if (field === undefined) return;
    // Parsers differ on these two (skipped or read; first, last or merged): what they differ on is not accepted.
    if (wire !== field.wire && !(field.packable && wire === LENGTH))
      throw new WireError(`${typeName}.${field.name}: encoded with wire type ${wire}`, at);
    if (!field.repeated) {
      if (seen.has(id)) throw new WireError(`${typeName}.${field.name}: stands twice`, at);
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
