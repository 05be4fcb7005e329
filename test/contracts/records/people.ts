// Cases on Records: users, tokens, projects, members.
import assert from 'node:assert/strict';
import type { JobGrant } from '../../../activities/records.ts';
import { defaultPolicy } from '../../../workflows/domain/model.ts';
import type { ArtifactUri, Digest, StorePath } from '../../../workflows/domain/names.ts';
import type { RecordsCase, Scene } from './scene.ts';
import { digestOf, fails, setApplication, setProject } from './scene.ts';

const token = (scene: Scene, id: string) => ({
  tokenId: `${scene.user}-${id}`,
  sha256: digestOf(`${scene.user}-${id}`),
  kind: 'user' as const,
  name: scene.user,
  expiresAt: null,
  job: null,
});

export const peopleCases: readonly RecordsCase[] = [
  {
    name: 'creating the same user twice is harmless; with a different admin flag it is a conflict',
    async run(records, { user, entry }) {
      await records.createUser(user, true, entry());
      await records.createUser(user, true, entry());
      await fails(records.createUser(user, false, entry()), 'Conflict', user);
      const same = (await records.users()).filter((found) => found.user === user);
      assert.deepEqual(same, [{ user, admin: true, disabled: false }]);
      assert.deepEqual(await records.user(user), same[0]);
      assert.equal(await records.user('nobody-there'), undefined);
    },
  },
  {
    name: 'a token is accepted for its holder until it is revoked',
    async run(records, scene) {
      const { user, entry } = scene;
      await records.createUser(user, true, entry());
      const issued = token(scene, 'one');
      await records.issueToken(issued, entry());
      const holder = { tokenId: issued.tokenId, name: user, kind: 'user', admin: true, job: null };
      assert.deepEqual(await records.principal(issued.sha256), holder);
      assert.equal(await records.principal(digestOf('another')), undefined);
      const revoked = entry();
      await records.revokeToken(issued.tokenId, revoked);
      assert.equal(await records.principal(issued.sha256), undefined);
      const [first] = await records.tokens(user);
      await records.revokeToken(issued.tokenId, revoked);
      await records.revokeToken(issued.tokenId, entry());
      const [again] = await records.tokens(user);
      assert.ok(first?.revokedAt);
      assert.deepEqual(again, first);
      await fails(records.revokeToken('none', entry()), 'NotFound', 'none');
    },
  },
  {
    name: 'an expired token is refused, one that expires later is accepted',
    async run(records, scene) {
      const { user, entry } = scene;
      await records.createUser(user, false, entry());
      const past = { ...token(scene, 'past'), expiresAt: new Date(Date.now() - 1000).toISOString() };
      const future = { ...token(scene, 'future'), expiresAt: new Date(Date.now() + 600_000).toISOString() };
      await records.issueToken(past, entry());
      await records.issueToken(future, entry());
      assert.equal(await records.principal(past.sha256), undefined);
      assert.equal((await records.principal(future.sha256))?.tokenId, future.tokenId);
      const listed = await records.tokens(user);
      assert.deepEqual(listed.map(({ expiresAt }) => expiresAt).sort(), [past.expiresAt, future.expiresAt].sort());
    },
  },
  {
    name: 'a job token carries its grant; a token belongs to one existing holder',
    async run(records, scene) {
      const { user, entry, application } = scene;
      const job: JobGrant = {
        job: 'train-1',
        inputs: [{ name: 'a.csv', uri: 'file:a' as ArtifactUri, sha256: digestOf('a'), bytes: 1 }],
        outputs: [{ name: 'model.onnx', path: 'private/p/sam/model.onnx' as StorePath, limit: 5 }],
      };
      const ofJob = { ...token(scene, 'job'), kind: 'job' as const, name: 'train-1', job };
      await records.issueToken(ofJob, entry());
      assert.deepEqual((await records.principal(ofJob.sha256))?.job, job);
      await fails(records.issueToken(token(scene, 'early'), entry()), 'NotFound', user);
      await setApplication(records, scene);
      await records.createUser(application, true, entry());
      const ofApplication = { ...token(scene, 'app'), kind: 'application' as const, name: application };
      await records.issueToken(ofApplication, entry());
      // The administrator with the same name is a different person.
      assert.equal((await records.principal(ofApplication.sha256))?.admin, false);
      await records.issueToken(ofApplication, entry());
      await fails(
        records.issueToken({ ...ofApplication, sha256: digestOf(`${user} other`) }, entry()),
        'Conflict',
        ofApplication.tokenId,
      );
    },
  },
  {
    name: 'a token gives its holder’s role in a project',
    async run(records, scene) {
      const { user, entry, application } = scene;
      const types = [`${scene.type}-b`, `${scene.type}-a`];
      const elsewhere = `${scene.project}-2`;
      await records.createProject({ project: scene.project, types, policy: defaultPolicy }, entry());
      await records.createProject({ project: elsewhere, types: [], policy: defaultPolicy }, entry());
      await records.createUser(user, false, entry());
      await records.createUser(application, false, entry());
      await records.setMember(scene.project, { user, roles: ['manager', 'engineer'] }, entry());
      const issued = token(scene, 'one');
      await records.issueToken(issued, entry());
      const found = await records.principalIn(issued.sha256, scene.project);
      assert.deepEqual(found?.principal, await records.principal(issued.sha256));
      assert.deepEqual(found?.standing, {
        project: await records.project(scene.project),
        roles: ['manager', 'engineer'],
      });
      assert.deepEqual((await records.principalIn(issued.sha256, elsewhere))?.standing?.roles, []);
      assert.equal((await records.principalIn(issued.sha256, 'nowhere'))?.standing, undefined);
      assert.equal(await records.principalIn(digestOf('another'), scene.project), undefined);
      await records.createApplication(
        { application, project: scene.project, owner: user, types, gates: [], repository: `${scene.project}/r` },
        entry(),
      );
      const rolesAt = async (sha256: Digest, project: string) =>
        (await records.principalIn(sha256, project))?.standing?.roles;
      // The user with the application's name is a different principal.
      const named = { ...token(scene, 'named'), name: application };
      const ofApplication = { ...token(scene, 'app'), kind: 'application' as const, name: application };
      for (const each of [named, ofApplication]) await records.issueToken(each, entry());
      assert.deepEqual(await rolesAt(named.sha256, scene.project), []);
      assert.deepEqual(await rolesAt(ofApplication.sha256, scene.project), ['application']);
      assert.deepEqual(await rolesAt(ofApplication.sha256, elsewhere), []);
      await records.revokeToken(issued.tokenId, entry());
      assert.equal(await records.principalIn(issued.sha256, scene.project), undefined);
    },
  },
  {
    name: 'a disabled user’s tokens are refused and the user is shown as disabled, until enabled again',
    async run(records, scene) {
      const { user, project, entry } = scene;
      await setProject(records, scene);
      await records.createUser(user, false, entry());
      await records.setMember(project, { user, roles: ['manager'] }, entry());
      const issued = token(scene, 'one');
      await records.issueToken(issued, entry());
      const early = entry();
      await records.changeUser(user, { disabled: true }, early);
      assert.equal(await records.principal(issued.sha256), undefined);
      assert.equal(await records.principalIn(issued.sha256, project), undefined);
      assert.deepEqual(await records.members(project), [{ user, roles: ['manager'], disabled: true }]);
      assert.deepEqual(await records.user(user), { user, admin: false, disabled: true });
      await fails(records.issueToken(token(scene, 'two'), entry()), 'Conflict', `${user} is disabled`);
      await records.changeUser(user, { disabled: false }, entry());
      assert.equal((await records.principal(issued.sha256))?.name, user);
      await records.changeUser(user, { disabled: true }, early);
      assert.equal((await records.user(user))?.disabled, false);
      await fails(records.changeUser(`${user}-2`, { disabled: true }, entry()), 'NotFound', user);
    },
  },
  {
    name: 'a user becomes an administrator and stops being one; omitted fields stay unchanged',
    async run(records, scene) {
      const { user, entry } = scene;
      // Another administrator remains.
      await records.createUser(`${user}-2`, true, entry());
      await records.createUser(user, false, entry());
      await records.issueToken(token(scene, 'one'), entry());
      await records.changeUser(user, { admin: true }, entry());
      assert.equal((await records.principal(token(scene, 'one').sha256))?.admin, true);
      await records.changeUser(user, { disabled: true }, entry());
      await records.changeUser(user, { admin: false }, entry());
      assert.deepEqual(await records.user(user), { user, admin: false, disabled: true });
    },
  },
  {
    name: 'a token is found by its id, and valid job tokens are listed by page',
    async run(records, scene) {
      const { user, entry } = scene;
      await records.createUser(user, false, entry());
      const own = token(scene, 'own');
      await records.issueToken(own, entry());
      const found = await records.token(own.tokenId);
      assert.deepEqual([found?.kind, found?.name, found?.revokedAt], ['user', user, null]);
      assert.equal(await records.token('none'), undefined);
      const past = new Date(Date.now() - 1000).toISOString();
      for (const id of ['job-a', 'job-b', 'job-c', 'job-d']) {
        const job = { job: id, inputs: [], outputs: [] };
        const expiresAt = id === 'job-c' ? past : null;
        await records.issueToken({ ...token(scene, id), kind: 'job', name: `${user}-${id}`, expiresAt, job }, entry());
      }
      await records.revokeToken(token(scene, 'job-b').tokenId, entry());
      const names: string[] = [];
      for (let after: string | undefined = user; after !== undefined;) {
        const page = await records.jobTokens({ after, limit: 1 });
        names.push(...page.rows.map(({ name }) => name));
        after = page.next;
      }
      const ours = names.filter((name) => name.startsWith(user));
      assert.deepEqual(ours, [`${user}-job-a`, `${user}-job-d`]);
    },
  },
  {
    name: 'a project and its types are created once; a refused project leaves nothing behind',
    async run(records, scene) {
      const { project, type, entry } = scene;
      const policy = { ...defaultPolicy, quorum: 2, thresholds: { average_precision: 0.7 } };
      const types = [type, `${type}-b`, `${type}-a`];
      const first = entry();
      await records.createProject({ project, types, policy }, first);
      await records.createProject({ project, types, policy }, first);
      assert.deepEqual(await records.project(project), { project, types, policy });
      await fails(records.createProject({ project, types: [], policy }, entry()), 'Conflict', project);
      const second = { project: `${project}-2`, types: [`${type}-new`, type], policy };
      await fails(records.createProject(second, entry()), 'Conflict', `${type} belongs to project ${project}`);
      assert.equal(await records.project(second.project), undefined);
      await records.createProject({ ...second, types: [`${type}-new`] }, entry());
      assert.ok((await records.projects(null)).filter((found) => found.project.startsWith(project)).length === 2);
    },
  },
  {
    name: 'roles are replaced and removed, and a late repeated write changes nothing',
    async run(records, scene) {
      const { project, user, entry } = scene;
      await setProject(records, scene);
      const early = entry();
      await fails(records.setMember(project, { user, roles: ['manager'] }, entry()), 'NotFound', user);
      await records.createUser(user, false, entry());
      await records.setMember(project, { user, roles: ['manager', 'scientist'] }, early);
      assert.deepEqual(await records.members(project), [{ user, roles: ['manager', 'scientist'], disabled: false }]);
      assert.deepEqual(
        (await records.projects(user)).map((found) => found.project),
        [project],
      );
      await records.setMember(project, { user, roles: ['engineer'] }, entry());
      assert.deepEqual(await records.members(project), [{ user, roles: ['engineer'], disabled: false }]);
      await records.setMember(project, { user, roles: [] }, entry());
      await records.setMember(project, { user, roles: ['manager', 'scientist'] }, early);
      assert.deepEqual(await records.members(project), []);
      assert.deepEqual(await records.projects(user), []);
      await fails(records.setMember('nowhere', { user, roles: [] }, entry()), 'NotFound', 'nowhere');
    },
  },
  {
    name: 'a policy is replaced, once per key',
    async run(records, scene) {
      const { project, entry } = scene;
      await setProject(records, scene);
      const second = { ...defaultPolicy, version: 2, quorum: 2 };
      const key = entry();
      await records.setPolicy(project, second, key);
      const third = { ...second, version: 3, quorum: 3 };
      await records.setPolicy(project, third, entry());
      await records.setPolicy(project, second, key);
      assert.deepEqual((await records.project(project))?.policy, third);
      await fails(records.setPolicy('nowhere', second, entry()), 'NotFound', 'nowhere');
    },
  },
  {
    name: 'a version of a policy keeps its content: of concurrent changes one comes first',
    async run(records, scene) {
      const { project, entry } = scene;
      await setProject(records, scene);
      const policies = [3, 1].map((quorum) => ({ ...defaultPolicy, version: 2, quorum }));
      const set = await Promise.allSettled(policies.map((one) => records.setPolicy(project, one, entry())));
      const inForce = policies.filter((_, i) => set[i]?.status === 'fulfilled');
      assert.deepEqual([(await records.project(project))?.policy], inForce);
      await fails(records.setPolicy(project, { ...defaultPolicy, version: 2 }, entry()), 'Conflict', 'policy 2');
      await fails(records.setPolicy(project, { ...defaultPolicy, version: 1 }, entry()), 'Conflict', 'policy 2');
      assert.deepEqual([(await records.project(project))?.policy], inForce);
    },
  },
];
