// HDFS as two processes, a NameNode and a DataNode, on the loopback: WebHDFS, permissions and ACLs enabled, data in one folder.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildSpec } from '../local/child.ts';
import { answersHttp, javaSpec, log4jProperties, runJava, type JavaRun } from './java.ts';
import type { JavaProgram } from './programs.ts';

export type HdfsPorts = {
  /** The NameNode's RPC port, for Hadoop's own clients and Alluxio. */
  readonly rpc: number;
  /** The NameNode's HTTP port, for WebHDFS. */
  readonly http: number;
  readonly data: number;
  readonly dataHttp: number;
  readonly dataIpc: number;
};

export type HdfsOptions = {
  readonly program: JavaProgram;
  /** The folder with all data of these servers. */
  readonly folder: string;
  readonly ports: HdfsPorts;
  /** Users besides `hdfs` and `ocdl`, with their groups. With simple authentication any other user is accepted too, without groups. */
  readonly users?: Readonly<Record<string, readonly string[]>>;
};

export type Hdfs = {
  readonly nameNode: ChildSpec;
  /** Ready when HDFS accepts writes. */
  readonly dataNode: ChildSpec;
  /** Address of WebHDFS. */
  readonly url: string;
  readonly rpc: string;
  /** The folder of core-site.xml and hdfs-site.xml, for Hadoop's own clients. */
  readonly conf: string;
};

const host = '127.0.0.1';
/** The superuser is the user that starts the NameNode: this name instead of the machine's user. */
export const hdfsSuperuser = 'hdfs';
const superusers = 'supergroup';

/** Returns the processes of HDFS and its addresses. */
export function hdfs(options: HdfsOptions): Hdfs {
  const { program, folder, ports } = options;
  const conf = join(folder, 'conf');
  const [url, dataUrl] = [`http://${host}:${ports.http}`, `http://${host}:${ports.dataHttp}`];
  const run: Omit<JavaRun, 'main'> = {
    program,
    conf,
    heapMb: 512,
    properties: { 'hadoop.log.dir': folder, 'hadoop.home.dir': folder },
    env: { HADOOP_USER_NAME: hdfsSuperuser },
  };
  const nameNodeMain = 'org.apache.hadoop.hdfs.server.namenode.NameNode';
  const nameNode = javaSpec({
    ...run,
    name: 'hdfs-namenode',
    main: nameNodeMain,
    before: async () => {
      writeConfiguration(conf, options);
      // The format writes VERSION last, so a killed format is repeated.
      if (existsSync(join(folder, 'name', 'current', 'VERSION'))) return;
      const args = ['-format', '-force', '-nonInteractive'];
      await runJava(`Creating the NameNode's folder in ${folder}`, { ...run, main: nameNodeMain, args });
    },
    isReady: () => answersHttp(`${url}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState`, {}, /"FSState"/),
  });
  const dataNode = javaSpec({
    ...run,
    name: 'hdfs-datanode',
    main: 'org.apache.hadoop.hdfs.server.datanode.DataNode',
    before: () => {
      writeConfiguration(conf, options);
      return Promise.resolve();
    },
    isReady: async () =>
      // Query one attribute only: before the DataNode has registered, it logs an error for each unavailable attribute.
      (await answersHttp(
        `${dataUrl}/jmx?get=Hadoop:service=DataNode,name=DataNodeInfo::NamenodeAddresses`,
        {},
        /BP-/,
      )) && (await canBeWritten(url)),
  });
  return { nameNode, dataNode, url, rpc: `hdfs://${host}:${ports.rpc}`, conf };
}

/** Whether HDFS has left safe mode and has a live DataNode. */
async function canBeWritten(url: string): Promise<boolean> {
  const query = `${url}/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState`;
  return answersHttp(query, {}, /^(?=[^]*"FSState" : "Operational")(?=[^]*"NumLiveDataNodes" : 1)/);
}

