// A proxy between a client and PostgreSQL that counts statements and cuts the connection once, at a given statement.
import { connect, createServer, type Socket } from 'node:net';
import { once } from 'node:events';

/** At which statement (from 1) a connection is cut: it never arrives; it arrives but the client is gone; its answer is lost. */
export interface Cut {
  readonly at: number;
  readonly how: 'before it is sent' | 'as it is sent' | 'before its answer comes';
}

export interface CuttingProxy {
  /** The server's URL, by way of the proxy. */
  readonly url: string;
  /** Counts from 0 again, and makes the cut once if there is one. */
  arm(cut?: Cut): void;
  /** Statements since then, over all connections. */
  statements(): number;
  /** Whether the cut has been made. */
  hasCut(): boolean;
  close(): Promise<void>;
}

/** The last message of a statement: a simple query, or the Sync after an extended one. */
const ENDS_STATEMENT = [0x51, 0x53];

/** Starts the proxy on a free loopback port. */
export async function cuttingProxy(serverUrl: string): Promise<CuttingProxy> {
  const target = new URL(serverUrl);
  const state: { statements: number; cut?: Cut | undefined; hasCut: boolean } = { statements: 0, hasCut: false };
  const open = new Set<Socket>();

  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    let answerIsLost = false;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on('error', end);
      socket.on('close', () => {
        open.delete(socket);
        end();
      });
    }
    upstream.on('data', (bytes) => {
      if (answerIsLost) end();
      else client.write(bytes);
    });
    const statementsOf = splitStatements();
    client.on('data', (bytes) => {
      for (const { message, isStatement } of statementsOf(bytes)) {
        if (isStatement) state.statements += 1;
        const isCut = isStatement && !state.hasCut && state.statements === state.cut?.at;
        if (isCut) state.hasCut = true;
        if (isCut && state.cut?.how === 'before it is sent') return end();
        upstream.write(message);
        if (isCut && state.cut?.how === 'as it is sent') return end();
        if (isCut) answerIsLost = true;
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const url = new URL(serverUrl);
  url.host = `127.0.0.1:${address.port}`;
  return {
    url: url.href,
    arm(cut) {
      Object.assign(state, { statements: 0, cut, hasCut: false });
    },
    statements: () => state.statements,
    hasCut: () => state.hasCut,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

/** Takes bytes as they come and gives whole statements; what comes before the first (the start, the password) goes on message by message. */
function splitStatements(): (bytes: Buffer) => { message: Buffer; isStatement: boolean }[] {
  let rest = Buffer.alloc(0);
  let isStarted = false;
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    const found: { message: Buffer; isStatement: boolean }[] = [];
    for (let end = 0; ;) {
      // The first message alone has no byte for its kind.
      const header = isStarted ? 1 : 0;
      if (rest.length < end + header + 4) return found;
      const next = end + header + rest.readUInt32BE(end + header);
      if (rest.length < next) return found;
      const kind = isStarted ? (rest[end] ?? 0) : 0;
      end = next;
      const isStatement = ENDS_STATEMENT.includes(kind);
      // P, B, D, E: parts of a statement whose end is still to come.
      if ([0x50, 0x42, 0x44, 0x45].includes(kind)) continue;
      isStarted = true;
      found.push({ message: rest.subarray(0, end), isStatement });
      rest = rest.subarray(end);
      end = 0;
    }
  };
}
