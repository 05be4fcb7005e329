// Shows which systems were restored to an earlier state, and lets an administrator on the machine accept it; a program for `ocdl restore`.
import { randomUUID } from 'node:crypto';
import { userInfo } from 'node:os';
import { Connection } from '@temporalio/client';
import type { Logger } from 'pino';
import { compare, type Finding, type Seen } from '../activities/installation.ts';
import { newToken } from '../activities/tokens.ts';
import { workerConfig } from './config.ts';
import { AnotherInstallation, claimUnlessUnmarkable, keepEverywhere, restoreEntry } from './installation.ts';
import { foreignTo, look, type Installation } from './look.ts';
import { databaseOf, markedHome, markedNamespace, markedStores } from './marked-systems.ts';
import { createLog, run } from './process.ts';
import { openBus, openStores } from './wiring.ts';

/** Long enough for every system to answer while a person waits. */
const LOOK_MS = 30_000;

/** Findings that wait to be accepted: current ones, and earlier ones about systems without a current finding. */
export async function waiting(installation: Installation): Promise<{
  readonly seen: Seen;
  readonly findings: readonly Finding[];
  /** Systems that did not answer, with the reason. */
  readonly silent: readonly string[];
}> {
  const { seen, unseen } = await look(installation, LOOK_MS);
  const found = compare(seen);
  const earlier = (await installation.records.paused())?.findings ?? [];
  const others = earlier.filter((one) => !found.some(({ system }) => system === one.system));
  return { seen, findings: [...found, ...others], silent: [...unseen].map(([{ where }, why]) => `${where}: ${why}`) };
}

/**
 * Accepts the systems as they are: no release number is assigned twice, all systems get a new checkpoint, and the pause ends.
 * If all tokens were revoked and there is an administrator, returns a new token for the administrator.
 */
export async function accept(
  installation: Installation,
  options: { readonly voidTokens: boolean; readonly log: Logger },
): Promise<{ readonly findings: readonly Finding[]; readonly adminToken?: string }> {
  const { records, home, systems, database } = installation;
  const { seen, findings, silent } = await waiting(installation);
  if (silent.length > 0)
    throw new Error(`every system must answer before the restore can be accepted; no answer from ${silent.join('; ')}`);
  const id = seen.records.installation ?? (await home.owner());
  if (id === undefined)
    throw new Error(`${database} and ${home.where} do not belong to an installation yet: start the platform first`);
  const other = foreignTo(id, seen);
  if (other)
    throw new AnotherInstallation(`${other.where} belongs to installation ${other.owner}, and ${database} to ${id}`);
  if (findings.length === 0 && !options.voidTokens) return { findings };

  await records.claimInstallation(id);
  const newest = seen.systems.flatMap((system) => system.newest ?? []);
  const tick = Math.max(seen.records.tick, ...newest.map((one) => one.tick));
  const accepted = Math.max(seen.records.accepted, ...newest.map((one) => one.accepted));
  // Only keys that were found missing are retired: other homes of the installation may have more.
  const keys = findings.some(({ system }) => system === 'home') ? await home.keys() : seen.records.keys;
  await records.acceptRestore(
    { tick, accepted, numbers: numbersOf(seen), keys, voidTokens: options.voidTokens, findings },
    restoreEntry('restore.accepted', randomUUID(), {
      actor: 'operator',
      reason: findings.map(({ text }) => text).join(' '),
      detail: { findings, tick, numbers: numbersOf(seen), voidTokens: options.voidTokens, by: userInfo().username },
    }),
  );
  await home.claim(id);
  for (const system of systems)
    if ((await claimUnlessUnmarkable(system, id, options.log)) !== undefined) await records.kept(system.name, 0);
  const checkpoint = await records.checkpoint(true);
  if (checkpoint && !(await keepEverywhere(installation, checkpoint, true, options.log)))
    throw new Error('a system was changed while the restore was accepted: run "ocdl restore list"');
  const adminToken = options.voidTokens ? await issueAdminToken(installation) : undefined;
  return { findings, ...(adminToken !== undefined && { adminToken }) };
}

/** The newest release number of each type in the records or in the release store. */
function numbersOf({ records, numbers }: Seen): readonly { readonly type: string; readonly sequence: number }[] {
  const newest = new Map(records.numbers.map((one) => [one.type, one.newest]));
  for (const [type, sequence] of numbers ?? []) newest.set(type, Math.max(sequence, newest.get(type) ?? 0));
  return [...newest].filter(([, sequence]) => sequence > 0).map(([type, sequence]) => ({ type, sequence }));
}

async function issueAdminToken({ records }: Installation): Promise<string | undefined> {
  const name = (await records.users()).find(({ admin, disabled }) => admin && !disabled)?.user;
  if (name === undefined) return undefined;
  const { token, tokenId, sha256 } = newToken();
  await records.issueToken(
    { tokenId, sha256, kind: 'user', name, expiresAt: null, job: null },
    {
      ...restoreEntry('token.issued', tokenId, { actor: 'operator', reason: '', detail: { tokenId } }),
      subject: `user/${name}`,
    },
  );
  return token;
}

async function main(): Promise<void> {
  const [action, flag] = process.argv.slice(2);
  const config = workerConfig();
  const log = createLog('restore', 'fatal');
  const [stores, bus] = await Promise.all([openStores(config, log), openBus(config, log)]);
  const connection = Connection.lazy(config.temporal.connection);
  const installation = {
    ...stores,
    database: databaseOf(config.databaseUrl),
    home: markedHome(config.home),
    systems: [markedNamespace(connection, config.temporal), ...markedStores(config, { ...stores, bus })],
    signs: true,
  };
  const say = (...lines: readonly string[]): void => void process.stdout.write(`${lines.join('\n')}\n`);
  const shown = (findings: readonly Finding[]): string[] =>
    findings.map(({ system, kind, text }) => `  ${system.padEnd(9)} ${kind.padEnd(8)} ${text}`);
  if (action === 'accept') {
    const { findings, adminToken } = await accept(installation, { voidTokens: flag === '--void-tokens', log });
    if (findings.length > 0) say('Accepted; decisions and deliveries continue. Findings:', ...shown(findings));
    else say('Nothing to accept.');
    if (flag === '--void-tokens') say('All tokens of people and applications are revoked.');
    if (adminToken !== undefined) say(`New administrator token (shown only once): ${adminToken}`);
  } else {
    const { findings, silent } = await waiting(installation);
    if (silent.length > 0) say('No answer from:', ...silent.map((one) => `  ${one}`));
    if (findings.length === 0) say('All systems that answered agree.');
    else
      say(
        'Restored to an earlier state:',
        ...shown(findings),
        'To continue with the systems in their current state: ocdl restore accept',
      );
    if (findings.some(({ pauses }) => pauses)) process.exitCode = 1;
  }
  // Systems that did not answer still hold connections open.
  process.exit();
}

if (import.meta.filename === process.argv[1]) await run('restore', main);
