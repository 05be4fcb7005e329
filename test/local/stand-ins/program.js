// A stand-in for one child of the platform: records how it was started and stopped; files control its behaviour.
// Usage: program.js NAME JOURNAL [PORT] (a server listens on PORT; one of our programs has an IPC channel instead)
import { appendFileSync, existsSync } from 'node:fs';
import { createServer } from 'node:net';

const [name, journal, port] = process.argv.slice(2);
const told = (what) => existsSync(`${journal}.${name}.${what}`);
const note = (what) => appendFileSync(journal, `${name} ${what} ${process.pid}\n`);

if (told('dies')) {
  console.log('cannot open my ledger');
  process.exit(3);
}
note('started');
const finish = (signal) => {
  if (told('ignores')) return;
  note(`got-${signal}`);
  process.exit(0);
};
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => finish(signal));

if (port !== undefined) {
  createServer().listen(Number(port), '127.0.0.1');
} else {
  appendFileSync(`${journal}.${name}.env`, `${JSON.stringify(process.env)}\n`);
  console.log(JSON.stringify({ level: 40, msg: `${name} warns` }));
  console.log(JSON.stringify({ level: 30, msg: `${name} chats` }));
  process.send({
    type: 'ready',
    ...(name === 'api' ? { url: process.env.OCDL_API_URL, adminToken: 'a-first-token' } : {}),
  });
}
setInterval(() => undefined, 1_000);
