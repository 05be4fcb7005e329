// `ocdl restore`: on the platform's machine, shows which systems were restored to an earlier state, and accepts it.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ownerOf } from '../../deploy/local/home-lock.ts';
import { startPlatform } from '../../deploy/local/platform.ts';
import { readPlatformState } from '../../deploy/local/platform-state.ts';
import { keptPostgresUrl } from '../../deploy/local/postgres.ts';
import { embeddedProcesses } from '../../deploy/local/processes.ts';
import { runProgram } from '../../deploy/local/run-program.ts';
import { readSettings, type Environment, type Settings } from '../../deploy/local/settings.ts';

const HELP = `Usage: ocdl restore list
       ocdl restore accept [--void-tokens]

After PostgreSQL, the areas, the release store, the events, the Git repositories or OCDL_HOME were restored from a backup
or emptied, the platform pauses decisions and deliveries. Both commands use the configuration of this machine, as
\`npm start\` does, whether the platform is running or not.

  list            shows the findings; exit code 1 if findings wait to be accepted
  accept          continues with the systems as they are now; no release number is assigned twice
  --void-tokens   also revokes all tokens of people and applications, since tokens revoked after the backup are valid
                  again in the restored PostgreSQL; a new administrator token is shown once`;

const program = fileURLToPath(new URL('../../workers/restore.ts', import.meta.url));
/** All systems are read, with half a minute for each that does not answer. */
const WITHIN_MS = 180_000;

/** Runs the workers' restore program, so that systems are reached in the same way as by the platform. Returns the exit code. */
export async function restore(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { help: { type: 'boolean', default: false }, 'void-tokens': { type: 'boolean', default: false } },
  });
  const [action, ...more] = positionals;
  const isKnown = action === 'list' ? !values['void-tokens'] : action === 'accept';
  if (values.help || !isKnown || more.length > 0) {
    console.log(HELP);
    return values.help ? 0 : 2;
  }
  const settings = readSettings();
  return await overServers(settings, async (servers) => {
    const args = ['--import', import.meta.resolve('tsx'), program, action ?? ''];
    const env = { ...settings.env, OCDL_HOME: settings.home, OCDL_CACHE: settings.cache, ...servers };
    const flags = values['void-tokens'] ? ['--void-tokens'] : [];
    const { code, output } = await runProgram(process.execPath, [...args, ...flags], { env, timeoutMs: WITHIN_MS });
    console.log(output);
    return code === 0 ? 0 : 1;
  });
}

/** Runs `work` with the embedded servers: those of the running platform, or servers started for this command. */
async function overServers(settings: Settings, work: (servers: Environment) => Promise<number>): Promise<number> {
  const { home, databaseUrl, temporalAddress } = settings;
  if (databaseUrl !== undefined && temporalAddress !== undefined)
    return await work({ DATABASE_URL: databaseUrl, TEMPORAL_ADDRESS: temporalAddress });
  if (ownerOf(home) !== undefined) {
    const state = readPlatformState(home);
    if (!state) throw new Error(`a platform is starting on ${home}: try again when it is ready, or stop it first`);
    return await work({
      DATABASE_URL: databaseUrl ?? keptPostgresUrl(join(home, 'postgres')),
      TEMPORAL_ADDRESS: state.temporalAddress,
    });
  }
  const say = (): void => undefined;
  const servers = await startPlatform({ settings, say, processes: { ...embeddedProcesses, programs: () => [] } });
  try {
    return await work({ DATABASE_URL: servers.databaseUrl, TEMPORAL_ADDRESS: servers.temporalAddress });
  } finally {
    await servers.stop();
  }
}
