// Marked systems on real servers keep the same contract: a bucket, HDFS, Kafka and a Git remote.
import { createHdfsStore } from '../../activities/adapters/hdfs.ts';
import { createKafkaBus } from '../../activities/adapters/kafka.ts';
import { isFailure } from '../../activities/failures.ts';
import { markedCode, markedStore } from '../../activities/marked-systems.ts';
import { freshName, patience } from '../contracts/cases.ts';
import { markerContract } from '../contracts/marker.ts';
import { describeWith, hdfsServer, kafkaServer, s3Server } from '../servers.ts';
import { bareClient } from './kafka-broker.ts';
import { httpsScene } from './git-https-scene.ts';
import { freshBucket } from './s3-bucket.ts';

patience.ms = 120_000;

describeWith(['s3'], 'markers in S3', () => {
  markerContract('a bucket', async () => {
    const bucket = await freshBucket(await s3Server());
    const another = async () => markedStore('releases', 'S3', await bucket.open({ prefix: 'marked' }));
    return { marked: await another(), another, close: () => bucket.close() };
  });
});

describeWith(['hdfs'], 'markers in HDFS', () => {
  markerContract('HDFS', async () => {
    const { url } = await hdfsServer();
    const root = `/${freshName('marked')}`;
    const stores = await Promise.all([1, 2].map(() => createHdfsStore({ url, user: 'ocdl', root, name: 'areas' })));
    const [one, other] = stores.map((store) => markedStore('areas', 'HDFS', store));
    if (!one || !other) throw new Error('two stores were to be opened');
    const close = async (): Promise<void> => void (await Promise.all(stores.map((store) => store.close())));
    return { marked: one, another: async () => other, close };
  });
});

describeWith(['kafka'], 'markers in Kafka', () => {
  markerContract(
    'Kafka',
    async () => {
      const brokers = [(await kafkaServer()).brokers];
      const topics = { partitions: 3, replication: 1, retentionMs: 3_600_000 };
      const open = () => createKafkaBus({ brokers, topics });
      const buses = [await open(), await open()];
      const close = async (): Promise<void> => {
        for (const bus of buses) await bus.close();
        // One cluster serves the whole test run, and belongs to one installation at a time.
        const admin = bareClient(brokers).admin();
        await admin.connect();
        await admin.deleteTopics({ topics: ['ocdl.installation'] });
        await admin.disconnect();
      };
      const [one, other] = buses.map(({ marker }) => marker);
      if (!one || !other) throw new Error('two buses were to be opened');
      return { marked: one, another: async () => other, close };
    },
    { checkpoints: false },
  );
});

describe('markers at a Git remote', () => {
  markerContract('a Git remote', async () => {
    const scene = await httpsScene();
    await scene.server.create('ocdl/installation');
    const another = async () => markedCode('the Git remote', await scene.open());
    return { marked: await another(), another, close: () => scene.close() };
  });

  it('need a repository that a person has created; without it they have no owner', async () => {
    const scene = await httpsScene();
    try {
      const marked = markedCode('the Git remote', await scene.open());
      expect([await marked.owner(), await marked.checkpoints?.newest()]).toEqual([undefined, undefined]);
      const refusal = await marked.claim('an-installation').catch((error: unknown) => error);
      expect([isFailure(refusal, 'NotFound'), String(refusal)]).toEqual([
        true,
        expect.stringContaining('ocdl/installation'),
      ]);
    } finally {
      await scene.close();
    }
  });
});
