// HTTPS to hosts nobody vouches for: every hop is checked, by name before it is asked and by address as it is connected to.
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { isIP } from 'node:net';
import { rootCertificates } from 'node:tls';
import { failure } from '../../failures.ts';
import type { OpenedFile } from '../../ports.ts';
import type { Resolve } from './addresses.ts';
import { addressProblem, checkedLookup, notPublic, systemResolve } from './addresses.ts';

export interface GuardOptions {
  /** Addresses that may be connected to although they are not public, each as `ADDRESS:PORT`. */
  readonly allowAddresses?: readonly string[];
  /** PEM of certificate authorities that are trusted besides the usual ones. */
  readonly ca?: string;
  /** A connection on which nothing comes for so long is given up. */
  readonly silenceMs?: number;
  readonly resolve?: Resolve;
}

export interface Asked {
  readonly url: string;
  /** Why a URL must not be asked, for the first one and for each redirect. */
  readonly refuse: (url: URL) => string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent to the first URL's origin alone. */
  readonly authorization?: string | undefined;
  readonly signal: AbortSignal;
}

export type GuardedFetch = (asked: Asked) => Promise<IncomingMessage & { readonly statusCode: number }>;

/** As many as browsers' users ever need; more is a loop. */
const REDIRECTS = 5;
/** A busy server may think for a while; a dead line is silent for ever. */
const SILENCE_MS = 60_000;

/** Makes the one function by which bytes come over HTTPS; redirects are followed, every other status is the caller's. */
export function createGuardedFetch(options: GuardOptions): GuardedFetch {
  const { allowAddresses = [], ca, silenceMs = SILENCE_MS, resolve = systemResolve } = options;

  const ask = (url: URL, headers: Record<string, string>, signal: AbortSignal): Promise<IncomingMessage> =>
    new Promise((done, fail) => {
      const port = Number(url.port || 443);
      const host = url.hostname.replace(/^\[|\]$/g, '');
      // A literal address is connected to without any lookup.
      const problem = isIP(host) ? addressProblem(host, port, allowAddresses) : undefined;
      if (problem) return fail(notPublic(problem));
      const sent = request(
        url,
        {
          headers: { 'user-agent': 'ocdl', 'accept-encoding': 'identity', ...headers },
          // No connection is used twice: each one was checked for what it is used for.
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
      const problem = unlawful(at) ?? refuse(at);
      if (problem) throw failure('NotAuthorized', `${at.host}: ${problem}`);
      const isHome = authorization !== undefined && at.origin === first.origin;
      const response = await ask(at, { ...headers, ...(isHome && { authorization }) }, signal);
      const { statusCode = 0 } = response;
      const location = response.headers.location;
      if (![301, 302, 303, 307, 308].includes(statusCode) || location === undefined)
        return Object.assign(response, { statusCode });
      response.destroy();
      if (hops === REDIRECTS) throw failure('InvalidInput', `${first.host} redirects more than ${REDIRECTS} times`);
      if (!URL.canParse(location, at.href)) throw failure('InvalidInput', `${at.host} redirects to what is no URL`);
      at = new URL(location, at);
    }
  };
}

/** A whole body as text, up to a limit of bytes. */
export async function textOf(response: IncomingMessage, limit: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > limit) throw failure('InvalidInput', `an answer of more than ${limit} bytes was not expected`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * Opens a download, from the middle where a part is there and the server still has the same file (`Range`, `If-Range`; RFC 9110);
 * a server that cannot do that sends it from the beginning. `judge` throws for statuses that are no file.
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
  // The part is as long as the whole, or longer than what is there now.
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
      `${asked.url}: the server does not keep to HTTP: it encodes unasked, or sends other parts`,
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

const unlawful = (url: URL): string | undefined =>
  url.protocol !== 'https:'
    ? `${url.protocol}// is refused, only https:// is taken`
    : url.username || url.password
      ? 'a URL with a user name or password is refused'
      : undefined;

/** What `If-Range` may hold: a strong ETag, or a date that is at least a second older than the answer (RFC 9110, 8.8.2.2). */
function validatorOf({ headers }: IncomingMessage): string | null {
  if (headers.etag?.startsWith('"')) return headers.etag;
  const [modified, date] = [headers['last-modified'], headers.date];
  return modified !== undefined && date !== undefined && Date.parse(date) - Date.parse(modified) >= 1000
    ? modified
    : null;
}
