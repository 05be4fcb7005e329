// An HTTP proxy before a real S3 server: it simulates lost, delayed and changed answers.
import { createServer, request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Interference {
  /** Called before a request goes on; it waits. */
  before?: (asked: IncomingMessage) => Promise<void> | void;
  /** Answers in the server's place. */
  instead?: (asked: IncomingMessage) => { readonly status: number; readonly body: string } | undefined;
  /** May change the headers of an answer; `lose` cuts the connection after the server has done its work. */
  answer?: (asked: IncomingMessage, headers: IncomingHttpHeaders) => 'lose' | void;
}

/** Starts a proxy to `target`; what it does can be changed while it runs. */
export async function s3Proxy(target: string, does: Interference = {}) {
  const server = createServer((asked, answered) => {
    void (async () => {
      await does.before?.(asked);
      const played = does.instead?.(asked);
      if (played) {
        asked.resume();
        answered.writeHead(played.status, { 'content-type': 'application/xml' }).end(played.body);
        return;
      }
      // With the client's own headers: they are signed.
      const passed = request(new URL(asked.url ?? '/', target), { method: asked.method, headers: asked.headers });
      passed.on('response', (answer) => {
        const headers = { ...answer.headers };
        if (does.answer?.(asked, headers) === 'lose') {
          answer.resume().on('end', () => asked.socket.destroy());
          return;
        }
        answered.sendDate = false;
        answered.writeHead(answer.statusCode ?? 502, headers);
        answer.pipe(answered);
      });
      passed.on('error', () => asked.socket.destroy());
      asked.on('error', () => passed.destroy());
      asked.pipe(passed);
    })();
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    does,
    async close(): Promise<void> {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
