// The token with which a model service's pod fetches its files: it opens exactly these, for an hour, and only the newest counts.
import { issueServiceToken, revokeServiceTokens } from '../../activities/jobs.ts';
import type { Records } from '../../activities/records.ts';
import { digestOfToken } from '../../activities/tokens.ts';
import { artifactOf } from '../contracts/cluster-job-api.ts';

type Issued = Parameters<Records['issueToken']>[0];

it('opens exactly the files of the service, and is revoked by the next start and at the end', async () => {
  const issued: Issued[] = [];
  const revoked: string[] = [];
  const audit: string[] = [];
  const records = {
    tokens: async () =>
      issued.map(({ tokenId }) => ({ tokenId, revokedAt: revoked.includes(tokenId) ? '2026-01-01T00:00:00Z' : null })),
    issueToken: async (given: Issued, entry: { kind: string; key: string }) => {
      issued.push(given);
      audit.push(`${entry.kind} ${entry.key}`);
    },
    revokeToken: async (tokenId: string, entry: { kind: string; key: string }) => {
      revoked.push(tokenId);
      audit.push(`${entry.kind} ${entry.key}`);
    },
  } as unknown as Records;
  const files = ['model.onnx', 'model.json'].map((name) => ({ ...artifactOf(name, Buffer.from(name)), name }));
  const began = Date.now();
  const token = await issueServiceToken(records, { name: 'function-shop-1', files });
  const [first] = issued;
  expect(first).toMatchObject({
    ...{ kind: 'job', name: 'function-shop-1', sha256: digestOfToken(token) },
    job: { job: 'function-shop-1', inputs: files, outputs: [] },
  });
  const lifetime = Date.parse(first?.expiresAt ?? '') - began;
  expect(lifetime).toBeGreaterThanOrEqual(3_600_000);
  expect(lifetime).toBeLessThan(3_660_000);
  await issueServiceToken(records, { name: 'function-shop-1', files });
  expect(revoked).toEqual([first?.tokenId]);
  await revokeServiceTokens(records, 'function-shop-1');
  await revokeServiceTokens(records, 'function-shop-1');
  expect(revoked).toEqual(issued.map(({ tokenId }) => tokenId));
  expect(new Set(audit).size).toBe(4);
});
