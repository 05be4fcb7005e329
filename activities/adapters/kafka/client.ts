// Creates Kafka clients: addresses, TLS, SASL, timeouts; filters their log and translates their errors.
import net, { isIP } from 'node:net';
import tls from 'node:tls';
import { Kafka, logLevel, type Admin, type ISocketFactory, type LogEntry, type SASLOptions } from 'kafkajs';
import { failure, SystemUnavailable } from '../../failures.ts';

/** How to connect to a cluster. */
export interface KafkaConnection {
  /** Some brokers of the cluster as HOST:PORT (IPv6 in brackets); the client discovers the others. */
  readonly brokers: readonly string[];
  /** Name in the brokers' logs and quotas; default `ocdl`. */
  readonly clientId?: string;
  /** `true` trusts the system's authorities; `ca` (PEM) trusts only that one. `cert` and `key` (PEM) identify this client. */
  readonly ssl?: true | { readonly ca?: string; readonly cert?: string; readonly key?: string };
  readonly sasl?: {
    readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    readonly username: string;
    readonly password: string;
  };
  /** Receives warnings for operators about problems that do not stop the work. */
  readonly onWarn?: (message: string) => void;
}

/** Covers a TLS handshake over a slow network or with a broker that has just started. */
const CONNECT_MS = 10_000;
/** The default of kafkajs. */
const KEEP_ALIVE_MS = 60_000;
/** The defaults of kafkajs, stated explicitly because kafkajs changes them when NODE_ENV is `test`. */
const RETRY = { initialRetryTime: 300, factor: 0.2, multiplier: 2, maxRetryTime: 5_000 };

/**
 * Creates a separate client, because kafkajs shares state between the consumers of one client. `retries` applies to
 * connecting and to each request; `requestMs` is the timeout of a response.
 */
export function openClient(connection: KafkaConnection, retries: number, requestMs = 30_000): Kafka {
  const { brokers, clientId = 'ocdl', ssl, sasl, onWarn } = connection;
  // A copy, because kafkajs writes the negotiated login into the object.
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
/** kafkajs splits a broker at its first colon, so `[::1]:9092` needs a name without colons. */
const withoutColons = (broker: string): string =>
  broker.replace(/^\[([^\]]+)\]/, (_, address: string) => `${address.replaceAll(':', '-')}${IPV6_NAME}`);

/** Opens a socket as kafkajs does, and maps renamed addresses back to IPv6. */
const dial: ISocketFactory = ({ host: given, port, ssl, onConnect }) => {
  const host = given.endsWith(IPV6_NAME) ? given.slice(0, -IPV6_NAME.length).replaceAll('-', ':') : given;
  const name = isIP(host) === 0 ? { servername: host } : {};
  const socket = ssl ? tls.connect({ host, port, ...name, ...ssl }, onConnect) : net.connect({ host, port }, onConnect);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return socket;
};

/** Runs work with an admin connection and closes it afterwards. */
export async function withAdmin<T>(kafka: Kafka, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafka.admin();
  try {
    await admin.connect();
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

/** The protocol name of an error (`TOPIC_AUTHORIZATION_FAILED`), taken from anywhere in its chain of causes. */
export function protocolType(error: unknown): string | undefined {
  for (const each of chain(error)) if ('type' in each && typeof each.type === 'string') return each.type;
  return undefined;
}

/**
 * A Kafka error with operation, cause and remedy. Retryable, because an operator may fix the cause meanwhile, except for
 * an event that is too large.
 */
export function kafkaError(error: unknown, doing: string, connection: KafkaConnection): Error {
  const type = protocolType(error);
  const root = chain(error).at(-1);
  const said = root?.message ?? String(error);
  const at = `Kafka at ${connection.brokers.join(', ')}`;
  if (type === 'MESSAGE_TOO_LARGE')
    return failure('InvalidInput', `${doing}: the event exceeds the topic's size limit: send a reference to the data`);
  const found = remedy(type, said, at, connection);
  return new SystemUnavailable({
    system: 'Kafka',
    reason: found?.reason ?? 'it returned an unknown error',
    message: `${doing}: ${found?.message ?? `${at}: ${said}`}`,
    isFull: isFull(type, said),
    code: type,
    cause: error,
  });
}

const isFull = (type: string | undefined, said: string): boolean =>
  type === 'KAFKA_STORAGE_ERROR' || /No space left on device|quota/i.test(said);

/** Remedies for the operator, and reasons for API callers. */
function remedy(
  type: string | undefined,
  said: string,
  at: string,
  { sasl, ssl }: KafkaConnection,
): { readonly reason: string; readonly message: string } | undefined {
  const user = sasl ? `the user "${sasl.username}"` : 'this client';
  if (isFull(type, said))
    return {
      reason: 'a broker has no space left, or its disk failed',
      message: `${at} has no space left, or its disk failed (${said}): free space there`,
    };
  if (type?.endsWith('AUTHORIZATION_FAILED'))
    return {
      reason: 'it denies the platform access',
      message: `${at} denies access (${type}): grant ${user} Describe, Read, Write and Create on the topic and Read on the group`,
    };
  // kafkajs does not expose the reason.
  if (/find group coordinator/i.test(said))
    return {
      reason: 'it has no coordinator for the group',
      message: `${at} has no coordinator for the group: it is still starting, or ${user} needs Read on the group`,
    };
  if (/SASL|credentials|authentication failed/i.test(said))
    return {
      reason: 'it rejects the login of the platform',
      message: sasl
        ? `${at} rejected ${user} (${said}): check user name, password and mechanism (${sasl.mechanism})`
        : `${at} requires a login (${said}): configure SASL`,
    };
  if (/certificate|altname|self.signed|unable to (get|verify)/i.test(said))
    return {
      reason: 'its certificate is not trusted',
      message: `the certificate of ${at} is not trusted (${said}): check the broker's address and the configured certificate authority`,
    };
  if (/wrong version number|EPROTO|SSL routines|TLS connection was established/i.test(said))
    return {
      reason: 'its TLS settings do not match the configuration',
      message: `the TLS settings of ${at} do not match the configuration (${said}): check the port and the TLS settings`,
    };
  if (
    /ECONNREFUSED|ENOTFOUND|EHOSTUNREACH|EAI_AGAIN|timeout|timed out|Closed connection|closed by the server|ECONNRESET/i.test(
      said,
    )
  )
    return {
      reason: 'it does not answer',
      message: `${at} does not answer (${said}): check the address, that the broker runs${ssl ? '' : ', and whether it requires TLS'}`,
    };
  return undefined;
}

function* causes(error: unknown): Generator<Error> {
  for (let each = error; each instanceof Error; each = each.cause) {
    yield each;
    // The errors of creating several topics.
    if ('errors' in each && Array.isArray(each.errors)) yield* each.errors.flatMap((one) => [...causes(one)]);
  }
}
const chain = (error: unknown): readonly Error[] => [...causes(error)];

/**
 * Messages that occur in every start, join and rebalance and are resolved by the next attempt; errors of single responses,
 * which reach their callers; and the warning about limited retries, which does not apply because a failed publisher is replaced.
 */
const PASSING = /coordinator|rebalanc|leader|does not host this topic|^Response |Limiting retries/i;

function warningOf({ namespace, log }: LogEntry): string | undefined {
  const detail: unknown = log['error'];
  const said = [log.message, typeof detail === 'string' ? detail : ''].filter(Boolean).join(': ');
  return PASSING.test(said) ? undefined : `Kafka client (${namespace}): ${said}`;
}
