// Which addresses a connection to the outside may be made to: public ones, and those an administrator has named with their port.
import { lookup } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { failure } from '../../failures.ts';

/** Gives the addresses of a host name. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** The system's own resolver. */
export const systemResolve: Resolve = async (host) => {
  const found = await lookup(host, { all: true, verbatim: true });
  return found.map(({ address }) => address);
};

/**
 * Why an address is refused, or `undefined`. Private, loopback, link-local, shared (CGNAT), multicast, reserved, mapped and
 * translated (NAT64, 6to4, Teredo) addresses are. `allowed` holds `ADDRESS:PORT`, an IPv6 address in brackets.
 */
export function addressProblem(address: string, port: number, allowed: readonly string[]): string | undefined {
  if (!ipaddr.isValid(address)) return `${address} is no address`;
  const parsed = ipaddr.parse(address);
  const isV6 = parsed.kind() === 'ipv6';
  if (allowed.includes(isV6 ? `[${address}]:${port}` : `${address}:${port}`)) return undefined;
  const range = parsed.range();
  if (range !== 'unicast') return `${address} is not public (${range})`;
  // What the library does not know by name: global unicast lies in 2000::/3, all else is kept for other ends (RFC 4291).
  if (isV6 && !parsed.match(ipaddr.parseCIDR('2000::/3'))) return `${address} is not public (no global unicast)`;
  return undefined;
}

export const notPublic = (problem: string) =>
  failure(
    'NotAuthorized',
    `${problem}: data comes from public hosts only, or from addresses that the operator allows in OCDL_IMPORT_PRIVATE_ADDRESSES`,
  );

/**
 * A `lookup` for `node:net`: it hands on only addresses that it has checked, so that a name that is resolved once to be checked
 * and once more to be connected to cannot be two things. One refused address among them refuses the host.
 */
export function checkedLookup(resolve: Resolve, port: number, allowed: readonly string[]): LookupFunction {
  return (host, options, callback) => {
    void (async () => {
      const addresses = await resolve(host);
      const problem = addresses.map((address) => addressProblem(address, port, allowed)).find(Boolean);
      if (problem) throw notPublic(`${host}: ${problem}`);
      const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
      const [first] = found;
      if (!first) throw new Error(`${host} has no address`);
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
