// How the stack's Java servers are run: small heaps, a quick start, loopback IPv4, and their tools (formatting).
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { runProgram } from '../local/run-program.ts';
import { serverEnvironment } from '../local/settings.ts';
import type { JavaProgram } from './programs.ts';

export type JavaRun = {
  readonly program: JavaProgram;
  /** A folder of configuration that stands before the jars. */
  readonly conf: string;
  readonly main: string;
  readonly args?: readonly string[];
  /** The heap's limit, in MB. */
  readonly heapMb: number;
  /** Java's system properties. */
  readonly properties?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
};

export type JavaServerSpec = JavaRun & Pick<ChildSpec, 'name' | 'before'> & Required<Pick<ChildSpec, 'isReady'>>;

/** Returns a Java server's process. */
export function javaSpec(server: JavaServerSpec): ChildSpec {
  const { name, before, isReady } = server;
  return {
    name,
    command: server.program.java,
    args: argumentsOf(server),
    env: { ...serverEnvironment(), ...server.env },
    stopSignal: 'SIGTERM',
    // They end within 2 s on a quiet machine; a busy one gets five times that to write what they hold.
    graceMs: 10_000,
    ...(before === undefined ? {} : { before }),
    isReady,
    // They warn of much that is as it should be on one machine; errors matter. Hadoop calls its own orderly end one.
    terminalLine: (line) => (/\b(ERROR|FATAL)\b(?!.*RECEIVED SIGNAL)/.test(line) ? line : undefined),
  };
}

/** Runs a Java tool to its end; throws with the end of what it said. */
export async function runJava(what: string, tool: JavaRun): Promise<void> {
  const env = { ...serverEnvironment(), ...tool.env };
  // 120 s: such a tool takes 2 s, and can be one of many programs that start.
  const { code, output } = await runProgram(tool.program.java, argumentsOf(tool), { env, timeoutMs: 120_000 });
  if (code !== 0) throw new Error(`${what} failed (exit ${code}): ${output.slice(-2_000)}`);
}

/** Returns true when an HTTP address answers with one of these statuses and, where asked, a fitting body. */
export async function answersHttp(url: string, request: RequestInit = {}, body?: RegExp): Promise<boolean> {
  // 5 s: a server that is being starved of processor time still gets its word in.
  const response = await fetch(url, { ...request, signal: AbortSignal.timeout(5_000) });
  const text = await response.text();
  return response.ok && (body === undefined || body.test(text));
}

/** Log4j's configuration for Hadoop and Alluxio: warnings and worse to standard error, which the supervisor keeps. */
export const log4jProperties = [
  'log4j.rootLogger=WARN,console',
  'log4j.appender.console=org.apache.log4j.ConsoleAppender',
  'log4j.appender.console.target=System.err',
  'log4j.appender.console.layout=org.apache.log4j.PatternLayout',
  'log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n',
  '',
].join('\n');

function argumentsOf(run: JavaRun): readonly string[] {
  return [
    // One thread to collect garbage and the quick compiler alone: a start takes half as long and a third less memory.
    ...['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-Xms64m', `-Xmx${run.heapMb}m`],
    // Out of memory it would go on half alive: it ends, and is started again.
    '-XX:+ExitOnOutOfMemoryError',
    // No file in the system's temporary folder that outlives a killed process.
    '-XX:-UsePerfData',
    '-Djava.net.preferIPv4Stack=true',
    ...Object.entries(run.properties ?? {}).map(([key, value]) => `-D${key}=${value}`),
    ...['-cp', `${run.conf}:${join(run.program.jars, '*')}`, run.main, ...(run.args ?? [])],
  ];
}
