// Decides which addresses an outgoing connection may use: public ones, and those that an administrator allows with their port.
import { lookup } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { failure } from '../../failures.ts';

/** Resolves a host name to its addresses. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** Uses the system's resolver. */
export const systemResolve: Resolve = async (host) => {
  const found = await lookup(host, { all: true, verbatim: true });
  return found.map(({ address }) => address);
};

/**
 * Why an address is refused, or `undefined`. Refused are private, loopback, link-local, shared (CGNAT), multicast, reserved,
 * mapped and translated (NAT64, 6to4, Teredo) addresses. `allowed` lists exceptions as `ADDRESS:PORT`, IPv6 in brackets.
 */
export function addressProblem(address: string, port: number, allowed: readonly string[]): string | undefined {
  if (!ipaddr.isValid(address)) return `${address} is not an IP address`;
  const parsed = ipaddr.parse(address);
  const isV6 = parsed.kind() === 'ipv6';
  if (allowed.includes(isV6 ? `[${address}]:${port}` : `${address}:${port}`)) return undefined;
  const range = parsed.range();
  if (range !== 'unicast') return `${address} is not public (${range})`;
  // For ranges that the library does not name: global unicast is 2000::/3, everything else is reserved (RFC 4291).
  if (isV6 && !parsed.match(ipaddr.parseCIDR('2000::/3')))
    return `${address} is not public (outside the global unicast range)`;
  return undefined;
}

export const notPublic = (problem: string) =>
  failure(
    'NotAuthorized',
    `${problem}: imports connect only to public addresses and to those that the operator lists in OCDL_IMPORT_PRIVATE_ADDRESSES`,
  );

/**
 * A `lookup` for `node:net` that returns only checked addresses. The connection uses the checked addresses, so a second
 * DNS lookup cannot return something else. One refused address refuses the host.
 */
export function checkedLookup(resolve: Resolve, port: number, allowed: readonly string[]): LookupFunction {
  return (host, options, callback) => {
    void (async () => {
      const addresses = await resolve(host);
      const problem = addresses.map((address) => addressProblem(address, port, allowed)).find(Boolean);
      if (problem) throw notPublic(`${host}: ${problem}`);
      const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
      const [first] = found;
      if (!first) throw new Error(`${host} resolves to no address`);
      return { found, first };
    })().then(
      ({ found, first }) => {
        if (options.all) callback(null, found);
        else callback(null, first.address, first.family);
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), ''),
    );
  };
}
