// Planted faults in workflows/: the signals they accept and the state they show. They decide nothing.
import type { PlantedFault } from '../fault.ts';

export const workflowFaults: readonly PlantedFault[] = [
  {
    name: 'inbox-takes-any-signature',
    file: 'workflows/signature.ts',
    from: 'return ed25519.verify(fromBase64Url(command.signature), message, hexToBytes(key), { zip215: false });',
    to: 'return hexToBytes(key).length + message.length > 0 && fromBase64Url(command.signature).length === 64;',
    noticedBy: [{ file: 'test/domain/signature.test.ts' }],
  },
  {
    name: 'inbox-takes-keys-of-the-prototype',
    file: 'workflows/signature.ts',
    from: 'const key = Object.hasOwn(keys, keyId) ? keys[keyId] : undefined;\n  if (!key) return false;',
    to: 'const key = keys[keyId];\n  if (!Object.hasOwn(keys, keyId)) return keyId in keys;\n  if (!key) return false;',
    noticedBy: [{ file: 'test/domain/signature.test.ts' }],
  },
  {
    name: 'inbox-takes-commands-of-other-workflows',
    file: 'workflows/inbox.ts',
    from: "if (body.workflowId !== own) return refuse('wrong-workflow', `the command is for ${body.workflowId}`, body);",
    to: '',
    noticedBy: [{ file: 'test/workflows/hostile-signals.test.ts' }],
  },
  {
    name: 'inbox-verifies-without-bound',
    file: 'workflows/inbox.ts',
    from: 'return (task.verified += 1) <= VERIFICATIONS_PER_TASK;',
    to: 'return (task.verified += 1) > VERIFICATIONS_PER_TASK - 1e9;',
    noticedBy: [{ file: 'test/workflows/flood.test.ts' }],
  },
  {
    name: 'delivery-shows-no-details-of-its-gates',
    file: 'workflows/delivery.ts',
    from: '`**${state}** ${release} into ${application} ${detail}`, ...lines',
    to: '`**${state}** ${release} into ${application}`',
    noticedBy: [{ file: 'test/workflows/deliveries.test.ts' }],
  },
  {
    name: 'start-digest-of-any-input',
    file: 'workflows/start-digest.ts',
    from: 'own.digest = startDigest(input.args[0]);',
    to: 'own.digest ||= startDigest(undefined);',
    noticedBy: [{ file: 'test/domain/start-digest.test.ts' }],
  },
];
