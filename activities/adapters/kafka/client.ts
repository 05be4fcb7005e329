// How every client of Kafka is made: addresses, TLS, SASL, patience; what it logs and how it fails, in words for people.
import net, { isIP } from 'node:net';
import tls from 'node:tls';
import { Kafka, logLevel, type Admin, type ISocketFactory, type LogEntry, type SASLOptions } from 'kafkajs';
import { failure, SystemUnavailable } from '../../failures.ts';

/** How to reach a cluster. */
export interface KafkaConnection {
  /** Some brokers of the cluster, HOST:PORT (an IPv6 address in brackets); the others are learnt from them. */
  readonly brokers: readonly string[];
  /** Name in the brokers' logs and quotas; default `ocdl`. */
  readonly clientId?: string;
  /** `true` trusts the system's authorities; with `ca` (PEM) only that one. `cert` and `key` (PEM) are this client's own. */
  readonly ssl?: true | { readonly ca?: string; readonly cert?: string; readonly key?: string };
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  };
  /** Hears what an operator should know although the work goes on. */
  readonly onWarn?: (message: string) => void;
}

/** A TLS handshake over a slow network, or with a broker that has just started. */
const CONNECT_MS = 10_000;
/** kafkajs' own. */
const KEEP_ALIVE_MS = 60_000;
/** kafkajs' own; every value is given, since kafkajs takes others when NODE_ENV is `test`. */
const RETRY = { initialRetryTime: 300, factor: 0.2, multiplier: 2, maxRetryTime: 5_000 };

/**
 * Makes a client of its own: kafkajs shares state between the consumers of one client. `retries` are kafkajs' attempts to
 * connect and to repeat a request, `requestMs` how long an answer may take.
 */
export function openClient(connection: KafkaConnection, retries: number, requestMs = 30_000): Kafka {
  const { brokers, clientId = 'ocdl', ssl, sasl, onWarn } = connection;
  // A copy: kafkajs writes the login it has made into the object.
  const login: SASLOptions | undefined = sasl && {
    mechanism: sasl.mechanism,
    username: sasl.username,
    password: sasl.password,
  };
  return new Kafka({
    brokers: brokers.map(withoutColons),
    socketFactory: dial,
    clientId,
    ...(ssl && { ssl: ssl === true ? true : { ...ssl } }),
    ...(login && { sasl: login }),
    connectionTimeout: CONNECT_MS,
    requestTimeout: requestMs,
    retry: { ...RETRY, retries },
    logLevel: logLevel.WARN,
    logCreator: () => (entry) => {
      const line = warningOf(entry);
      if (line !== undefined) onWarn?.(line);
    },
  });
}

/** A name for an IPv6 address, as Windows writes it in paths. */
const IPV6_NAME = '.ipv6-literal.net';
/** kafkajs takes a broker apart at its first colon, so that `[::1]:9092` must come under a name without any. */
const withoutColons = (broker: string): string =>
  broker.replace(/^\[([^\]]+)\]/, (_, address: string) => `${address.replaceAll(':', '-')}${IPV6_NAME}`);

/** Opens a connection as kafkajs does by itself, also to an address that `withoutColons` has renamed. */
const dial: ISocketFactory = ({ host: given, port, ssl, onConnect }) => {
  const host = given.endsWith(IPV6_NAME) ? given.slice(0, -IPV6_NAME.length).replaceAll('-', ':') : given;
  const name = isIP(host) === 0 ? { servername: host } : {};
  const socket = ssl ? tls.connect({ host, port, ...name, ...ssl }, onConnect) : net.connect({ host, port }, onConnect);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return socket;
};