function writeConfiguration(conf: string, options: HdfsOptions): void {
  // The servers do not start without these folders, which the jars lack; WebHDFS needs no web pages.
  for (const page of ['hdfs', 'datanode']) {
    const folder = join(conf, 'webapps', page, 'WEB-INF');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(join(folder, 'web.xml'), '<web-app xmlns="http://java.sun.com/xml/ns/javaee" version="2.5"/>\n');
  }
  writeFileSync(join(conf, 'log4j.properties'), log4jProperties);
  writeFileSync(join(conf, 'core-site.xml'), configurationXml(coreSite(options)));
  writeFileSync(join(conf, 'hdfs-site.xml'), configurationXml(hdfsSite(options)));
}

function coreSite({ folder, ports, users = {} }: HdfsOptions): Readonly<Record<string, string>> {
  const groups = { [hdfsSuperuser]: [superusers], ocdl: ['ocdl', superusers], ...users };
  return {
    'fs.defaultFS': `hdfs://${host}:${ports.rpc}`,
    'hadoop.tmp.dir': join(folder, 'tmp'),
    'hadoop.security.authentication': 'simple',
    // Users have no account on this machine; their groups come from this table.
    'hadoop.user.group.static.mapping.overrides': Object.entries(groups)
      .map(([user, list]) => `${user}=${list.join(',')}`)
      .join(';'),
    'hadoop.security.group.mapping': 'org.apache.hadoop.security.NullGroupsMapping',
    // WebHDFS requests without a user name get the user `nobody`.
    'hadoop.http.staticuser.user': 'nobody',
  };
}

function hdfsSite({ folder, ports }: HdfsOptions): Readonly<Record<string, string>> {
  return {
    'dfs.namenode.name.dir': `file://${join(folder, 'name')}`,
    'dfs.datanode.data.dir': `file://${join(folder, 'data')}`,
    'dfs.namenode.rpc-address': `${host}:${ports.rpc}`,
    'dfs.namenode.http-address': `${host}:${ports.http}`,
    'dfs.datanode.address': `${host}:${ports.data}`,
    'dfs.datanode.http.address': `${host}:${ports.dataHttp}`,
    'dfs.datanode.ipc.address': `${host}:${ports.dataIpc}`,
    'dfs.datanode.hostname': host,
    'dfs.client.use.datanode.hostname': 'true',
    'dfs.namenode.datanode.registration.ip-hostname-check': 'false',
    'dfs.replication': '1',
    'dfs.webhdfs.enabled': 'true',
    'dfs.permissions.enabled': 'true',
    'dfs.permissions.superusergroup': superusers,
    'dfs.namenode.acls.enabled': 'true',
    'dfs.namenode.xattrs.enabled': 'true',
    // Safe mode ends as soon as the only DataNode has reported its blocks.
    'dfs.namenode.safemode.extension': '0',
    'dfs.namenode.safemode.min.datanodes': '1',
    // A DataNode counts as dead after twice the recheck interval and ten heartbeats: 20 s instead of ten minutes.
    'dfs.heartbeat.interval': '1',
    'dfs.namenode.heartbeat.recheck-interval': '5000',
    // Must be less than that.
    'dfs.namenode.stale.datanode.interval': '10000',
    // One machine, few clients.
    'dfs.namenode.handler.count': '4',
    'dfs.datanode.handler.count': '4',
    // 1 MB instead of 100 MB: on a personal machine, safe mode on a nearly full disk does not help.
    'dfs.namenode.resource.du.reserved': '1048576',
    'dfs.client.block.write.replace-datanode-on-failure.enable': 'false',
  };
}

function configurationXml(properties: Readonly<Record<string, string>>): string {
  const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const lines = Object.entries(properties).map(
    ([name, value]) => `  <property><name>${name}</name><value>${escaped(value)}</value></property>`,
  );
  return ['<?xml version="1.0"?>', '<configuration>', ...lines, '</configuration>', ''].join('\n');
}
