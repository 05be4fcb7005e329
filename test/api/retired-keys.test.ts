// Two APIs of one installation after a restore was accepted: the one whose signing key was retired reads its keys again, or says what to do.
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { registeredSigner } from '../../activities/signing.ts';
import { createApp } from '../../api/app.ts';
import { auditEntry } from '../../api/audit-entry.ts';
import { submission, tag } from './commanding.ts';
import { populatePassage } from './passage.ts';
import { json, openWorld, type World } from './world.ts';

const state: { world?: World } = {};
function world(): World {
  if (!state.world) throw new Error('the world is not open yet');
  return state.world;
}
beforeAll(async () => {
  state.world = await openWorld();
  await populatePassage(state.world);
  await state.world.deps.records.claimInstallation('00000000-0000-4000-8000-000000000000');
});
afterAll(() => state.world?.close());

/** Another API of the installation, on a home with a copy of the first one's keys. */
async function anotherApi(name: string) {
  const { deps, folder, tokens } = world();
  const keys = join(folder, name);
  await copyKeys(join(folder, 'keys'), keys);
  const signer = await registeredSigner(keys, deps.records);
  const { app } = createApp({ ...deps, signer });
  const give = (): Promise<Response> =>
    Promise.resolve(
      app.request(`http://localhost${submission}/commands`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tokens['mia'] ?? ''}`, 'content-type': 'application/json' },
        body: JSON.stringify(tag),
      }),
    );
  return { keys, signer, give };
}

async function copyKeys(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const file of await readdir(from)) await copyFile(join(from, file), join(to, file));
}

/** Accepts a restore after which only these keys count. */
async function acceptKeys(keys: readonly string[]): Promise<void> {
  const { records } = world().deps;
  const entry = {
    key: `accepted/${keys.join()}`,
    kind: 'restore.accepted',
    actor: 'operator',
    subject: 'installation',
  };
  const accepted = { tick: 1, accepted: 0, numbers: [], keys, voidTokens: false, findings: [] };
  await records.acceptRestore(accepted, auditEntry(entry));
}

test('an API whose home was emptied makes a new key by itself', async () => {
  const { keys, signer, give } = await anotherApi('emptied');
  const before = signer.newest;
  expect((await give()).status).toBe(202);
  await rm(keys, { recursive: true });
  await acceptKeys([]);
  // Several commands at once.
  expect((await Promise.all([give(), give()])).map(({ status }) => status)).toEqual([202, 202]);
  expect(signer.newest).not.toBe(before);
  expect(await readdir(keys)).toEqual([`${signer.newest}.json`]);
});

test('an API whose only key was retired says what to do, and goes on once the keys are copied', async () => {
  const other = await anotherApi('other');
  const { deps, folder } = world();
  const accepting = await registeredSigner(join(folder, 'accepting'), deps.records);
  await acceptKeys([accepting.newest]);
  for (let time = 0; time < 2; time += 1) {
    const response = await other.give();
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '60']);
    const { type, detail } = await json(response);
    expect(type).toBe('urn:ocdl:problem:signing-key-retired');
    expect(detail).toMatch(/retired by "ocdl restore accept" on another home.*copies the folder keys/);
  }
  await copyKeys(join(folder, 'accepting'), other.keys);
  expect((await other.give()).status).toBe(202);
  expect(other.signer.newest).toBe(accepting.newest);
});
