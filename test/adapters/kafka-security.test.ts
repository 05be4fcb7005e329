// The event bus on a Kafka with TLS, logins and rights: what it accepts, and how refusals are reported.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import kafkajs from 'kafkajs';
import { createKafkaBus, type KafkaBusOptions } from '../../activities/adapters/kafka.ts';
import type { EventBus } from '../../activities/ports.ts';
import { anyFreePort } from '../../deploy/local/ports.ts';
import { platformConfig, readVariables } from '../../workers/config.ts';
import { checkSystems } from '../../workers/doctor.ts';
import { CASE_TIMEOUT_MS, eventually, freshName, patience } from '../contracts/cases.ts';
import { event, listen } from '../contracts/event-bus/listener.ts';
import { describeWith } from '../servers.ts';
import { bareClient, startBroker, type OwnBroker } from './kafka-broker.ts';
import { scratchFolder } from './scratch-folder.ts';

patience.ms = 120_000;
const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;
const HOST = '127.0.0.1';
const scram = { mechanism: 'scram-sha-512', username: 'ocdl', password: 'a good "password"' } as const;
const plain = { mechanism: 'plain', username: 'other', password: 'secret' } as const;

/** An authority and the certificates it signs, as files in a folder. */
function authority(folder: string, name: string) {
  const file = (what: string): string => join(folder, `${name}-${what}`);
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });
  const fresh = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  openssl(...fresh, '-subj', `/CN=${name}`, '-keyout', file('ca.key'), '-out', file('ca.pem'));
  return {
    ca: readFileSync(file('ca.pem'), 'utf8'),
    certify: (subject: string, names: string) => {
      const [key, cert] = [file(`${subject}.key`), file(`${subject}.pem`)];
      const signed = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-addext', `subjectAltName=${names}`];
      openssl(...fresh, ...signed, '-subj', `/CN=${subject}`, '-keyout', key, '-out', cert);
      return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
    },
  };
}

