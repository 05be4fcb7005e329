// A program that makes an environment, for a test that kills it meanwhile.
import { detectSandbox } from '../../../activities/adapters/local-process/sandbox.ts';
import { createEnvironments } from '../../../deploy/local/environments.ts';

const { lock, ...options } = JSON.parse(process.argv[2] ?? '') as Record<'lock' | 'cache' | 'home' | 'index', string>;
await createEnvironments(options)({ lock, owner: 'project', sandbox: await detectSandbox() });
