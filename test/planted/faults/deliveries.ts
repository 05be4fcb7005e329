// Planted faults in the activities of releases and deliveries: what is published, and what is received.
import type { PlantedFault } from '../fault.ts';

const at = (name: string) => [{ file: `test/activities/${name}.test.ts` }];

export const deliveryFaults: readonly PlantedFault[] = [
  // receiveRelease has three checks of the approval; each alone must be noticed.
  {
    name: 'delivery-of-other-bytes-than-approved',
    file: 'activities/delivery.ts',
    from: 'version.digest !== row.digest ||',
    to: '',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-without-approvers',
    file: 'activities/delivery.ts',
    from: 'row.approvedBy.length === 0 ||',
    to: '',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-without-an-approval-of-the-version',
    file: 'activities/delivery.ts',
    from: "!version.decisions.some(({ name }) => name === 'approve')",
    to: 'version.decisions.length === 0',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-before-it-is-announced',
    file: 'activities/delivery.ts',
    from: "if (row.state !== 'announced') throw",
    to: 'if (row.state === undefined) throw',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-of-what-was-withdrawn',
    file: 'activities/delivery.ts',
    from: "if (await records.fenced(release)) throw failure('Fenced', `release ${release} was withdrawn`);",
    to: '',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-of-changed-bytes',
    file: 'activities/delivery.ts',
    from: 'if (stored !== sha256)',
    to: 'if (stored === undefined)',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-by-another-delivery',
    file: 'activities/delivery.ts',
    from: "parsed?.workflow === 'delivery' && parsed.of['release'] !== release",
    to: "parsed?.workflow === 'delivery' && parsed.of['release'] === ''",
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-of-a-type-nobody-takes',
    file: 'activities/delivery.ts',
    from: 'if (!app.types.includes(type))',
    to: 'if (app.types.length === 0)',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-without-the-grant',
    file: 'activities/delivery.ts',
    from: 'if (!(await records.mayConsume(app.project, type)))',
    to: 'if (!(await records.mayConsume(app.project, type)) && row.project === app.project)',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-with-gates-that-are-not',
    file: 'activities/delivery.ts',
    from: 'if (!Object.hasOwn(gates, gate))',
    to: 'if (!(gate in gates))',
    noticedBy: at('delivery'),
  },
  {
    name: 'delivery-ends-when-a-gate-is-added',
    file: 'activities/delivery.ts',
    from: "if (result.why === 'gates') return",
    to: "if (result.why === 'gates' && release === '') return",
    noticedBy: at('delivery'),
  },
  {
    name: 'main-branch-is-written-once',
    file: 'activities/delivery.ts',
    from: 'if (isDeepStrictEqual(now, live)) return committed;',
    to: 'if (isDeepStrictEqual(now, now)) return committed;',
    noticedBy: at('delivery'),
  },
  {
    name: 'revert-to-broken-bytes',
    file: 'activities/delivery.ts',
    from: 'const doubt = row && (await beatingReason(() => bytesAreWhole(row)));',
    to: 'const doubt = row && (await beatingReason(async () => void row));',
    noticedBy: at('delivery'),
  },
  {
    name: 'release-of-what-was-withdrawn',
    file: 'activities/release.ts',
    from: 'if (fenced)',
    to: "if (fenced && release === '')",
    noticedBy: at('release'),
  },
  {
    name: 'release-of-whatever-bytes',
    file: 'activities/release.ts',
    from: 'const expect = { sha256: file.sha256, bytes: file.bytes };',
    to: 'const expect = { bytes: file.bytes };',
    noticedBy: at('release'),
  },
  {
    name: 'withdrawal-of-what-was-never-announced',
    file: 'activities/release.ts',
    from: "state !== 'announced' || !(await records.fenced(release))",
    to: '!(await records.fenced(release))',
    noticedBy: at('release'),
  },
  {
    name: 'withdrawal-without-a-decision',
    file: 'activities/release.ts',
    from: "decision?.status !== 'pending'",
    to: 'decision === undefined',
    noticedBy: at('release'),
  },
];
