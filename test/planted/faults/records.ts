// Planted faults in Records on PostgreSQL: where decisions are made, each in one transaction.
import type { PlantedFault } from '../fault.ts';

const inAdapter = (name: string): string => `activities/adapters/postgres/${name}.ts`;
/** A case of the contract of Records. */
const contract = (name: string) => [
  { file: 'test/adapters/postgres.test.ts', test: `PostgreSQL fulfils the contract of Records ${name}` },
];

const DELIVERIES = 'the next delivery is the oldest announced release after the application’s start';
const ENDS = 'a delivery ends with its reason: a failed gate, a given reason, gates that did not run';
const GATES = 'a release goes live only after passing every configured gate';
const LABELS = 'labels are decided in one transaction, then committed, one command after another';
const EVIDENCE = 'an approval requires an evaluation of these bytes, requested by a manager after the submission';
const COMMANDS = 'a command is recorded once; its id is taken for any other content or person';
const STARTS = 'a run is admitted only by its recorded id, type and input';
const CLOSED = 'once a start is closed, only the run that closed it may clean up, and open commands are refused';

export const recordsFaults: readonly PlantedFault[] = [
  // The `announced` filter: of the next delivery, of where an application begins, of the lists, of a release that is complete.
  {
    name: 'announced-or-not-it-is-delivered',
    file: inAdapter('deliveries'),
    from: 'where r.type = ${type} and r.announced\n      and r.sequence > coalesce(',
    to: 'where r.type = ${type}\n      and r.sequence > coalesce(',
    noticedBy: contract(DELIVERIES),
  },
  {
    name: 'announced-or-not-an-application-begins-with-it',
    file: inAdapter('releases'),
    from: 'where r.type = ${type} and r.announced\n    and not exists',
    to: 'where r.type = ${type}\n    and not exists',
    noticedBy: contract(DELIVERIES),
  },
  {
    name: 'announced-or-not-it-is-listed',
    file: inAdapter('releases'),
    from: "if (announced) query = query.where('one.announced', '=', true);",
    to: 'void announced;',
    noticedBy: contract('releases are listed by number, optionally only announced ones'),
  },
  {
    name: 'announced-or-not-its-decision-is-complete',
    file: inAdapter('version-decisions'),
    from: "if (row?.state !== 'announced')\n      throw",
    to: 'if (row === undefined)\n      throw',
    noticedBy: contract('a release is pending until it is announced, and no other decision is made in the meantime'),
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
    file: inAdapter('deliveries'),
    from: '? `gate ${failed.gate}: ${failed.detail}`',
    to: '? (ended ?? failed.gate)',
    noticedBy: contract(ENDS),
  },
  {
    name: 'delivery-detail-not-in-the-audit',
    file: inAdapter('deliveries'),
    from: 'reason: row.detail,',
    to: "reason: '',",
    noticedBy: contract(ENDS),
  },
  {
    name: 'delivery-gates-not-in-the-audit',
    file: inAdapter('deliveries'),
    from: 'detail: { release: row.release, gates: row.gates },',
    to: 'detail: { release: row.release },',
    noticedBy: contract(ENDS),
  },
  {
    name: 'delivery-attempts-are-one-in-the-audit',
    file: inAdapter('deliveries'),
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
    noticedBy: contract('the live pointer moves by compare-and-set, with its deliveries and audit rows'),
  },
  {
    name: 'pointer-moves-to-an-older-version',
    file: inAdapter('live'),
    from: '!(await isOlderVersion(trx, release, pointer.release)))',
    to: "!(await isOlderVersion(trx, release, '')))",
    noticedBy: contract('an older version of a model replaces a newer live one only by a revert'),
  },
  {
    name: 'pointer-key-stands-for-any-move',
    file: inAdapter('live'),
    from: 'if (first.application !== application || first.type !== type || first.release !== release)',
    to: 'if (first.application !== application || first.type !== type)',
    noticedBy: contract('an idempotency key gets its first answer, even after later moves'),
  },
  {
    name: 'fence-over-what-is-live',
    file: inAdapter('releases'),
    from: 'if (pointers.length > 0) return { live',
    to: 'if (pointers.length > 1) return { live',
    noticedBy: contract('a live version keeps its releases, and a withdrawn release never goes live'),
  },
  {
    name: 'failed-release-is-not-fenced',
    file: inAdapter('version-decisions'),
    from: 'await fence(trx, [release], commandId);',
    to: 'void fence;',
    noticedBy: contract(
      'a failed release is fenced unless it was announced, and the version returns to its previous state',
    ),
  },
  {
    name: 'closed-versions-take-commands',
    file: inAdapter('judging'),
    from: "if (now.closed) return { refused: 'closed', message: closedMessage(now.version) };",
    to: 'void closedMessage;',
    noticedBy: contract('the undo window of a rejection is fixed when it is made'),
  },
  {
    name: 'undo-has-no-deadline',
    file: inAdapter('judging'),
    from: 'if (Date.parse(now.undoUntil) <= Date.parse(givenAt))',
    to: 'if (Date.parse(now.undoUntil) <= 0)',
    noticedBy: contract('the undo window of a rejection is fixed when it is made'),
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
    noticedBy: contract('the first end of an evaluation wins; requester and time decide whether it is evidence'),
  },
  {
    name: 'disabled-people-decide',
    file: inAdapter('standings'),
    from: 'where member.project = project.project and not person.disabled)',
    to: 'where member.project = project.project)',
    noticedBy: contract('a person who is no longer a manager cannot decide, even if both happen concurrently'),
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
    noticedBy: contract('a command not signed by a registered key is not recorded'),
  },
  {
    name: 'command-is-decided-again',
    file: inAdapter('version-decisions'),
    from: 'if (!taken.isOpen)\n          return shownStanding(now, withdrawsReleases(taken.body.name) ? await consumersOf(trx, now) : []);',
    to: '',
    noticedBy: contract('a command is decided once: repeating it returns the current state'),
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
        test: 'rows written without a decision are reported a command',
      },
    ],
  },
];
