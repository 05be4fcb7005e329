// The connection to one bucket: client, timeouts, and clear errors for every request.
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { s3Error } from './errors.ts';

export interface ConnectionOptions {
  readonly bucket: string;
  readonly region: string;
  /** An S3-compatible server; default: AWS. */
  readonly endpoint?: string;
  /** Default: the SDK's search order (environment, profile, role of the machine). */
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
  /** Puts the bucket into the path instead of the host name; the default for custom endpoints, which rarely have the DNS names. */
  readonly forcePathStyle?: boolean;
  /** Timeout for a silent server. Requests are tried three times in all; a started download is not retried. */
  readonly silenceMs?: number;
}

/** A compatible server may be silent for tens of seconds while it joins the parts of a large object; S3 itself never is. */
const SILENCE_MS = 60_000;
/** Within a data centre, connecting takes milliseconds. */
const CONNECT_MS = 10_000;
/** Slow readers hold a connection each; with the SDK's default of 50 they could block the platform's own requests. */
const MOST_CONNECTIONS = 256;

export type Connection = ReturnType<typeof connect>;

/** Creates the clients; sends no request. */
export function connect(options: ConnectionOptions) {
  const { bucket, region, endpoint, credentials, silenceMs = SILENCE_MS } = options;
  const agent = { maxSockets: MOST_CONNECTIONS };
  const where = endpoint ?? `AWS ${region}`;
  const config: S3ClientConfig = {
    region,
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
    ...(endpoint !== undefined && { endpoint }),
    ...(credentials && { credentials }),
    // The store requests SHA-256 where needed and hashes what it reads; the SDK's default CRCs fail on many compatible servers.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // With this header, the SDK opens a connection per part and waits up to 6 s for servers that do not support it.
    expectContinueHeader: false,
  };
  const common = { connectionTimeout: CONNECT_MS, httpAgent: agent, httpsAgent: agent };
  const client = new S3Client({ ...config, requestHandler: { ...common, socketTimeout: silenceMs } });
  // A socket timeout would count a reader's pauses: here it ends with the response headers; body readers have their own timer.
  const downloads = { ...common, socketTimeout: 0, requestTimeout: silenceMs, throwOnRequestTimeout: true };
  const reader = new S3Client({ ...config, requestHandler: downloads });
  for (const each of [client, reader]) tellErrors(each, where);
  return { client, reader, bucket, endpoint: where, silenceMs };
}

/** Translates every error, with the request that caused it. */
function tellErrors(client: S3Client, endpoint: string): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      try {
        return await next(args);
      } catch (error) {
        const { input } = args;
        const bucket = 'Bucket' in input && typeof input.Bucket === 'string' ? input.Bucket : '';
        const key = 'Key' in input && typeof input.Key === 'string' ? `/${input.Key}` : '';
        const operation = (context.commandName ?? 'request').replace(/Command$/, '');
        throw s3Error(error, { operation, address: `s3://${bucket}${key}`, endpoint });
      }
    },
    { step: 'initialize', name: 'tellErrors' },
  );
}
