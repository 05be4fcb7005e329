// A command id identifies one command of one person: a repeat is the same command, anything else is refused.
import { beforeEach, describe, expect, test } from '@jest/globals';
import { auditEntry } from '../../api/audit-entry.ts';
import { issueToken } from '../../api/tokens.ts';
import { approve, commandingIn, forgetSent, tag } from './commanding.ts';
import { decides } from './passage.ts';
import { json, PROJECT } from './world.ts';
import { worldOfThisFile } from './world-of.ts';

const { world } = worldOfThisFile();
beforeEach(() => forgetSent(world()));
const { give, sent, last, another } = commandingIn(world);

/** Max, a manager beside mia: his token. */
async function anotherManager(): Promise<string> {
  const { records } = world().deps;
  const entry = (key: string) =>
    auditEntry({ key: `test/${key}/max`, project: PROJECT, kind: 'test', actor: 'test', subject: 'test' });
  await records.createUser('max', false, entry('user'));
  await records.setMember(PROJECT, { user: 'max', roles: ['manager'] }, entry('member'));
  return (await issueToken(records, { kind: 'user', name: 'max', actor: 'test' })).token;
}

describe('the same command id', () => {
  test('repeated is the same command, even after its end: recorded once, signalled while it is open', async () => {
    const path = await another();
    const command = { ...tag, commandId: 'tag-twice' };
    expect((await give('mia', command, {}, path)).status).toBe(202);
    expect((await give('mia', command, {}, path)).status).toBe(202);
    expect(sent()).toEqual(['tag-twice', 'tag-twice']);
    // Two signals of one command are the same one.
    expect(world().deps.workflows.sent[1]?.workflowId).toBe(world().deps.workflows.sent[0]?.workflowId);
    await decides(world())(last().workflowId, last().command);
    world().deps.workflows.sent.length = 0;
    const again = await give('mia', command, {}, path);
    expect([again.status, await json(again)]).toMatchObject([200, { outcome: { status: 'done' } }]);
    expect(sent()).toEqual([]);
  });

  test.each<[string, string, object]>([
    ['from another person', 'max', {}],
    ['with another reason', 'mia', { args: { tags: ['other'] } }],
    ['at another revision', 'mia', { revision: 4 }],
    ['with another command', 'mia', { ...approve }],
  ])('%s: 409 repeated, nothing sent, and the first command is unchanged', async (_, who, change) => {
    const path = await another();
    const commandId = 'one-id-for-two';
    const caller = who === 'max' ? await anotherManager() : who;
    expect((await give('mia', { ...tag, commandId }, {}, path)).status).toBe(202);
    const { workflowId } = last();
    world().deps.workflows.sent.length = 0;
    const response = await give(caller, { ...tag, commandId, ...change }, {}, path);
    expect([response.status, await json(response)]).toMatchObject([
      409,
      { type: 'urn:ocdl:problem:command-repeated', commandId, outcome: { status: 'refused', reason: 'repeated' } },
    ]);
    expect(sent()).toEqual([]);
    const row = await world().deps.records.command(workflowId, commandId);
    expect(row).toEqual({ commandId, actor: 'mia', isOpen: true, outcome: { status: 'accepted' } });
  });

  test('of two people concurrently: one is accepted, the other refused', async () => {
    const path = await another();
    const max = await anotherManager();
    const statuses = await Promise.all(
      ['mia', max, 'mia', max].map(
        async (who) => (await give(who, { ...tag, commandId: 'a-race-of-two' }, {}, path)).status,
      ),
    );
    expect([...statuses].sort()).toEqual([202, 202, 409, 409]);
    expect(new Set(world().deps.workflows.sent.map(({ command }) => command.body.actor)).size).toBe(1);
  });

  test('on two versions makes two commands', async () => {
    const [one, two] = [await another(), await another()];
    expect((await give('mia', { ...tag, commandId: 'same-in-both' }, {}, one)).status).toBe(202);
    expect((await give('mia', { ...tag, commandId: 'same-in-both' }, {}, two)).status).toBe(202);
  });
});
