// Archives made entry by entry, including ones that no program would make.
import type { Header } from 'tar-stream';
import tar from 'tar-stream';
import { collect } from '../contracts/cases.ts';

/** A tar of these entries, header by header. */
export async function tarOf(
  entries: readonly (Partial<Header> & Pick<Header, 'name'> & { text?: string })[],
): Promise<Buffer> {
  const pack = tar.pack();
  for (const { text = '', ...header } of entries) pack.entry(header, text);
  pack.finalize();
  return collect(pack as AsyncIterable<Uint8Array>);
}

/** A zip without compression, made byte by byte, so that names can be anything (APPNOTE 4.3). */
export function zipOf(entries: readonly { name: string; text?: string; mode?: number; flags?: number }[]): Buffer {
  const crc = (bytes: Buffer): number => {
    let value = -1;
    for (const byte of bytes) {
      value ^= byte;
      for (let bit = 0; bit < 8; bit += 1) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
    }
    return ~value >>> 0;
  };
  const [parts, directory]: [Buffer[], Buffer[]] = [[], []];
  let offset = 0;
  for (const { name: given, text = '', mode = 0o100644, flags = 0 } of entries) {
    const [name, data] = [Buffer.from(given), Buffer.from(text)];
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(flags, 2);
    common.writeUInt32LE(crc(data), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, name, data]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE((mode << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    // Made by 3: Unix, so that the mode counts.
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), common, tail, name]));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...parts, central, Buffer.from('PK\x05\x06'), end]);
}
