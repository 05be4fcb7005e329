// HTTPS requests to untrusted hosts: every hop is checked by name before the request and by address at connection time.
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { isIP } from 'node:net';
import { rootCertificates } from 'node:tls';
import { failure } from '../../failures.ts';
import type { OpenedFile } from '../../ports.ts';
import type { Resolve } from './addresses.ts';
import { addressProblem, checkedLookup, notPublic, systemResolve } from './addresses.ts';

export interface GuardOptions {
  /** Non-public addresses that are allowed nevertheless, each as `ADDRESS:PORT`. */
  readonly allowAddresses?: readonly string[];
  /** Additional trusted certificate authorities, as PEM. */
  readonly ca?: string;
  /** Timeout for a silent connection. */
  readonly silenceMs?: number;
  readonly resolve?: Resolve;
}

export interface Asked {
  readonly url: string;
  /** Returns why a URL must not be requested; called for the first URL and each redirect. */
  readonly refuse: (url: URL) => string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent only to the origin of the first URL. */
  readonly authorization?: string | undefined;
  readonly signal: AbortSignal;
}

export type GuardedFetch = (asked: Asked) => Promise<IncomingMessage & { readonly statusCode: number }>;

/** Browsers follow 20; legitimate downloads need fewer, so more is a loop. */
const REDIRECTS = 5;
/** Tolerates a busy server; detects a dead connection. */
const SILENCE_MS = 60_000;

/** Creates the only function that fetches bytes over HTTPS. Follows redirects; the caller handles all other statuses. */
export function createGuardedFetch(options: GuardOptions): GuardedFetch {
  const { allowAddresses = [], ca, silenceMs = SILENCE_MS, resolve = systemResolve } = options;

  const ask = (url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> =>
    new Promise((done, fail) => {
      const port = Number(url.port || 443);
      const host = url.hostname.replace(/^\[|\]$/g, '');
      // A literal IP address is connected to without a lookup, so it is checked here.
      const problem = isIP(host) ? addressProblem(host, port, allowAddresses) : undefined;
      if (problem) return fail(notPublic(problem));
      const sent = request(
        url,
        {
          headers: { 'user-agent': 'ocdl', 'accept-encoding': 'identity', ...headers },
          // No connection reuse: each connection was checked for one request.
          agent: false,
          lookup: checkedLookup(resolve, port, allowAddresses),
          signal,
          timeout: silenceMs,
          ...(ca !== undefined && { ca: [...rootCertificates, ca] }),
        },
        done,
      );
      sent.on('timeout', () => sent.destroy(new Error(`${url.host} has been silent for ${silenceMs / 1000} s`)));
      sent.on('error', fail);
      sent.end();
    });

  return async ({ url, refuse, headers = {}, authorization, signal }) => {
    const first = new URL(url);
    let at = first;
    for (let hops = 0; ; hops += 1) {
      const problem = urlProblem(at) ?? refuse(at);
      if (problem) throw failure('NotAuthorized', `${at.host}: ${problem}`);
      const isHome = authorization !== undefined && at.origin === first.origin;
      const response = await ask(at, { ...headers, ...(isHome && { authorization }) }, signal);
      const { statusCode = 0 } = response;
      const location = response.headers.location;
      if (![301, 302, 303, 307, 308].includes(statusCode) || location === undefined)
        return Object.assign(response, { statusCode });
      response.destroy();
      if (hops === REDIRECTS) throw failure('InvalidInput', `${first.host} redirected more than ${REDIRECTS} times`);
      if (!URL.canParse(location, at.href)) throw failure('InvalidInput', `${at.host} redirected to an invalid URL`);
      at = new URL(location, at);
    }
  };
}

/** Reads a whole body as text, up to `limit` bytes. */
export async function textOf(response: IncomingMessage, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > limit)
      throw failure('InvalidInput', `the response has more than ${limit} bytes, the limit for responses of this kind`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * Opens a download. Resumes a partial one if the server still has the same file (`Range`, `If-Range`; RFC 9110); otherwise
 * the server sends it from the start. `judge` throws for error statuses.
 */
export async function openDownload(
  fetch: GuardedFetch,
  asked: Asked,
  from: { readonly start: number; readonly validator: string | null },
  judge: (response: IncomingMessage & { readonly statusCode: number }) => Promise<void>,
): Promise<OpenedFile> {
  const resumes = from.start > 0 && from.validator !== null;
  const range = resumes && { range: `bytes=${from.start}-`, 'if-range': from.validator ?? '' };
  const response = await fetch({ ...asked, headers: { ...asked.headers, ...range } });
  const { statusCode, headers } = response;
  // The part is as long as the complete file, or longer than the file is now.
  if (statusCode === 416 && resumes) {
    response.destroy();
    return openDownload(fetch, asked, { start: 0, validator: null }, judge);
  }
  if (statusCode !== 200 && statusCode !== 206) await judge(response);
  const encoding = headers['content-encoding'] ?? 'identity';
  const part = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '');
  if (encoding !== 'identity' || (statusCode === 206 && Number(part?.[1]) !== from.start)) {
    response.destroy();
    throw failure(
      'InvalidInput',
      `${asked.url}: the server violates HTTP: it sent an unrequested encoding or the wrong byte range`,
    );
  }
  const total = statusCode === 206 ? part?.[2] : headers['content-length'];
  return {
    start: statusCode === 206 ? from.start : 0,
    bytes: response,
    validator: validatorOf(response),
    total: total === undefined || total === '*' ? null : Number(total),
  };
}

const urlProblem = (url: URL): string | undefined =>
  url.protocol !== 'https:'
    ? `${url.protocol}// is not allowed, use https://`
    : url.username || url.password
      ? 'a URL must not contain a user name or password'
      : undefined;

/** A valid value for `If-Range`: a strong ETag, or a date at least a second older than the response (RFC 9110, 8.8.2.2). */
function validatorOf({ headers }: IncomingMessage): string | null {
  if (headers.etag?.startsWith('"')) return headers.etag;
  const [modified, date] = [headers['last-modified'], headers.date];
  return modified !== undefined && date !== undefined && Date.parse(date) - Date.parse(modified) >= 1000
    ? modified
    : null;
}
