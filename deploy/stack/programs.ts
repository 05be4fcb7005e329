// Fetches the stack's server programs once per version: jars with Maven (pom.xml of kafka/, hdfs/, alluxio/), the S3 server with Go (s3/).
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { madeOnce } from '../../activities/adapters/local-process/made-once.ts';
import { goSteps, runMaker } from '../local/maker.ts';
import { runProgram } from '../local/run-program.ts';
import { findOnPath } from '../local/temporal-binary.ts';

export type FetchOptions = {
  /** The cache folder, with one folder per program and version. */
  readonly cache: string;
  /** The PATH to search, and the environment of Maven and Go. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onProgress: (line: string) => void;
  readonly signal?: AbortSignal;
};

/** Servers that consist of a folder of jars. */
export type JavaServer = 'kafka' | 'hdfs' | 'alluxio';
export type StackServer = JavaServer | 's3';

/** The program of a Java server. */
export type JavaProgram = {
  readonly java: string;
  /** The folder of its jars. */
  readonly jars: string;
};

/** Kafka 4 requires Java 17; Hadoop and Alluxio run on it too. */
const oldestJava = 17;
const copyJars = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies';

/** Returns a Java server's program; fetches its jars if they are not in the cache. If a tool is missing, throws with what to install. */
export async function fetchJava(server: JavaServer, options: FetchOptions): Promise<JavaProgram> {
  const java = await findJava(options.env);
  const what = `${server} ${versionOf(server)}`;
  const jars = await madeOnce(cachePath(server, options.cache), async (draft) => {
    const maven = needed('mvn', 'Maven (Debian: apt-get install maven)', what, options.env);
    const pom = fileURLToPath(new URL(`./${server}/pom.xml`, import.meta.url));
    mkdirSync(draft, { mode: 0o700 });
    await runMaker(maven, ['-B', '-f', pom, copyJars, '-DincludeScope=runtime', `-DoutputDirectory=${draft}`], {
      ...options,
      what,
      step: /^\[INFO\] Copying |^Downloaded from/,
    });
  });
  return { java, jars };
}

/** Returns the path of the S3 server `versitygw`; builds it if it is not in the cache. If Go is missing, throws with what to install. */
export async function fetchS3(options: FetchOptions): Promise<string> {
  const what = `s3 ${versionOf('s3')}`;
  const folder = await madeOnce(cachePath('s3', options.cache), async (draft) => {
    const go = needed('go', 'Go 1.24 or newer (go.dev/dl)', what, options.env);
    const flags = ['-mod=readonly', '-buildvcs=false', '-ldflags', '-s -w', '-v', '-o', join(draft, 'versitygw')];
    mkdirSync(draft, { mode: 0o700 });
    await runMaker(go, ['build', ...flags, 'github.com/versity/versitygw/cmd/versitygw'], {
      ...options,
      what,
      step: goSteps,
      cwd: new URL('./s3/', import.meta.url),
    });
  });
  return join(folder, 'versitygw');
}

/** Names the missing tool for a server, for messages; undefined if nothing is missing. Starts and fetches nothing. */
export function missingFor(server: StackServer, options: Pick<FetchOptions, 'cache' | 'env'>): string | undefined {
  const lacks = (program: string): boolean => findOnPath(program, options.env.PATH) === undefined;
  const isKept = existsSync(cachePath(server, options.cache));
  if (server === 's3') return !isKept && lacks('go') ? 'Go' : undefined;
  if (lacks('java')) return 'Java';
  return !isKept && lacks('mvn') ? 'Maven' : undefined;
}

/** Path of a server's program in the cache, with the version pinned in pom.xml or go.mod. */
export function cachePath(server: StackServer, cache: string): string {
  return join(cache, `${server === 's3' ? 'versitygw' : server}-${versionOf(server)}`);
}

/** A server's version, pinned in pom.xml or go.mod. */
export function versionOf(server: StackServer): string {
  const [file, pattern] =
    server === 's3'
      ? (['go.mod', /^require github\.com\/versity\/versitygw v(\S+)$/m] as const)
      : (['pom.xml', /<artifactId>[^<]*<\/artifactId>\s*<version>([^<]+)<\/version>/] as const);
  const path = fileURLToPath(new URL(`./${server}/${file}`, import.meta.url));
  const version = pattern.exec(readFileSync(path, 'utf8'))?.[1];
  if (version === undefined) throw new Error(`${path} does not pin a version.`);
  return version;
}

async function findJava(env: FetchOptions['env']): Promise<string> {
  const hint = `Java ${oldestJava} or newer (Debian: apt-get install default-jre-headless)`;
  const java = needed('java', hint, 'Kafka, HDFS and Alluxio', env);
  // 60 s: a machine that is starting all servers is slow.
  const { output } = await runProgram(java, ['-version'], { timeoutMs: 60_000 });
  const version = Number(/version "(\d+)/.exec(output)?.[1]);
  if (version >= oldestJava) return java;
  throw new Error(`${java} is not usable: Kafka, HDFS and Alluxio need ${hint}. It reports: ${output.split('\n')[0]}`);
}

/** Returns the path of a program; if it is not on the PATH, throws with what to install. */
export function needed(program: string, hint: string, what: string, env: FetchOptions['env']): string {
  const path = findOnPath(program, env.PATH);
  if (path === undefined)
    throw new Error(`\`${program}\` is not on the PATH: install ${hint}, which is required for ${what}.`);
  return path;
}
