// Separate real servers for one test file, on free ports, stopped at its end.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { portTable, type PortName } from '../../deploy/stack/ports.ts';
import { readStackSettings } from '../../deploy/stack/settings.ts';
import { startStack } from '../../deploy/stack/stack.ts';
import { stackVariables } from '../e2e/foreign-clients.ts';
import { programs } from '../servers.ts';

/** Starts it; `home` is its folder, `variables` are what the platform is given, `said` is what its supervisor says. */
export async function startOwnStack() {
  const home = mkdtempSync(join(tmpdir(), 'ocdl-fault-stack-'));
  const end = new AbortController();
  const said: string[] = [];
  const settings = { ...readStackSettings(programs.env), home, ports: await freePorts() };
  const say = (line: string): void => void said.push(line);
  const stack = await startStack({
    ...{ settings, say, verbose: false },
    ...{ stop: end.signal, force: new AbortController().signal },
  });
  void stack.ended.then(({ error }) => error && process.stderr.write(`${error.message}\n${said.join('\n')}\n`));
  return {
    home,
    said: said as readonly string[],
    // One partition, so that a new reader knows when it has read everything.
    variables: { ...stackVariables(home), TEMPORAL_UI_URL: '', OCDL_KAFKA_PARTITIONS: '1' } as Readonly<
      Record<string, string>
    >,
    async stop(): Promise<void> {
      end.abort();
      await stack.ended;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

async function freePorts(): Promise<Record<PortName, number>> {
  const ports: Partial<Record<PortName, number>> = {};
  for (const name of Object.keys(portTable) as PortName[]) ports[name] = await anyFreePort('127.0.0.1');
  return ports as Record<PortName, number>;
}
