// A proxy to a real NameNode that can delay requests, lose answers or replace them.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Handles an operation (`RENAME`); `pass` forwards it to the NameNode. `undefined`: the answer is lost. */
export type Interfere = (op: string, pass: () => Promise<Answer>) => Promise<Answer | undefined>;

/** A refusal by HDFS. */
export const refusalBy = (exception: string, message: string): Answer => ({
  status: 403,
  body: JSON.stringify({ RemoteException: { exception, javaClassName: `org.apache.hadoop.${exception}`, message } }),
});

/** Opens the way to the NameNode at `url`. */
export async function wayTo(url: string, interfere: Interfere): Promise<{ readonly url: string; close(): void }> {
  const server = createServer((request, response) => {
    const target = new URL(request.url ?? '', url);
    const pass = async (): Promise<Answer> => {
      const answer = await fetch(target, { method: request.method ?? 'GET' });
      return { status: answer.status, body: await answer.text() };
    };
    const op = target.searchParams.get('op')?.toUpperCase() ?? '';
    void interfere(op, pass)
      .catch(() => undefined)
      .then((answer) => {
        if (!answer) return response.destroy();
        response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body);
      });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
