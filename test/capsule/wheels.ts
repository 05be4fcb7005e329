// Wheels and source archives made for tests, well-behaved and hostile ones, and a package index on loopback that serves them.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Made {
  readonly file: string;
  readonly bytes: Buffer;
  readonly sha256: string;
}

export interface WheelGiven {
  readonly name?: string;
  readonly version?: string;
  /** Files besides the dist-info; a name may be hostile, or come twice. */
  readonly files?: readonly (readonly [name: string, content: string])[];
  readonly entryPoints?: string;
  /** By default `ZIP_DEFLATED`, which pip uses. */
  readonly compression?: 'ZIP_DEFLATED' | 'ZIP_BZIP2' | 'ZIP_LZMA';
  /** Lines besides those that are right. */
  readonly record?: string;
}

const made = (file: string, bytes: Buffer): Made => ({
  file,
  bytes,
  sha256: createHash('sha256').update(bytes).digest('hex'),
});

const ZIP = `
import json, sys, warnings, zipfile
warnings.simplefilter("ignore")
compression = getattr(zipfile, sys.argv[1])
with zipfile.ZipFile(sys.stdout.buffer, "w", compression) as archive:
    for name, content in json.load(sys.stdin):
        archive.writestr(zipfile.ZipInfo(name), content, compression)
`;

/** Makes a wheel as any tool would, with these files. */
export function makeWheel({ name = 'thing', version = '1.0', files = [], ...more }: WheelGiven): Made {
  const info = `${name}-${version}.dist-info`;
  const all: (readonly [string, string])[] = [
    ...files,
    [`${info}/METADATA`, `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`],
    [`${info}/WHEEL`, 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'],
    ...(more.entryPoints === undefined ? [] : [[`${info}/entry_points.txt`, more.entryPoints] as const]),
  ];
  const record = [...all.map(([path]) => path), `${info}/RECORD`].map((path) => `${path},,\n`).join('');
  const entries = [...all, [`${info}/RECORD`, record + (more.record ?? '')]];
  const compression = more.compression ?? 'ZIP_DEFLATED';
  const bytes = execFileSync('python3', ['-c', ZIP, compression], {
    input: JSON.stringify(entries),
    maxBuffer: 1 << 28,
  });
  return made(`${name}-${version}-py3-none-any.whl`, bytes);
}

/** Makes a source archive whose build writes a file: what a package index may hold, and no installation may run. */
export function makeSource({ name, canary }: { name: string; canary: string }): Made {
  const setup = `open(${JSON.stringify(canary)}, "w").write("built")\nfrom setuptools import setup\nsetup(name="${name}", version="1.0")\n`;
  const code = `
import io, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz") as tar:
    content = sys.stdin.buffer.read()
    entry = tarfile.TarInfo("${name}-1.0/setup.py")
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
`;
  return made(`${name}-1.0.tar.gz`, execFileSync('python3', ['-c', code], { input: setup }));
}

export const lockOf = (...wheels: readonly Made[]): string =>
  wheels
    .map(({ file, sha256 }) => {
      const [, name, version] = /^(.*?)-(\d[^-]*?)(?:-py3.*|\.tar\.gz)$/.exec(file) ?? [];
      return `${name}==${version} --hash=sha256:${sha256}\n`;
    })
    .join('');

export interface PackageIndex {
  readonly url: string;
  /** Paths that were asked for. */
  readonly asked: string[];
  /** What it answers instead of its packages, and how slowly. */
  readonly trouble: { status?: number; delayMs?: number; redirect?: string };
  readonly close: () => Promise<void>;
}

/** Starts a package index (PEP 503) on loopback. */
export async function startIndex(packages: readonly Made[]): Promise<PackageIndex> {
  const asked: string[] = [];
  const trouble: PackageIndex['trouble'] = {};
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    const answer = (): void => {
      if (trouble.redirect !== undefined)
        return void response.writeHead(302, { location: `${trouble.redirect}${path}` }).end();
      if (trouble.status !== undefined) return void response.writeHead(trouble.status).end();
      const file = packages.find((one) => path === `/files/${encodeURIComponent(one.file)}`);
      if (file) return void response.writeHead(200, { 'content-length': file.bytes.length }).end(file.bytes);
      const name = /^\/simple\/([^/]+)\/$/.exec(path)?.[1];
      const links = packages
        .filter((one) => one.file.toLowerCase().replaceAll('_', '-').startsWith(`${name}-`))
        .map((one) => `<a href="/files/${encodeURIComponent(one.file)}#sha256=${one.sha256}">${one.file}</a>`);
      if (links.length === 0) return void response.writeHead(404).end();
      response
        .writeHead(200, { 'content-type': 'text/html' })
        .end(`<!DOCTYPE html><html><body>${links.join('<br>')}</body></html>`);
    };
    // No client waits for an answer after the test.
    setTimeout(answer, trouble.delayMs ?? 0).unref();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple`,
    asked,
    trouble,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
