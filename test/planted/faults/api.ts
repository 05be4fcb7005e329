// Planted faults in api/: access control, and the bytes that are served.
import type { PlantedFault } from '../fault.ts';

const at = (name: string) => [{ file: `test/api/${name}.test.ts` }];

export const apiFaults: readonly PlantedFault[] = [
  {
    name: 'route-where-own-is-not-asked',
    file: 'api/route.ts',
    from: '!allowed(action, roles, scope.own)',
    to: '!allowed(action, roles, true)',
    noticedBy: at('grid'),
  },
  {
    name: 'route-of-a-project-without-standing',
    file: 'api/auth.ts',
    from: 'standing: standing && roles.length > 0 ? { ...standing, roles } : undefined',
    to: 'standing: standing && { ...standing, roles }',
    noticedBy: at('grid'),
  },
  {
    name: 'unannounced-releases-for-applications',
    file: 'api/releases.ts',
    from: "if (principal.kind === 'application' && (!own || found.state !== 'announced')) return undefined;",
    to: "if (principal.kind === 'application' && !own) return undefined;",
    noticedBy: at('machines'),
  },
  {
    name: 'unannounced-releases-in-the-list',
    file: 'api/releases.ts',
    from: "const announced = principal.kind === 'application';",
    to: "const announced = principal.kind === 'job';",
    noticedBy: at('machines'),
  },
  {
    name: 'job-token-for-every-job',
    file: 'api/jobs.ts',
    from: "if (principal.kind === 'job' && found?.job !== params.job) return undefined;",
    to: "if (principal.kind === 'job' && found === null) return undefined;",
    noticedBy: at('machines'),
  },
  {
    name: 'job-output-of-any-size',
    file: 'api/jobs.ts',
    from: 'upload(output.limit)',
    to: 'upload(output.limit * 2)',
    noticedBy: at('machines'),
  },
  {
    name: 'tokens-of-others-revoked',
    file: 'api/tokens.ts',
    from: 'if (!token || (!own && !principal.admin)) throw',
    to: 'if (!token) throw',
    noticedBy: at('people'),
  },
  {
    name: 'served-file-of-another-digest',
    file: 'api/checked-bytes.ts',
    from: 'if (found !== sha256) throw',
    to: 'if (seen !== bytes) throw',
    noticedBy: at('served-bytes'),
  },
  {
    name: 'served-range-of-another-digest',
    file: 'api/checked-bytes.ts',
    from: 'if (!found.equals(expected))',
    to: 'if (found.length !== expected.length)',
    noticedBy: at('served-bytes'),
  },
  {
    name: 'test-sets-for-scientists',
    file: 'api/evaluations.ts',
    from: "if (found.kind === 'test' && !isManager)",
    to: "if (found.kind === 'test' && project === '')",
    noticedBy: at('starting'),
  },
  {
    name: 'private-tests-for-managers',
    file: 'api/evaluations.ts',
    from: 'if (found.submission === null) return asked ? { own: true, found } : undefined;',
    to: 'if (found.submission === null) return { own: asked, found };',
    noticedBy: at('starting'),
  },
  {
    name: 'wait-without-bound',
    file: 'api/commands.ts',
    from: 'Math.min(Number(seconds), WAIT_LIMIT_SECONDS)',
    to: 'Number(seconds)',
    noticedBy: at('commands'),
  },
  {
    name: 'settled-commands-are-signalled-again',
    file: 'api/commands.ts',
    from: 'if (!row.isOpen) return answerOf(row, address, wait);',
    to: '',
    noticedBy: at('repeated-commands'),
  },
  {
    name: 'foreign-runs-are-left-running',
    file: 'api/sweep.ts',
    from: 'seen?.isRunning === true && (await isForeign(start, seen))',
    to: 'seen?.isRunning === true && (await isForeign(start, seen)) && !seen.isRunning',
    noticedBy: at('sweep'),
  },
  {
    name: 'lost-signals-are-noticed-late',
    file: 'api/sweep.ts',
    from: 'const RESIGNAL_AFTER_MS = 5_000;',
    to: 'const RESIGNAL_AFTER_MS = 500_000;',
    noticedBy: at('sweep'),
  },
];
