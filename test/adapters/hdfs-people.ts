// People with HDFS clients of their own: plain WebHDFS under their names, and what the NameNode says to them.
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { z } from 'zod';

export interface Person {
  /** HTTP status of an operation; 403 is the NameNode's refusal. */
  readonly status: (method: 'GET' | 'PUT' | 'DELETE', path: string, op: string) => Promise<number>;
  /** The text at a path, or the status of the refusal. */
  readonly read: (path: string) => Promise<string | number>;
  /** 201 when a file was made of the text. */
  readonly write: (path: string, text: string, more?: string) => Promise<number>;
  readonly json: (path: string, op: string) => Promise<unknown>;
}

const location = z.object({ Location: z.string() });

/** `user` as a client of the HDFS at `url`. */
export function person(url: string, user: string): Person {
  const ask = (method: string, path: string, op: string): Promise<Response> =>
    fetch(`${url}/webhdfs/v1${path}?user.name=${user}&op=${op}`, { method });
  return {
    async status(method, path, op) {
      const response = await ask(method, path, op);
      await response.text();
      return response.status;
    },
    async read(path) {
      const response = await ask('GET', path, 'OPEN');
      const text = await response.text();
      return response.ok ? text : response.status;
    },
    async write(path, text, more = '') {
      const named = await ask('PUT', path, `CREATE&noredirect=true${more}`);
      if (!named.ok) return named.status;
      const upload = request(location.parse(await named.json()).Location, {
        method: 'PUT',
        headers: { 'content-type': 'application/octet-stream' },
      });
      // Not fetch(), which takes the "100 Continue" that a DataNode always sends for a bad answer.
      const [response] = (await once(upload.end(text), 'response')) as [IncomingMessage];
      response.resume();
      return response.statusCode ?? 0;
    },
    json: async (path, op) => (await ask('GET', path, op)).json(),
  };
}
