// Runs the stack's Java servers (small heaps, fast start, loopback IPv4) and their command-line tools.
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { runProgram } from '../local/run-program.ts';
import { serverEnvironment } from '../local/settings.ts';
import type { JavaProgram } from './programs.ts';

export type JavaRun = {
  readonly program: JavaProgram;
  /** A configuration folder, before the jars on the class path. */
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
    // The servers stop within 2 s on an idle machine; five times that allows a busy one to write its data.
    graceMs: 10_000,
    ...(before === undefined ? {} : { before }),
    isReady,
    // On a single machine most warnings are harmless; only errors matter. Hadoop logs its orderly shutdown as an error.
    terminalLine: (line) => (/\b(ERROR|FATAL)\b(?!.*RECEIVED SIGNAL)/.test(line) ? line : undefined),
  };
}

/** Runs a Java tool to its end; if it fails, throws with the end of its output. */
export async function runJava(what: string, tool: JavaRun): Promise<void> {
  const env = { ...serverEnvironment(), ...tool.env };
  // 120 s: a tool takes 2 s, but many programs may start at the same time.
  const { code, output } = await runProgram(tool.program.java, argumentsOf(tool), { env, timeoutMs: 120_000 });
  if (code !== 0) throw new Error(`${what} failed (exit ${code}): ${output.slice(-2_000)}`);
}

/** Returns true if an HTTP address answers with one of these statuses and, if `body` is given, with a matching body. */
export async function answersHttp(url: string, request: RequestInit = {}, body?: RegExp): Promise<boolean> {
  // 5 s: allows for a server that gets little processor time.
  const response = await fetch(url, { ...request, signal: AbortSignal.timeout(5_000) });
  const text = await response.text();
  return response.ok && (body === undefined || body.test(text));
}

/** Log4j's configuration for Hadoop and Alluxio: warnings and errors go to standard error, which the supervisor logs. */
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
    // Serial garbage collection and only the fast compiler: the start takes half the time and a third less memory.
    ...['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xshare:auto', '-Xms64m', `-Xmx${run.heapMb}m`],
    // Out of memory, a server exits and is restarted instead of continuing in a broken state.
    '-XX:+ExitOnOutOfMemoryError',
    // Otherwise a killed process leaves a file in the system's temporary folder.
    '-XX:-UsePerfData',
    '-Djava.net.preferIPv4Stack=true',
    ...Object.entries(run.properties ?? {}).map(([key, value]) => `-D${key}=${value}`),
    ...['-cp', `${run.conf}:${join(run.program.jars, '*')}`, run.main, ...(run.args ?? [])],
  ];
}