describeWith(['kafka'], 'kafka with TLS, SASL and ACLs', () => {
  let broker: OwnBroker;
  let remove = async (): Promise<void> => undefined;
  let [secured, mutual, ca, otherCa, folder] = ['', '', '', '', ''];
  let client = { key: '', cert: '' };
  const buses: EventBus[] = [];
  const warnings: string[] = [];
  const open = async (options: Partial<KafkaBusOptions>) => {
    const bus = await createKafkaBus({
      brokers: [secured],
      ssl: { ca },
      onWarn: (message) => warnings.push(message),
      ...options,
    });
    buses.push(bus);
    return bus;
  };

  beforeAll(async () => {
    const scratch = await scratchFolder();
    ({ remove, path: folder } = scratch);
    const own = authority(scratch.path, 'own');
    const server = own.certify('broker', `IP:${HOST}`);
    client = own.certify('client', 'DNS:client');
    ca = own.ca;
    otherCa = authority(scratch.path, 'other').ca;
    const [keys, trusted] = [join(scratch.path, 'keys.pem'), join(scratch.path, 'trusted.pem')];
    writeFileSync(keys, `${server.key}${server.cert}`);
    writeFileSync(trusted, ca);
    const ports = [await anyFreePort(HOST), await anyFreePort(HOST)];
    [secured, mutual] = [`${HOST}:${ports[0]}`, `${HOST}:${ports[1]}`];
    broker = await startBroker({
      scram: `SCRAM-SHA-512=[name=ocdl,password=${scram.password}]`,
      // The brokers' own listener stays as it is: from it the test gives rights.
      properties: (stack) => [
        stack.replace(
          /^((?:advertised\.)?listeners=PLAINTEXT:\/\/[^,\n]+)(.*)$/gm,
          `$1,LOGIN://${secured},MUTUAL://${mutual}$2`,
        ),
        'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL',
        'sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512',
        `listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_other="${plain.password}";`,
        'listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;',
        'ssl.keystore.type=PEM',
        `ssl.keystore.location=${keys}`,
        'ssl.truststore.type=PEM',
        `ssl.truststore.location=${trusted}`,
        'listener.name.mutual.ssl.client.auth=required',
        'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        'super.users=User:ANONYMOUS;User:ocdl;User:CN=client',
      ],
    });
  }, 4 * CASE_TIMEOUT_MS);
  afterEach(async () => {
    await Promise.all(buses.splice(0).map((bus) => bus.close()));
    warnings.splice(0);
  }, CASE_TIMEOUT_MS);
  afterAll(async () => {
    await broker?.close();
    await remove();
  }, CASE_TIMEOUT_MS);

  async function passesAnEvent(bus: EventBus): Promise<void> {
    const topic = freshName('secured');
    await bus.publish(topic, 'k', event('a'));
    const { finished, stop } = await listen(bus, topic, 'group');
    await eventually('the event', () => finished.includes('a'));
    await stop();
  }

  it('passes events over TLS with SCRAM', async () => passesAnEvent(await open({ sasl: scram })), CASE_TIMEOUT_MS);

  it(
    'passes events over TLS with a client certificate, and is refused without one',
    async () => {
      await passesAnEvent(await open({ brokers: [mutual], ssl: { ca, ...client } }));
      await assert.rejects((await open({ brokers: [mutual] })).check(), /checking Kafka: .*Kafka at/);
    },
    CASE_TIMEOUT_MS,
  );

  it(
    'is configured by variables only',
    async () => {
      const [caFile, passwordFile] = [join(folder, 'variable-ca.pem'), join(folder, 'variable-password')];
      writeFileSync(caFile, ca);
      writeFileSync(passwordFile, `${scram.password}\n`);
      const { values } = readVariables({
        OCDL_KAFKA_BROKERS: secured,
        OCDL_KAFKA_TLS: 'true',
        OCDL_KAFKA_CA_FILE: caFile,
        OCDL_KAFKA_SASL_MECHANISM: scram.mechanism,
        OCDL_KAFKA_SASL_USERNAME: scram.username,
        OCDL_KAFKA_SASL_PASSWORD_FILE: passwordFile,
      });
      assert.deepEqual(await checkSystems(platformConfig(values), false), [{ name: 'Kafka', found: secured }]);
    },
    CASE_TIMEOUT_MS,
  );

  it.each<[string, () => Partial<KafkaBusOptions>, RegExp]>([
    [
      'a wrong password',
      () => ({ sasl: { ...scram, password: 'wrong' } }),
      /rejected the user "ocdl" .*check user name, password and mechanism \(scram-sha-512\)/,
    ],
    [
      'a wrong password (PLAIN)',
      () => ({ sasl: { ...plain, password: 'wrong' } }),
      /rejected the user "other" .*\(plain\)/,
    ],
    [
      'a SASL mechanism that the broker does not support',
      () => ({ sasl: { ...scram, mechanism: 'scram-sha-256' } }),
      /rejected.*mechanism/,
    ],
    [
      'a broker with a certificate of another CA',
      () => ({ sasl: scram, ssl: { ca: otherCa } }),
      /certificate of Kafka at .* is not trusted .*configured certificate authority/,
    ],
    ['a broker that the system’s CAs do not cover', () => ({ sasl: scram, ssl: true as const }), /is not trusted/],
    [
      'a broker with a certificate for another name',
      () => ({ sasl: scram, brokers: [secured.replace(HOST, 'localhost')] }),
      /is not trusted .*check the broker's address/,
    ],
  ])(
    'refuses %s, and reports it to checks, publishers and subscribers',
    async (_what, options, expected) => {
      const bus = await open(options());
      const errors: unknown[] = [];
      const handle = async (): Promise<void> => undefined;
      await bus.subscribe({ topic: 'secured', group: 'group', handle, onError: (error) => errors.push(error) });
      await assert.rejects(bus.check(), expected);
      await assert.rejects(bus.publish('secured', 'k', event('a')), expected);
      await eventually('the subscription to tell', () => errors.length > 0);
      assert.match(String(errors[0]), expected);
      for (const text of [...warnings, ...errors.map(String)]) assert.ok(!/a good|wrong$|secret/.test(text), text);
    },
    4 * CASE_TIMEOUT_MS,
  );

  it(
    'reports missing ACLs, and needs no others than those it reports',
    async () => {
      const topics = { partitions: 1, replication: 1, retentionMs: 3_600_000 };
      const bus = await open({ sasl: plain, topics });
      const topic = freshName('rights');
      const expected =
        /denies access \((TOPIC|CLUSTER)_AUTHORIZATION_FAILED\): grant the user "other" Describe, Read, Write and Create on the topic and Read on the group/;
      await assert.rejects(bus.publish(topic, 'k', event('a')), expected);
      const admin = bareClient(broker.brokers).admin();
      await admin.connect();
      const grant = (resourceType: number, resourceName: string, operation: number) => ({
        resourceType,
        resourceName,
        operation,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        permissionType: AclPermissionTypes.ALLOW,
        principal: 'User:other',
        host: '*',
      });
      const { DESCRIBE, READ, WRITE, CREATE } = AclOperationTypes;
      await admin.createAcls({
        acl: [
          ...[DESCRIBE, READ, WRITE, CREATE].map((right) => grant(AclResourceTypes.TOPIC, topic, right)),
          grant(AclResourceTypes.GROUP, `group@${topic}`, READ),
        ],
      });
      await admin.disconnect();
      await bus.publish(topic, 'k', event('b'));
      const { finished, stop } = await listen(bus, topic, 'group');
      await eventually('the event', () => finished.includes('b'));
      await stop();
      // The topic's settings are not readable: this is reported, but is not an error.
      const second = await open({ sasl: plain, topics });
      await second.publish(topic, 'k', event('c'));
      assert.ok(
        warnings.some((line) => line.includes('no permission to read it')),
        warnings.join('\n'),
      );
      // Another group is not among the rights.
      const errors: unknown[] = [];
      const handle = async (): Promise<void> => undefined;
      await second.subscribe({ topic, group: 'stranger', handle, onError: (error) => errors.push(error) });
      await eventually('the refusal', () => errors.length > 0);
      assert.match(String(errors[0]), /group stranger: .*"other" needs Read on the group/);
    },
    4 * CASE_TIMEOUT_MS,
  );
});
