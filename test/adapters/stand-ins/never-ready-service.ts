// A service that says something and is never ready: it tries the network first, which a sandboxed one does not have.
import { networkInterfaces } from 'node:os';

const reachable = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
console.log(`still loading; interfaces other than loopback: ${reachable.filter(({ internal }) => !internal).length}`);
setInterval(() => undefined, 1_000);
