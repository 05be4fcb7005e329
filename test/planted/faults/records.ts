// Planted faults in Records on PostgreSQL: where decisions are made, each in one transaction.
import type { PlantedFault } from '../fault.ts';

const inAdapter = (name: string): string => `activities/adapters/postgres/${name}.ts`;
/** A case of the contract of Records. */
const contract = (name: string) => [
  { file: 'test/adapters/postgres.test.ts', test: `PostgreSQL keeps the contract of Records ${name}` },
];

const DELIVERIES = 'the next delivery is the oldest announced release after where the application began';
const ENDS = 'a delivery ends with its reason: a failed gate, what it was told, gates that were not run';
const GATES = 'a release goes live only when every gate that is configured has passed it';
const LABELS = 'labels are decided by one transaction, then committed, one command after the other';
const EVIDENCE = 'an approval rests on an evaluation of these bytes that a manager asked for after the submission';
const COMMANDS = 'a command is recorded once; its id stands for nothing else, and for nobody else';
const STARTS = 'a run is admitted by its recorded id, type and input, and by these alone';
const CLOSED = 'once a start is closed only the run that closed it may tidy up, and open commands are refused';

export const recordsFaults: readonly PlantedFault[] = [
  // The `announced` filter: of the next delivery, of where an application begins, of the lists, of a release that is complete.
  {
    name: 'announced-or-not-it-is-delivered',
    file: inAdapter('pointer-decisions'),
    from: 'where r.type = ${type} and r.announced\n      and r.sequence > greatest(',
    to: 'where r.type = ${type}\n      and r.sequence > greatest(',
    noticedBy: contract(DELIVERIES),
  },
  {
    name: 'announced-or-not-an-application-begins-with-it',
    file: inAdapter('pointer-decisions'),
    from: 'where r.type = ${type} and r.announced\n        and not exists',
    to: 'where r.type = ${type}\n        and not exists',
    noticedBy: contract(DELIVERIES),
  },
  {
    name: 'announced-or-not-it-is-listed',
    file: inAdapter('releases'),
    from: "if (announced) query = query.where('one.announced', '=', true);",
    to: 'void announced;',
    noticedBy: contract('releases are listed by number, and on demand those alone that are announced'),
  },
  {
    name: 'announced-or-not-its-decision-is-complete',
    file: inAdapter('version-decisions'),
    from: "if (row?.state !== 'announced')\n      throw",
    to: 'if (row === undefined)\n      throw',
    noticedBy: contract('a release is pending until it is announced, and nothing else is decided meanwhile'),
  },
  // What the repeat guard of recordLabels was for: a label that comes twice is decided and completed once.
  {
    name: 'labels-are-decided-again',
    file: inAdapter('label-decisions'),
    from: 'if (!taken.isOpen) return standingOf(now);',
    to: 'if (!taken.isOpen && now.pending === null) return standingOf(now);',
    noticedBy: contract(LABELS),
  },
  {
    name: 'labels-are-completed-again',
    file: inAdapter('label-decisions'),
    from: 'if (now.pending?.commandId !== commandId) return standingOf(now);\n        const found = await mustFind(trx, workflowId, commandId);\n        const scan',
    to: 'const found = await mustFind(trx, workflowId, commandId);\n        const scan',
    noticedBy: contract(LABELS),
  },
  // Details of deliveries: why one ended, what its gates found, in its row and in the audit.
  {
    name: 'delivery-detail-of-a-failed-gate-lost',
    file: inAdapter('pointer-decisions'),
    from: '? `gate ${failed.gate}: ${failed.detail}`',
    to: '? (ended ?? failed.gate)',
    noticedBy: contract(ENDS),
  },
  {
    name: 'delivery-detail-not-in-the-audit',
    file: inAdapter('pointer-decisions'),
    from: 'reason: row.detail,',
    to: "reason: '',",
    noticedBy: contract(ENDS),
  },
  {
    name: 'delivery-gates-not-in-the-audit',
    file: inAdapter('pointer-decisions'),
    from: 'detail: { release: row.release, gates: row.gates },',
    to: 'detail: { release: row.release },',
    noticedBy: contract(ENDS),
  },
  {
    name: 'delivery-attempts-are-one-in-the-audit',
    file: inAdapter('pointer-decisions'),
    from: 'key: `${by}/${row.state}/${results}`,',
    to: 'key: `${by}/${row.state}/${results > -1 ? 0 : 1}`,',
    noticedBy: contract(ENDS),
  },
  {
    name: 'pointer-moves-past-open-gates',
    file: inAdapter('live'),
    from: 'if (why === null && !revert && (await hasOpenGates(trx, application, release)))',
    to: "if (why === null && !revert && (await hasOpenGates(trx, application, release)) && application === '')",
    noticedBy: contract(GATES),
  },
  {
    name: 'oldest-result-of-a-gate-counts',
    file: inAdapter('live'),
    from: 'order by g.ordinal desc limit 1), false)',
    to: 'order by g.ordinal limit 1), false)',
    noticedBy: contract(GATES),
  },
  {
    name: 'pointer-moves-from-any-generation',
    file: inAdapter('live'),
    from: 'if (pointer.generation !== move.generation) return',
    to: 'if (pointer.generation < move.generation) return',
    noticedBy: contract('the live pointer moves by compare-and-set, with its deliveries and its audit'),
  },
  {
    name: 'pointer-moves-to-an-older-version',
    file: inAdapter('live'),
    from: '!(await isOlderVersion(trx, release, pointer.release)))',
    to: "!(await isOlderVersion(trx, release, '')))",
    noticedBy: contract('an older version of a model never goes live over a newer one but by a revert'),
  },
  {
    name: 'pointer-key-stands-for-any-move',
    file: inAdapter('live'),
    from: 'if (first.application !== application || first.type !== type || first.release !== release)',
    to: 'if (first.application !== application || first.type !== type)',
    noticedBy: contract('a key gets its first answer, also after later moves'),
  },
  {
    name: 'fence-over-what-is-live',
    file: inAdapter('releases'),
    from: 'if (pointers.length > 0) return { live',
    to: 'if (pointers.length > 1) return { live',
    noticedBy: contract('what is live somewhere is not let go, and what is let go never goes live'),
  },
  {
    name: 'failed-release-is-not-fenced',
    file: inAdapter('version-decisions'),
    from: 'await fence(trx, [release], commandId);',
    to: 'void fence;',
    noticedBy: contract('a release that fails is fenced, unless it got out, and the version is as it was'),
  },
  {
    name: 'closed-versions-take-commands',
    file: inAdapter('judging'),
    from: "if (now.closed) return { refused: 'closed', message: closedMessage(now.version) };",
    to: 'void closedMessage;',
    noticedBy: contract('until when a rejection can be undone is fixed with it'),
  },
  {
    name: 'undo-has-no-deadline',
    file: inAdapter('judging'),
    from: 'if (Date.parse(now.undoUntil) <= Date.parse(givenAt))',
    to: 'if (Date.parse(now.undoUntil) <= 0)',
    noticedBy: contract('until when a rejection can be undone is fixed with it'),
  },
  {
    name: 'approval-without-evidence',
    file: inAdapter('version-decisions'),
    from: 'return problems.includes(undefined) ? undefined : problems[0];',
    to: 'return problems.length > 0 ? undefined : problems[0];',
    noticedBy: contract(EVIDENCE),
  },
  {
    name: 'evidence-on-any-data-set',
    file: inAdapter('evidence'),
    from: "testSetBy: set?.kind === 'test' ? set.registeredBy : null,",
    to: 'testSetBy: set?.registeredBy ?? null,',
    noticedBy: contract(EVIDENCE),
  },
  {
    name: 'evidence-from-outside-of-staging',
    file: inAdapter('evidence'),
    from: "row.state === 'done' && inStaging && submission",
    to: "row.state === 'done' && submission",
    noticedBy: contract(EVIDENCE),
  },
  {
    name: 'evaluation-ends-twice',
    file: inAdapter('evidence'),
    from: "if (known && known.row.state !== 'running') return known.row;",
    to: "if (known && known.row.state === 'done') return known.row;",
    noticedBy: contract('the first end of an evaluation stands, and it is evidence by who asked and when'),
  },
  {
    name: 'disabled-people-decide',
    file: inAdapter('standings'),
    from: ".where('user.disabled', '=', false)",
    to: '',
    noticedBy: contract('a person who is no manager any more decides nothing, also when both come at once'),
  },
  {
    name: 'command-id-of-another-person',
    file: inAdapter('command-records'),
    from: 'row.mark !== markOf(body) || row.actor !== body.actor',
    to: 'row.mark !== markOf({ ...body, actor: row.actor })',
    noticedBy: contract(COMMANDS),
  },
  {
    name: 'command-id-with-another-report',
    file: inAdapter('commands'),
    from: 'canonicalize({ name, args, actor, revision, digest, report })',
    to: 'canonicalize({ name, args, actor, revision, digest })',
    noticedBy: contract(COMMANDS),
  },
  {
    name: 'command-without-a-signature',
    file: inAdapter('commands'),
    from: 'if (body.workflowId !== workflowId || !(await isSigned(trx, given)))',
    to: 'if (body.workflowId !== workflowId)',
    noticedBy: contract('a command without a signature of a registered key is not recorded'),
  },
  {
    name: 'command-is-decided-again',
    file: inAdapter('version-decisions'),
    from: 'if (!taken.isOpen) return shownStanding(now, letsGo(taken.body.name) ? await consumersOf(trx, now) : []);',
    to: '',
    noticedBy: contract('a command is decided once: the same again returns how it stands'),
  },
  {
    name: 'commands-stay-open-after-the-end',
    file: inAdapter('start-records'),
    from: 'await refuseOpen(trx, workflowId, endedMessage(workflowId));',
    to: 'void refuseOpen;',
    noticedBy: contract(CLOSED),
  },
  {
    name: 'start-of-another-type',
    file: inAdapter('start-records'),
    from: "if (row?.type !== type) return 'unknown';",
    to: "if (row === undefined) return 'unknown';",
    noticedBy: contract(STARTS),
  },
  {
    name: 'start-with-another-input',
    file: inAdapter('start-records'),
    from: "if (!isSame && !row.earlier) return 'other-input';",
    to: "if (digest !== null && !isSame && !row.earlier) return 'other-input';",
    noticedBy: contract(STARTS),
  },
  {
    name: 'start-that-is-closed',
    file: inAdapter('start-records'),
    from: "return row.run_id === runId ? 'admitted' : 'closed';",
    to: "return runId ? 'admitted' : 'closed';",
    noticedBy: contract(CLOSED),
  },
  {
    name: 'audit-does-not-verify-signatures',
    file: inAdapter('decision-audit'),
    from: "if (!verifies(body, signature, key)) return 'is not signed by the platform';",
    to: "if (signature === '') return verifies(body, signature, key) ? undefined : 'is not signed by the platform';",
    noticedBy: [
      {
        file: 'test/adapters/postgres-earlier.test.ts',
        test: 'what was written past the decisions is named a command',
      },
    ],
  },
];
