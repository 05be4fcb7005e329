// The connection to one bucket: the client, its time limits, and clear errors for every request.
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';
import { s3Error } from './errors.ts';

export interface ConnectionOptions {
  readonly bucket: string;
  readonly region: string;
  /** Any S3-compatible server; without it, AWS. */
  readonly endpoint?: string;
  /** Without them the SDK looks where it always does: environment, profile, role of the machine. */
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
  /** The bucket in the path, not in the host name; by default where an endpoint is given, since few of those have the DNS names. */
  readonly forcePathStyle?: boolean;
  /** How long the server may let a byte wait; the request is then tried again, three times in all, a download begun is not. */
  readonly silenceMs?: number;
}

/** A server that joins the parts of a large object may be silent for some tens of seconds; S3 itself never is. */
const SILENCE_MS = 60_000;
/** Within one data centre a connection is made in milliseconds. */
const CONNECT_MS = 10_000;
/** Reads that people drain slowly hold a connection each; the SDK's 50 would let them block the platform's own requests. */
const MOST_CONNECTIONS = 256;

export type Connection = ReturnType<typeof connect>;

/** Makes the clients; no request is sent yet. */
export function connect(options: ConnectionOptions) {
  const { bucket, region, endpoint, credentials, silenceMs = SILENCE_MS } = options;
  const agent = { maxSockets: MOST_CONNECTIONS };
  const where = endpoint ?? `AWS ${region}`;
  const config: S3ClientConfig = {
    region,
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
    ...(endpoint !== undefined && { endpoint }),
    ...(credentials && { credentials }),
    // The store asks for SHA-256 where it matters and hashes what it reads; CRCs by default trouble many compatible servers.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // With it the SDK opens a connection per part, and waits up to 6 s for servers that do not know it.
    expectContinueHeader: false,
  };
  const common = { connectionTimeout: CONNECT_MS, httpAgent: agent, httpsAgent: agent };
  const client = new S3Client({ ...config, requestHandler: { ...common, socketTimeout: silenceMs } });
  // A socket's time limit would go on while a reader pauses: here it ends with the answer's head, and who reads on has a clock.
  const downloads = { ...common, socketTimeout: 0, requestTimeout: silenceMs, throwOnRequestTimeout: true };
  const reader = new S3Client({ ...config, requestHandler: downloads });
  for (const each of [client, reader]) tellErrors(each, where);
  return { client, reader, bucket, endpoint: where, silenceMs };
}

/** Has every error told by what was asked. */
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
