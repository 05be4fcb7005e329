// Finds TCP ports on the loopback: the wanted one, the next free one, or a clear refusal.
import { createServer } from 'node:net';

export type PortWish = {
  /** What will listen there, in a person's words. */
  readonly what: string;
  readonly variable: string;
  /** The port a person asked for: that one or none. */
  readonly explicit: number | undefined;
  readonly preferred: number;
};

export type PortChoice = { readonly port: number; readonly note?: string };

/** Says whether a listener can be opened there now. */
export async function isFree(port: number, host: string): Promise<boolean> {
  return (await listenOnce(port, host)) !== undefined;
}

/** Returns a port nobody listens on, chosen by the operating system. */
export async function anyFreePort(host: string): Promise<number> {
  const port = await listenOnce(0, host);
  if (port === undefined) throw new Error(`No free TCP port on ${host}.`);
  return port;
}

/** Chooses a port that is not in `taken` (those given out a moment ago) and on which nobody listens. */
export async function choosePort(wish: PortWish, host: string, taken: ReadonlySet<number>): Promise<PortChoice> {
  if (wish.explicit !== undefined) {
    if (!taken.has(wish.explicit) && (await isFree(wish.explicit, host))) return { port: wish.explicit };
    throw new Error(
      `Port ${wish.explicit} for the ${wish.what} is taken: end the program that listens there, or give another port in ${wish.variable}.`,
    );
  }
  // A hundred ports further something else is wrong than a busy port.
  for (let port = wish.preferred; port < wish.preferred + 100; port += 1) {
    if (taken.has(port) || !(await isFree(port, host))) continue;
    if (port === wish.preferred) return { port };
    return { port, note: `Port ${wish.preferred} is taken; the ${wish.what} listens on ${port} (${wish.variable}).` };
  }
  throw new Error(
    `Ports ${wish.preferred} to ${wish.preferred + 99} for the ${wish.what} are all taken: give a free one in ${wish.variable}.`,
  );
}

function listenOnce(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : undefined));
    });
  });
}
