// Alluxio over HDFS as three processes (master, worker, proxy) on the loopback. It is a cache, not a security boundary: it checks no signatures.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { hdfsSuperuser, type Hdfs } from './hdfs.ts';
import { answersHttp, javaSpec, log4jProperties, runJava, type JavaRun } from './java.ts';
import type { JavaProgram } from './programs.ts';

export type AlluxioPorts = {
  readonly master: number;
  readonly masterWeb: number;
  readonly worker: number;
  readonly workerWeb: number;
  /** The REST and S3 interface, which clients use. */
  readonly proxy: number;
};

export type AlluxioOptions = {
  readonly program: JavaProgram;
  /** The folder with all data of these servers. */
  readonly folder: string;
  readonly ports: AlluxioPorts;
  /** The underlying file system; it must be up before these servers start. */
  readonly hdfs: Pick<Hdfs, 'rpc' | 'conf'>;
};

export type Alluxio = {
  readonly master: ChildSpec;
  readonly worker: ChildSpec;
  readonly proxy: ChildSpec;
  /** The proxy's address: REST below /api/v1/paths, S3 below /api/v1/s3. */
  readonly url: string;
};

const host = '127.0.0.1';

/** Returns Alluxio's processes and the proxy's address. */
export function alluxio(options: AlluxioOptions): Alluxio {
  const { program, folder, ports } = options;
  const conf = join(folder, 'conf');
  const url = `http://${host}:${ports.proxy}`;
  const run: Omit<JavaRun, 'main'> = {
    program,
    conf,
    heapMb: 512,
    properties: {
      'alluxio.home': folder,
      // Not allowed in alluxio-site.properties.
      'alluxio.logs.dir': join(folder, 'logs'),
      'alluxio.site.conf.dir': `${conf}/`,
      'alluxio.logger.type': 'console',
    },
    // Otherwise HDFS sees and refuses the machine's user.
    env: { HADOOP_USER_NAME: hdfsSuperuser },
  };
  const configure = (): Promise<void> => {
    for (const path of [conf, join(folder, 'cache'), join(folder, 'logs')])
      mkdirSync(path, { recursive: true, mode: 0o700 });
    writeFileSync(join(conf, 'alluxio-site.properties'), siteProperties(options));
    writeFileSync(join(conf, 'log4j.properties'), log4jProperties);
    return Promise.resolve();
  };
  const journal = join(folder, 'journal');
  const master = javaSpec({
    ...run,
    name: 'alluxio-master',
    main: 'alluxio.master.AlluxioMaster',
    before: async () => {
      await configure();
      if (existsSync(journal) && readdirSync(journal).length > 0) return;
      const args = ['master'];
      await runJava(`Creating Alluxio's journal in ${folder}`, { ...run, main: 'alluxio.cli.Format', args });
    },
    isReady: () => answersHttp(`http://${host}:${ports.masterWeb}/api/v1/master/info`),
  });
  const worker = javaSpec({
    ...run,
    name: 'alluxio-worker',
    main: 'alluxio.worker.AlluxioWorker',
    before: configure,
    isReady: () => answersHttp(`http://${host}:${ports.workerWeb}/api/v1/worker/info`),
  });
  const proxy = javaSpec({
    ...run,
    name: 'alluxio-proxy',
    main: 'alluxio.proxy.AlluxioProxy',
    before: configure,
    isReady: () =>
      answersHttp(`${url}/api/v1/paths///get-status`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{}',
      }),
  });
  return { master, worker, proxy, url };
}

function siteProperties({ folder, ports, hdfs }: AlluxioOptions): string {
  const bindings = ['master', 'master.web', 'worker', 'worker.web', 'proxy.web'].flatMap((part) => [
    `alluxio.${part}.hostname=${host}`,
    // Without these settings every port is open to the network.
    `alluxio.${part}.bind.host=${host}`,
  ]);
  return [
    ...bindings,
    `alluxio.user.hostname=${host}`,
    `alluxio.master.rpc.port=${ports.master}`,
    `alluxio.master.web.port=${ports.masterWeb}`,
    `alluxio.worker.rpc.port=${ports.worker}`,
    `alluxio.worker.web.port=${ports.workerWeb}`,
    `alluxio.proxy.web.port=${ports.proxy}`,
    `alluxio.work.dir=${folder}`,
    `alluxio.master.mount.table.root.ufs=${hdfs.rpc}/`,
    `alluxio.underfs.hdfs.configuration=${join(hdfs.conf, 'core-site.xml')}:${join(hdfs.conf, 'hdfs-site.xml')}`,
    // The HDFS client in the jars, which also works with newer servers.
    'alluxio.underfs.version=3.3',
    // Time that the master waits for workers before it answers: 1 s instead of 5 s, since there is only one.
    'alluxio.master.worker.connect.wait.time=1sec',
    'alluxio.master.journal.type=UFS',
    `alluxio.master.journal.folder=${join(folder, 'journal')}`,
    // In memory: Alluxio can reload its metadata from HDFS.
    'alluxio.master.metastore=HEAP',
    'alluxio.web.ui.enabled=false',
    // The update check would report usage and query the cloud provider about this machine.
    'alluxio.master.update.check.enabled=false',
    'alluxio.user.metrics.collection.enabled=false',
    'alluxio.security.authentication.type=SIMPLE',
    'alluxio.security.authorization.permission.enabled=true',
    `alluxio.security.login.username=${hdfsSuperuser}`,
    `alluxio.master.security.impersonation.${hdfsSuperuser}.users=*`,
    'alluxio.security.login.impersonation.username=_HDFS_USER_',
    'alluxio.security.group.mapping.class=alluxio.security.group.provider.IdentityUserGroupsMapping',
    'alluxio.user.file.writetype.default=CACHE_THROUGH',
    'alluxio.user.file.readtype.default=CACHE',
    // Every access checks whether the file has changed in HDFS.
    'alluxio.user.file.metadata.sync.interval=0',
    'alluxio.worker.tieredstore.levels=1',
    'alluxio.worker.tieredstore.level0.alias=SSD',
    `alluxio.worker.tieredstore.level0.dirs.path=${join(folder, 'cache')}`,
    'alluxio.worker.tieredstore.level0.dirs.mediumtype=SSD',
    // 2 GB: enough as a cache for one machine.
    'alluxio.worker.tieredstore.level0.dirs.quota=2GB',
    'alluxio.worker.ramdisk.size=2GB',
    // Version 2 of the S3 interface disables REST.
    'alluxio.proxy.s3.v2.version.enabled=false',
    '',
  ].join('\n');
}
