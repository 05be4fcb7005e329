// Writes file contents into a repository as blobs, all in one git process.
import type { CodeHost } from '../../ports.ts';
import type { Git } from './run-git.ts';
import type { Change } from './tree.ts';

/** Writes each content as a blob; `null` marks a file to delete. */
export async function writeBlobs(
  git: Git,
  given: {
    readonly gitDir: string;
    readonly files: Parameters<CodeHost['commit']>[0]['files'];
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Change[]> {
  const { gitDir, files, signal } = given;
  const contents = Object.entries(files).flatMap(([path, content]) => (content === null ? [] : [{ path, content }]));
  const ids = await idsOf(
    contents.map(({ content }) => (typeof content === 'string' ? Buffer.from(content) : content)),
    (input) => git.tell({ gitDir, args: ['fast-import', '--quiet', '--done'], input, signal }),
  );
  const written = new Map(contents.map(({ path }, index) => [path, ids[index]]));
  return Object.keys(files).map((path) => [path, written.get(path) ?? null]);
}

/** Sends all contents, then asks for their ids. Explicit lengths delimit the contents, so they may contain any bytes. */
async function idsOf(
  contents: readonly Uint8Array[],
  fastImport: (input: Buffer) => Promise<string>,
): Promise<readonly string[]> {
  if (contents.length === 0) return [];
  const blobs = contents.flatMap((content, index) => [
    Buffer.from(`blob\nmark :${index + 1}\ndata ${content.byteLength}\n`),
    content,
    Buffer.from('\n'),
  ]);
  const questions = contents.map((_, index) => `get-mark :${index + 1}\n`).join('');
  const answer = await fastImport(Buffer.concat([...blobs, Buffer.from(`${questions}done\n`)]));
  const ids = answer.split('\n');
  if (ids.length !== contents.length || !ids.every((id) => /^[0-9a-f]{40}$/.test(id)))
    throw new Error(`git fast-import named ${ids.length} of ${contents.length} contents: ${answer.slice(0, 200)}`);
  return ids;
}
