// A separate Kafka that tests kill, pause and configure, and a client that is not the adapter.
import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Kafka, logLevel, type KafkaMessage } from 'kafkajs';
import { superviseChild } from '../../deploy/local/child.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { runJava } from '../../deploy/stack/java.ts';
import { kafka } from '../../deploy/stack/kafka.ts';
import { fetchJava } from '../../deploy/stack/programs.ts';
import { eventually, freshName } from '../contracts/cases.ts';
import { runFolder } from '../servers-stop.ts';
import { programs } from '../servers.ts';

export interface OwnBroker {
  readonly brokers: readonly string[];
  /** Sends the broker's process a signal. One that was killed is started again over the same data. */
  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void;
  close(): Promise<void>;
}

export interface BrokerOptions {
  /** Lines that follow the stack's own (`stack`) in server.properties, where the last one of a name counts. */
  readonly properties?: (stack: string) => readonly string[];
  /** `SCRAM-SHA-512=[name=…,password=…]` */
  readonly scram?: string;
  /** It may also listen on IPv6. */
  readonly ipv6?: boolean;
}

/** Starts a broker; resolves when it answers. */
export async function startBroker({
  properties = () => [],
  scram,
  ipv6 = false,
}: BrokerOptions = {}): Promise<OwnBroker> {
  const folder = join(runFolder(), freshName('kafka'));
  const [port, controllerPort] = [await anyFreePort('127.0.0.1'), await anyFreePort('127.0.0.1')];
  const program = await fetchJava('kafka', programs);
  const { spec, brokers } = kafka({ program, folder, port, controllerPort });
  const file = join(folder, 'server.properties');
  const prepare = async (): Promise<void> => {
    await spec.before?.();
    appendFileSync(file, [...properties(readFileSync(file, 'utf8')), ''].join('\n'));
  };
  if (scram !== undefined) {
    // Users are written while a data folder is made, so it is made here: one that seems to be there is not made before.
    mkdirSync(join(folder, 'data'), { recursive: true });
    writeFileSync(join(folder, 'data', 'meta.properties'), '');
    await prepare();
    rmSync(join(folder, 'data'), { recursive: true });
    const args = ['format', '-t', 'AAAAAAAAAAAAAAAAAAAAAA', '-c', file, '--add-scram', scram];
    await runJava('Making a data folder with users', {
      program,
      conf: folder,
      heapMb: 384,
      main: 'kafka.tools.StorageTool',
      args,
    });
  }
  const args = spec.args.filter((arg) => !ipv6 || arg !== '-Djava.net.preferIPv4Stack=true');
  const server = superviseChild(
    // A name of its own: the shared Kafka is recorded in the same folder.
    { ...spec, args, name: basename(folder), before: prepare },
    {
      // Where the end of the test run looks for what is left.
      home: { run: join(runFolder(), 'run'), logs: folder },
      verbose: false,
      say: () => undefined,
      onGivenUp: () => undefined,
    },
  );
  await server.ready;
  return {
    brokers: [brokers],
    signal: (signal) => {
      const pid = server.pid();
      if (pid === undefined) throw new Error('the broker is not running');
      process.kill(pid, signal);
    },
    close: () => server.stop(),
  };
}

/** A silent client with kafkajs alone. */
export function bareClient(brokers: readonly string[]): Kafka {
  return new Kafka({ brokers: [...brokers], clientId: 'bare', logLevel: logLevel.NOTHING });
}

/** Messages of a topic as that client sees them, once there are `count`. */
export async function bareMessages(
  brokers: readonly string[],
  topic: string,
  count: number,
): Promise<readonly KafkaMessage[]> {
  const consumer = bareClient(brokers).consumer({ groupId: freshName('bare'), maxWaitTimeInMs: 200 });
  const seen: KafkaMessage[] = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => void seen.push(message) });
  await eventually(`${count} messages in ${topic}`, () => seen.length >= count);
  await consumer.disconnect();
  return seen;
}
