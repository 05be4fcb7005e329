// Types of npm `webhdfs` 1.2.0, which has none; covers only what this adapter calls.
declare module 'webhdfs' {
  import type { Agent } from 'node:http';

  /** A running request, as the `request` package returns it. */
  export interface WebHdfsRequest {
    on(event: 'error', listener: (error: Error) => void): this;
    on(event: 'complete', listener: (response: { readonly statusCode: number }, body: unknown) => void): this;
    abort(): void;
  }

  type Done = (error?: Error | null) => void;

  export interface WebHdfsClient {
    mkdir(path: string, mode: string, done: Done): WebHdfsRequest;
    stat(path: string, done: Done): WebHdfsRequest;
    chown(path: string, user: string, group: string, done: Done): WebHdfsRequest;
    unlink(path: string, recursive: boolean, done: Done): WebHdfsRequest;
  }

  const webhdfs: {
    createClient(
      options: {
        readonly protocol: 'http' | 'https';
        readonly host: string;
        readonly port: number;
        readonly path: string;
        readonly user: string;
      },
      request: {
        readonly agent: Agent;
        readonly timeout: number;
        readonly followRedirect: boolean;
        readonly proxy: null;
      },
    ): WebHdfsClient;
  };
  export default webhdfs;
}