/** Does something with an administrator's connection that is closed afterwards. */
export async function withAdmin<T>(kafka: Kafka, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafka.admin();
  try {
    await admin.connect();
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

/** The protocol's name of an error (`TOPIC_AUTHORIZATION_FAILED`), wherever in its causes it stands. */
export function protocolType(error: unknown): string | undefined {
  for (const each of chain(error)) if ('type' in each && typeof each.type === 'string') return each.type;
  return undefined;
}

/**
 * An error of Kafka with what was being done, what is wrong and how to mend it. It can be tried again, since somebody may
 * mend the cause meanwhile, save for an event that is too large.
 */
export function kafkaError(error: unknown, doing: string, connection: KafkaConnection): Error {
  const type = protocolType(error);
  const root = chain(error).at(-1);
  const said = root?.message ?? String(error);
  const at = `Kafka at ${connection.brokers.join(', ')}`;
  if (type === 'MESSAGE_TOO_LARGE')
    return failure('InvalidInput', `${doing}: the event is larger than the topic takes: send a reference to the data`);
  const found = remedy(type, said, at, connection);
  return new SystemUnavailable({
    system: 'Kafka',
    reason: found?.reason ?? 'it gives an answer that the platform does not know',
    message: `${doing}: ${found?.message ?? `${at}: ${said}`}`,
    isFull: isFull(type, said),
    code: type,
    cause: error,
  });
}

const isFull = (type: string | undefined, said: string): boolean =>
  type === 'KAFKA_STORAGE_ERROR' || /No space left on device|quota/i.test(said);

/** What an operator can do, and the same in words for whoever asked. */
function remedy(
  type: string | undefined,
  said: string,
  at: string,
  { sasl, ssl }: KafkaConnection,
): { readonly reason: string; readonly message: string } | undefined {
  const user = sasl ? `the user "${sasl.username}"` : 'this client';
  if (isFull(type, said))
    return {
      reason: 'a broker has no space left, or its disk fails',
      message: `${at} has no space left, or its disk fails (${said}): free some space there`,
    };
  if (type?.endsWith('AUTHORIZATION_FAILED'))
    return {
      reason: 'it refuses the platform',
      message: `${at} does not allow it (${type}): grant ${user} Describe, Read, Write and Create on the topic and Read on the group`,
    };
  // kafkajs keeps the reason to itself.
  if (/find group coordinator/i.test(said))
    return {
      reason: 'it names no coordinator of the group',
      message: `${at} names no coordinator of the group: it is starting, or ${user} lacks the right Read on the group`,
    };
  if (/SASL|credentials|authentication failed/i.test(said))
    return {
      reason: 'it refuses the login of the platform',
      message: sasl
        ? `${at} refused ${user} (${said}): check user name, password and mechanism (${sasl.mechanism})`
        : `${at} wants a login (${said}): configure SASL`,
    };
  if (/certificate|altname|self.signed|unable to (get|verify)/i.test(said))
    return {
      reason: 'its certificate is not trusted',
      message: `the certificate of ${at} is not trusted (${said}): check the broker's address and the configured authority`,
    };
  if (/wrong version number|EPROTO|SSL routines|TLS connection was established/i.test(said))
    return {
      reason: 'it does not speak TLS as configured',
      message: `${at} does not speak TLS as configured (${said}): check the port and the TLS settings`,
    };
  if (
    /ECONNREFUSED|ENOTFOUND|EHOSTUNREACH|EAI_AGAIN|timeout|timed out|Closed connection|closed by the server|ECONNRESET/i.test(
      said,
    )
  )
    return {
      reason: 'it does not answer',
      message: `${at} does not answer (${said}): check the address, that the broker runs${ssl ? '' : ', and whether it wants TLS'}`,
    };
  return undefined;
}

function* causes(error: unknown): Generator<Error> {
  for (let each = error; each instanceof Error; each = each.cause) {
    yield each;
    // What came of creating several topics.
    if ('errors' in each && Array.isArray(each.errors)) yield* each.errors.flatMap((one) => [...causes(one)]);
  }
}
const chain = (error: unknown): readonly Error[] => [...causes(error)];

/**
 * Part of every start, join and hand-over, and mended by the next attempt; the errors of single answers reach their callers;
 * and the warning of limited retries speaks of a danger that does not arise, since a publisher that gave up is replaced.
 */
const PASSING = /coordinator|rebalanc|leader|does not host this topic|^Response |Limiting retries/i;

function warningOf({ namespace, log }: LogEntry): string | undefined {
  const detail: unknown = log['error'];
  const said = [log.message, typeof detail === 'string' ? detail : ''].filter(Boolean).join(': ');
  return PASSING.test(said) ? undefined : `Kafka client (${namespace}): ${said}`;
}
