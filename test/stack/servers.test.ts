// The shared servers as other tests rely on them: users and groups in HDFS, Alluxio over that HDFS, nothing open to the network.
import { request } from 'node:http';
import { join } from 'node:path';
import { isLoopback, listeners, socketsOf } from '../../deploy/stack/listeners.ts';
import { readRunRecords } from '../../deploy/local/run-records.ts';
import { z } from 'zod';
import { alluxioServer, describeWith, hdfsServer, kafkaServer, s3Server } from '../servers.ts';
import { runFolder } from '../servers-stop.ts';

/** Six Java servers start on two cores while other suites run. */
const patience = 300_000;

describeWith(['kafka', 'hdfs', 'alluxio', 's3'], 'the shared servers', () => {
  const webHdfs = async (method: string, path: string, user: string, query: string): Promise<Response> => {
    const { url } = await hdfsServer();
    return await fetch(`${url}/webhdfs/v1${path}?user.name=${user}&${query}`, { method });
  };

  test(
    'HDFS knows its users and their groups',
    async () => {
      await hdfsServer();
      const team = '/servers-test-team';
      // The platform's user is a superuser and may change the owner of a folder.
      expect((await webHdfs('PUT', team, 'ocdl', 'op=MKDIRS&permission=770')).status).toBe(200);
      expect((await webHdfs('PUT', team, 'ocdl', 'op=SETOWNER&owner=alice&group=staff')).status).toBe(200);
      expect((await webHdfs('GET', team, 'bob', 'op=LISTSTATUS')).status).toBe(200);
      expect((await webHdfs('GET', team, 'carol', 'op=LISTSTATUS')).status).toBe(403);
      expect((await webHdfs('PUT', `${team}/x`, 'nobody', 'op=MKDIRS')).status).toBe(403);
    },
    patience,
  );

  test(
    'Alluxio reads what lies in that HDFS',
    async () => {
      const { url } = await alluxioServer();
      const path = '/servers-test-file';
      const made = await webHdfs('PUT', path, 'ocdl', 'op=CREATE&overwrite=true&noredirect=true');
      const { Location } = z.object({ Location: z.string() }).parse(await made.json());
      expect(await put(Location, 'from beneath')).toBe(201);
      const post = async (rest: string): Promise<Response> =>
        await fetch(`${url}/api/v1/${rest}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: '{}',
        });
      const stream = await (await post(`paths/${path}/open-file`)).text();
      expect(await (await post(`streams/${stream}/read`)).text()).toBe('from beneath');
    },
    patience,
  );

  test(
    'all listen only on the loopback',
    async () => {
      await Promise.all([kafkaServer(), s3Server(), alluxioServer()]);
      const records = readRunRecords(join(runFolder(), 'run'));
      const open = listeners();
      for (const name of [
        'kafka',
        'hdfs-namenode',
        'hdfs-datanode',
        'alluxio-master',
        'alluxio-worker',
        'alluxio-proxy',
        's3',
      ]) {
        const pid = records.find((record) => record.name === name)?.child.pid ?? 0;
        const inodes = socketsOf(pid);
        const own = open.filter(({ inode }) => inodes.has(inode));
        expect([name, own.length > 0, own.every(isLoopback)]).toEqual([name, true, true]);
      }
    },
    patience,
  );
});

/** Without fetch: a DataNode sends an unsolicited `100 Continue`, which Node's fetch treats as an error. */
function put(url: string, body: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: 'PUT' }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode));
    });
    sent.once('error', reject);
    sent.end(body);
  });
}
