// What every Records must do, as a list of cases, and the function that registers them as tests.
import type { Records } from '../../activities/records.ts';
import { dataSetCases } from './records/data-sets.ts';
import { byteCases } from './records/bytes.ts';
import { computeCases } from './records/compute.ts';
import { approvalCases } from './records/approvals.ts';
import { commandCases } from './records/commands.ts';
import { decisionCases } from './records/decisions.ts';
import { auditCases as decisionAuditCases, effectCases } from './records/effects.ts';
import { importCases } from './records/imports.ts';
import { installationCases } from './records/installation.ts';
import { auditCases } from './records/audit.ts';
import { jobCases } from './records/jobs.ts';
import { listCases } from './records/lists.ts';
import { passageCases } from './records/passage.ts';
import { peopleCases } from './records/people.ts';
import { labelCases, pointerCases } from './records/pointers.ts';
import { releaseCases } from './records/releases.ts';
import type { RecordsCase } from './records/scene.ts';
import { typeCases } from './records/model-types.ts';
import { createScene, linkAll } from './records/scene.ts';
import { startCases } from './records/starts.ts';

export { createScene, linkAll };

/** Each case makes its own project and application, so that all may run on one database, also at once. */
export const recordsCases: readonly RecordsCase[] = [
  ...peopleCases,
  ...typeCases,
  ...dataSetCases,
  ...passageCases,
  ...releaseCases,
  ...importCases,
  ...byteCases,
  ...jobCases,
  ...computeCases,
  ...[
    ...startCases,
    ...commandCases,
    ...decisionCases,
    ...effectCases,
    ...approvalCases,
    ...pointerCases,
    ...labelCases,
    ...decisionAuditCases,
    ...auditCases,
  ],
  ...listCases,
  ...installationCases,
];

/** Registers the contract as jest tests over one Records that `open` makes. */
export function recordsContract(name: string, open: () => Promise<Records>): void {
  describe(`${name} fulfils the contract of Records`, () => {
    const opened: { records?: Records } = {};
    beforeAll(async () => {
      opened.records = await open();
    });
    afterAll(async () => opened.records?.close());

    it.each(recordsCases)('$name', async ({ run }) => {
      if (!opened.records) throw new Error(`${name} could not be opened: see the failure of beforeAll`);
      await run(opened.records, createScene());
    });
  });
}
