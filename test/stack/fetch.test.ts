// Fetching the stack's programs, with small stand-ins for Maven, and choosing its ports: results and error messages.
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { choosePorts, portNames, readPorts, type PortName, type StackPorts } from '../../deploy/stack/ports.ts';
import { cachePath, fetchJava, fetchS3, missingFor, versionOf } from '../../deploy/stack/programs.ts';
import { readStackSettings } from '../../deploy/stack/settings.ts';
import { freePort } from '../servers.ts';

let folder: string;
const lines: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ocdl-fetch-'));
  lines.length = 0;
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A PATH with only these programs, each a shell script. */
function withPrograms(scripts: Readonly<Record<string, string>>) {
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  const env = { PATH: folder };
  return { cache: join(folder, 'cache'), env, onProgress: (line: string) => void lines.push(line) };
}

const java = 'echo \'openjdk version "17.0.1"\' >&2';

test('concurrent callers get one complete folder, and no draft is left', async () => {
  const maven = 'for given; do case $given in -DoutputDirectory=*) : > "${given#*=}/a.jar";; esac; done';
  const options = withPrograms({ java, mvn: maven });
  const all = await Promise.all([
    fetchJava('kafka', options),
    fetchJava('kafka', options),
    fetchJava('kafka', options),
  ]);
  for (const { jars } of all) expect(jars).toBe(cachePath('kafka', options.cache));
  expect(readdirSync(options.cache)).toEqual([`kafka-${versionOf('kafka')}`]);
  expect(readdirSync(cachePath('kafka', options.cache))).toEqual(['a.jar']);
});

test('a failed fetch reports Maven’s output and leaves nothing that looks fetched', async () => {
  const options = withPrograms({ java, mvn: 'echo "no such artifact"; exit 1' });
  await expect(fetchJava('hdfs', options)).rejects.toThrow(/hdfs .* failed .*exit 1[^]*no such artifact/);
  expect(readdirSync(options.cache)).toEqual([]);
  expect(lines.join('\n')).toContain(`Fetching hdfs ${versionOf('hdfs')}`);
});

test('says what to install', async () => {
  const bare = withPrograms({});
  await expect(fetchJava('kafka', bare)).rejects.toThrow(
    /`java` is not on the PATH.*Java 17 or newer .*apt-get install/,
  );
  await expect(fetchS3(bare)).rejects.toThrow(/`go` is not on the PATH.*Go .*go\.dev/);
  expect([missingFor('alluxio', bare), missingFor('s3', bare)]).toEqual(['Java', 'Go']);
  const withJava = withPrograms({ java });
  await expect(fetchJava('kafka', withJava)).rejects.toThrow(/`mvn` is not on the PATH.*apt-get install maven/);
  expect(missingFor('kafka', withJava)).toBe('Maven');
  const old = withPrograms({ java: 'echo \'openjdk version "11.0.1"\' >&2', mvn: 'true' });
  await expect(fetchJava('kafka', old)).rejects.toThrow(/need Java 17 or newer .*It reports: openjdk version "11/);
});

test('pins what the modules pin', () => {
  for (const server of ['kafka', 'hdfs', 'alluxio', 's3'] as const)
    expect(versionOf(server)).toMatch(/^\d+\.\d+\.\d+$/);
  expect(existsSync('deploy/stack/s3/go.sum')).toBe(true);
});

test('a port in use is reported with its process; the replacement is kept for the next start', async () => {
  const blocker = createServer();
  const taken = await freePort();
  await new Promise<void>((resolve) => blocker.listen(taken, '127.0.0.1', resolve));
  const free = async (): Promise<Partial<StackPorts>> => {
    const ports: Partial<Record<PortName, number>> = {};
    for (const name of portNames) ports[name] = await freePort();
    return ports;
  };
  try {
    const who = new RegExp(
      `Port ${taken} for the Kafka broker is in use.*OCDL_STACK_KAFKA_PORT.*held by process ${process.pid} `,
    );
    await expect(choosePorts(folder, { ...(await free()), kafka: taken }, () => undefined)).rejects.toThrow(who);
    expect(readPorts(folder)).toBeUndefined();

    // The last port of a home is only a preference.
    writeFileSync(join(folder, 'ports.json'), JSON.stringify({ ...(await free()), kafka: taken }));
    const chosen = await choosePorts(folder, {}, (line) => void lines.push(line));
    expect(chosen.kafka).toBeGreaterThan(taken);
    expect(lines.join('\n')).toMatch(
      new RegExp(`Port ${taken} is in use; the Kafka broker .*held by process ${process.pid} `),
    );
    expect(JSON.parse(readFileSync(join(folder, 'ports.json'), 'utf8'))).toEqual(chosen);
  } finally {
    blocker.close();
  }
});

test('invalid ports are reported together', () => {
  const env = { OCDL_STACK_KAFKA_PORT: 'x', OCDL_STACK_S3_PORT: '70000', OCDL_STACK_HDFS_PORT: '' };
  expect(() => readStackSettings(env)).toThrow(/OCDL_STACK_KAFKA_PORT.*OCDL_STACK_S3_PORT/);
});
