// Fetches what tests need and the registries' packages do not hold, before any test waits for it: Temporal and the Python environment.
import { homedir } from 'node:os';
import { join } from 'node:path';
import { findTemporal } from '../deploy/local/temporal-binary.ts';
import { pythonEnvironment } from './python.ts';

const cache = process.env['OCDL_CACHE'] ?? join(homedir(), '.cache', 'ocdl');
const say = (line: string): void => void process.stderr.write(`${line}\n`);
const [temporal, python] = await Promise.all([
  findTemporal({ cache, env: process.env, onProgress: say }),
  pythonEnvironment(),
]);
say(`tests use ${temporal} and ${python}`);
