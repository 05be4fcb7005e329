// Kafka as one process: broker and controller (KRaft) on the loopback, data in one folder.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { javaSpec, runJava, type JavaRun } from './java.ts';
import type { JavaProgram } from './programs.ts';

export type KafkaOptions = {
  readonly program: JavaProgram;
  /** The folder with all data of this server. */
  readonly folder: string;
  readonly port: number;
  /** The port of the controller, used by the broker. */
  readonly controllerPort: number;
};

export type Kafka = { readonly spec: ChildSpec; readonly brokers: string };

const host = '127.0.0.1';

/** Returns Kafka's process and the address for its clients. */
export function kafka(options: KafkaOptions): Kafka {
  const { program, folder, port } = options;
  const file = join(folder, 'server.properties');
  const run: Omit<JavaRun, 'main'> = {
    program,
    conf: folder,
    heapMb: 384,
    properties: { 'org.slf4j.simpleLogger.defaultLogLevel': 'warn', 'org.slf4j.simpleLogger.showDateTime': 'true' },
  };
  const before = async (): Promise<void> => {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(file, serverProperties(options));
    if (existsSync(join(folder, 'data', 'meta.properties'))) return;
    await runJava(`Creating Kafka's data folder in ${folder}`, {
      ...run,
      main: 'kafka.tools.StorageTool',
      // A cluster id that begins with a dash would be parsed as an option.
      args: ['format', '-t', `A${randomBytes(16).toString('base64url').slice(1)}`, '-c', file],
    });
  };
  return {
    spec: javaSpec({ ...run, name: 'kafka', main: 'kafka.Kafka', args: [file], before, isReady: () => answers(port) }),
    brokers: `${host}:${port}`,
  };
}

function serverProperties({ folder, port, controllerPort }: KafkaOptions): string {
  return [
    'process.roles=broker,controller',
    'node.id=1',
    `controller.quorum.voters=1@${host}:${controllerPort}`,
    'controller.listener.names=CONTROLLER',
    `listeners=PLAINTEXT://${host}:${port},CONTROLLER://${host}:${controllerPort}`,
    `advertised.listeners=PLAINTEXT://${host}:${port}`,
    'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'inter.broker.listener.name=PLAINTEXT',
    `log.dirs=${join(folder, 'data')}`,
    // One node: internal topics have one replica and few partitions, which start quickly.
    'offsets.topic.replication.factor=1',
    'offsets.topic.num.partitions=1',
    'transaction.state.log.replication.factor=1',
    'transaction.state.log.min.isr=1',
    'transaction.state.log.num.partitions=1',
    'share.coordinator.state.topic.replication.factor=1',
    'share.coordinator.state.topic.min.isr=1',
    'default.replication.factor=1',
    'min.insync.replicas=1',
    'num.partitions=1',
    // Only the platform creates topics, with its settings; a misspelt name must not create one with defaults.
    'auto.create.topics.enable=false',
    'group.initial.rebalance.delay.ms=0',
    // 2 MB instead of 128 MB: one log cleaner for small logs.
    'log.cleaner.dedupe.buffer.size=2097152',
    // A killed broker can return when its old session has expired: after 5 s instead of 12 s with the defaults.
    'broker.session.timeout.ms=2000',
    'broker.heartbeat.interval.ms=500',
    '',
  ].join('\n');
}

/** Sends an ApiVersions request (version 0), which the broker answers once it serves clients. */
function answers(port: number): Promise<boolean> {
  // Length 10, API key 18, version 0, correlation id 1, no client id.
  const request = Buffer.from([0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
  return new Promise((resolve) => {
    const socket = connect({ port, host });
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(5_000, () => end(false));
    socket.once('connect', () => socket.write(request));
    // Length (4 bytes), the same correlation id (4), error code (2), 0 on success.
    socket.once('data', (answer) =>
      end(answer.length >= 10 && answer.readInt32BE(4) === 1 && answer.readInt16BE(8) === 0),
    );
    socket.once('error', () => end(false));
    socket.once('close', () => end(false));
  });
}
