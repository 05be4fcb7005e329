// Third-party clients that an operator would use on the stack: Kafka's console consumer, Hadoop's FsShell, curl.
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../deploy/local/run-program.ts';
import { cachePath } from '../../deploy/stack/programs.ts';
import { programs } from '../servers.ts';

/** The variables written by a stack. */
export type StackVariables = Readonly<Record<string, string>>;

/** A Java program starts within seconds; one of many on a busy machine may take a minute. */
const PROGRAM_MS = 180_000;
/** The first run downloads 43 MB from Maven Central. */
const FETCH_MS = 600_000;

/** Reads the stack's variables. */
export function stackVariables(home: string): StackVariables {
  const lines = readFileSync(join(home, 'stack.env'), 'utf8').trim().split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

/** Reads the given number of records of a topic from its beginning with Kafka's console consumer; one line per record: headers, key, value. */
export async function consoleConsumer(
  stack: StackVariables,
  topic: string,
  records: number,
): Promise<readonly string[]> {
  const jars = await kafkaTools();
  const printed = ['print.key=true', 'print.headers=true'].flatMap((one) => ['--formatter-property', one]);
  const output = await run('java', [
    ...['-cp', join(jars, '*'), 'org.apache.kafka.tools.consumer.ConsoleConsumer', '--from-beginning'],
    ...['--bootstrap-server', stack['OCDL_KAFKA_BROKERS'] ?? '', '--topic', topic, ...printed],
    ...['--max-messages', String(records), '--timeout-ms', String(PROGRAM_MS / 2)],
  ]);
  return output.split('\n').filter((line) => line.includes('{'));
}

/** The output of Hadoop's FsShell for a user, including refusals by HDFS. */
export async function fsShell(stackHome: string, user: string, ...args: readonly string[]): Promise<string> {
  const path = `${join(stackHome, 'hdfs', 'conf')}:${join(cachePath('hdfs', programs.cache), '*')}`;
  const { output } = await runProgram('java', ['-cp', path, 'org.apache.hadoop.fs.FsShell', ...args], {
    env: { ...programs.env, HADOOP_USER_NAME: user },
    timeoutMs: PROGRAM_MS,
  });
  return output;
}

/** Downloads an object with curl, which signs the request itself. */
export async function curlS3(stack: StackVariables, key: string, destination: string): Promise<void> {
  const of = (name: string): string => stack[`OCDL_S3_${name}`] ?? '';
  await run('curl', [
    ...['--silent', '--show-error', '--fail', '--output', destination],
    ...['--aws-sigv4', `aws:amz:${of('REGION')}:s3`, '--user', `${of('ACCESS_KEY_ID')}:${of('SECRET_ACCESS_KEY')}`],
    // S3 requires the body's digest in the signed headers; here of an empty body.
    ...['--header', 'x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    `${of('ENDPOINT')}/${of('BUCKET')}/${key}`,
  ]);
}

/** Fetches Kafka's command line clients once; returns the folder of their jars. */
export async function kafkaTools(): Promise<string> {
  const pom = fileURLToPath(new URL('./kafka-tools/pom.xml', import.meta.url));
  const version = /<version>([^<]+)<\/version>/.exec(readFileSync(pom, 'utf8'))?.[1] ?? '';
  const target = join(programs.cache, `kafka-tools-${version}`);
  if (existsSync(target)) return target;
  const draft = `${target}.making-${randomUUID()}`;
  const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies';
  await run('mvn', ['-B', '-q', '-f', pom, goal, '-DincludeScope=runtime', `-DoutputDirectory=${draft}`], FETCH_MS);
  renameSync(draft, target);
  return target;
}

async function run(program: string, args: readonly string[], timeoutMs = PROGRAM_MS): Promise<string> {
  const { code, output } = await runProgram(program, args, { env: programs.env, timeoutMs });
  // The arguments may contain a secret and are not shown.
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${output.slice(-2_000)}`);
  return output;
}
