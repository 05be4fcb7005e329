// Finds TCP ports on the loopback: the requested one, the next free one, or a clear error.
import { createServer } from 'node:net';

export type PortWish = {
  /** What will listen there, for messages. */
  readonly what: string;
  readonly variable: string;
  /** The port that a person set: no other may be used instead. */
  readonly explicit: number | undefined;
  readonly preferred: number;
};

export type PortChoice = { readonly port: number; readonly note?: string };

/** Whether a listener can be opened there now. */
export async function isFree(port: number, host: string): Promise<boolean> {
  return (await listenOnce(port, host)) !== undefined;
}

/** Returns a free port, chosen by the operating system. */
export async function anyFreePort(host: string): Promise<number> {
  const port = await listenOnce(0, host);
  if (port === undefined) throw new Error(`No free TCP port on ${host}.`);
  return port;
}

/** Chooses a free port that is not in `taken` (ports already chosen for other listeners). */
export async function choosePort(wish: PortWish, host: string, taken: ReadonlySet<number>): Promise<PortChoice> {
  if (wish.explicit !== undefined) {
    if (!taken.has(wish.explicit) && (await isFree(wish.explicit, host))) return { port: wish.explicit };
    throw new Error(
      `Port ${wish.explicit} for the ${wish.what} is in use: stop the program that listens there, or set ${wish.variable} to another port.`,
    );
  }
  // If a hundred ports are in use, something else is wrong.
  for (let port = wish.preferred; port < wish.preferred + 100; port += 1) {
    if (taken.has(port) || !(await isFree(port, host))) continue;
    if (port === wish.preferred) return { port };
    return { port, note: `Port ${wish.preferred} is in use; the ${wish.what} listens on ${port} (${wish.variable}).` };
  }
  throw new Error(
    `Ports ${wish.preferred} to ${wish.preferred + 99} for the ${wish.what} are all in use: set ${wish.variable} to a free port.`,
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
