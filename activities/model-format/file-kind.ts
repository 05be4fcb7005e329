// Identifies a file format by its first bytes, so that a rejection says "a Python pickle" instead of "malformed".

const signatures: readonly { readonly at: number; readonly bytes: readonly number[]; readonly kind: string }[] = [
  { at: 0, bytes: [0x50, 0x4b], kind: 'a zip archive (for example a PyTorch .pt or a NumPy .npz file)' },
  { at: 0, bytes: [0x89, 0x48, 0x44, 0x46], kind: 'an HDF5 file (Keras .h5)' },
  { at: 0, bytes: [0x47, 0x47, 0x55, 0x46], kind: 'a GGUF file' },
  { at: 0, bytes: [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59], kind: 'a NumPy array' },
  { at: 0, bytes: [0x1f, 0x8b], kind: 'a gzip archive' },
  { at: 0, bytes: [0x42, 0x5a, 0x68], kind: 'a bzip2 archive' },
  { at: 0, bytes: [0xfd, 0x37, 0x7a, 0x58, 0x5a], kind: 'an xz archive' },
  { at: 0, bytes: [0x7f, 0x45, 0x4c, 0x46], kind: 'a program (ELF)' },
  { at: 0, bytes: [0x4d, 0x5a], kind: 'a program (Windows)' },
  { at: 0, bytes: [0x23, 0x21], kind: 'a script' },
  { at: 4, bytes: [0x54, 0x46, 0x4c, 0x33], kind: 'a TensorFlow Lite model' },
  // ONNX Runtime loads these bytes as its own format regardless of the rest: never accept them.
  { at: 4, bytes: [0x4f, 0x52, 0x54, 0x4d], kind: 'a model in the ORT format' },
];

const startsAt = (bytes: Buffer, at: number, expected: readonly number[]): boolean =>
  bytes.length >= at + expected.length && expected.every((byte, index) => bytes[at + index] === byte);

/** The other format that these bytes certainly have; `undefined` when they may be ONNX. */
export const foreignKind = (bytes: Buffer): string | undefined => {
  // Protocols 2 to 5 start with PROTO (0x80) and their number; no ONNX field is encoded this way.
  const protocol = bytes[1] ?? 0;
  if (bytes[0] === 0x80 && protocol >= 2 && protocol <= 5) return 'a Python pickle';
  const known = signatures.find((signature) => startsAt(bytes, signature.at, signature.bytes));
  if (known !== undefined) return known.kind;
  // safetensors starts with the 64-bit length of its JSON header, followed by the header.
  if (bytes.length > 9 && bytes[8] === 0x7b && bytes.readUInt32LE(4) === 0 && bytes.readUInt32LE(0) < bytes.length)
    return 'a safetensors file';
  return undefined;
};

/** The likely format of bytes that did not parse; `undefined` when it is unknown. */
export const likelyKind = (bytes: Buffer): string | undefined => {
  const head = bytes.subarray(0, 512).toString('latin1');
  // Protocols 0 and 1 are text: they start with an opening opcode and end with STOP.
  if (/^(c[\w.]+\n|\((?:[dltic]|S'|V)|[\]}])/.test(head) && bytes[bytes.length - 1] === 0x2e) return 'a Python pickle';
  if (/^\s*[{[]/.test(head)) return 'JSON text';
  if (/^\s*</.test(head)) return 'HTML or XML text';
  // Submitting the pointer file of Git LFS is a common mistake.
  if (head.startsWith('version https://git-lfs')) return 'a Git LFS pointer: fetch the file itself';
  if (/^[\t\n\r\x20-\x7e]+$/.test(head)) return 'plain text';
  return undefined;
};
