// A program that makes an environment and is killed by a test.
import { detectSandbox } from '../../../activities/adapters/local-process/sandbox.ts';
import { createEnvironments } from '../../../activities/adapters/local-process/environments.ts';

const { lock, ...options } = JSON.parse(process.argv[2] ?? '') as Record<'lock' | 'cache' | 'home' | 'index', string>;
await createEnvironments(options)({ lock, owner: 'project', sandbox: await detectSandbox() });
