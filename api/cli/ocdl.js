#!/usr/bin/env node
// The `ocdl` program: checks Node's version in words every Node understands, then runs ocdl.ts.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(
    `ocdl needs Node 20.19 or newer; this is ${process.versions.node}. Get it from your system or nodejs.org.`,
  );
  process.exit(1);
}
const { register } = await import('tsx/esm/api');
register();
const { main } = await import('./ocdl.ts');
process.exit(await main(process.argv.slice(2)));
