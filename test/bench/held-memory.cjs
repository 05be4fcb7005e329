// Preloaded into the platform's processes by the memory benchmark: three times a minute the worker and each of its threads collect all
// garbage and write what they still hold, each into a file of its own. CommonJS, since Node.js preloads it into threads too.
const { writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { setFlagsFromString } = require('node:v8');
const { runInNewContext } = require('node:vm');
const { isMainThread, threadId } = require('node:worker_threads');

const EVERY_MS = 20_000;
/** The process's own figure is taken when its threads, which have their own heaps, have collected theirs. */
const THREADS_FIRST_MS = 5_000;
const { BENCH_HELD_MEMORY: folder } = process.env;

// Threads inherit the variable from the worker's main thread.
if (isMainThread && /workers[/\\]main\.ts$/.test(process.argv[1] ?? '')) process.env.BENCH_IN_WORKER = 'yes';
if (folder !== undefined && process.env.BENCH_IN_WORKER === 'yes') {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  const look = () => {
    collect();
    const { rss, heapUsed, external } = process.memoryUsage();
    writeFileSync(join(folder, `${threadId}.json`), JSON.stringify({ at: Date.now(), rss, held: heapUsed + external }));
  };
  const next = () => {
    const wait = EVERY_MS - (Date.now() % EVERY_MS) + (isMainThread ? THREADS_FIRST_MS : 0);
    setTimeout(() => (look(), next()), wait).unref();
  };
  next();
}
